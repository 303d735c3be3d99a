// Package host starts provider plugins as child processes, keeps them running,
// and holds the streams that join them to the router. It knows the plugin
// contract (sdk/proto) and no provider.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// State is where a plugin stands.
type State string

// The states of a plugin.
const (
	Starting    State = "starting"
	Running     State = "running"
	BackingOff  State = "backing_off" // died, will be started again
	Quarantined State = "quarantined" // died too often; an operator must look
	Stopped     State = "stopped"
)

const (
	firstBackOff = 50 * time.Millisecond
	maxBackOff   = 10 * time.Second
	// A plugin that dies crashLimit times within crashWindow is quarantined
	// (design §6).
	crashLimit  = 5
	crashWindow = 10 * time.Minute
)

// Handler is the router, as a plugin's life concerns it.
type Handler interface {
	// PluginUp says that c carries calls from now on.
	PluginUp(c *Conn)
	// PluginDown says that c is dead; all its legs are.
	PluginDown(c *Conn)
	// PluginSays hands over one control message; calls for one Conn are in
	// order and never concurrent. It must not block.
	PluginSays(c *Conn, m *pluginv1.PluginMessage)
}

// Plugin is one instance of the operator's file and the process it has at the
// moment.
type Plugin struct {
	Instance string

	log     *slog.Logger
	handler Handler
	now     func() int64
	lines   atomic.Uint64

	spec atomic.Pointer[Spec]
	conn atomic.Pointer[Conn]
	desc atomic.Pointer[pluginv1.DescribeResponse]

	mu       sync.Mutex
	state    State
	lastErr  string
	restarts int
	crashes  []time.Time

	stopping atomic.Bool // its streams' end is no crash
	stop     context.CancelFunc
	done     chan struct{}
}

// Status is a plugin as the operator sees it.
type Status struct {
	Instance     string      `json:"instance"`
	Name         string      `json:"name"`
	Version      string      `json:"version"`
	Kind         string      `json:"kind"`
	State        State       `json:"state"`
	PID          int         `json:"pid,omitempty"`
	Restarts     int         `json:"restarts"`
	LastError    string      `json:"last_error,omitempty"`
	UpSince      *time.Time  `json:"up_since,omitempty"`
	Addresses    []Address   `json:"addresses"`
	Capabilities []string    `json:"capabilities"`
	Media        *MediaStats `json:"-"`
}

// Address is what a plugin listens on.
type Address struct {
	Purpose string `json:"purpose"`
	Address string `json:"address"`
}

// Start starts the plugin and waits for its first life to carry calls, or to
// fail. From then on it is kept running until Stop.
func Start(ctx context.Context, spec Spec, h Handler, now func() int64, log *slog.Logger) (*Plugin, error) {
	p := &Plugin{Instance: spec.Instance, log: log.With("plugin", spec.Instance), handler: h, now: now, state: Starting}
	p.spec.Store(&spec)
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop, p.done = stop, make(chan struct{})
	c, err := p.launch(life, ctx)
	if err != nil {
		stop()
		close(p.done)
		p.set(Stopped, err)
		return p, err
	}
	p.up(c)
	go p.supervise(life, c)
	return p, nil
}

// launch brings up one life. wait bounds the attempt, life the streams.
func (p *Plugin) launch(life, wait context.Context) (*Conn, error) {
	spec := *p.spec.Load()
	proc, err := StartProcess(wait, spec, p.log, func() { p.lines.Add(1) })
	if err != nil {
		return nil, err
	}
	p.desc.Store(proc.Description)
	if _, err = proc.Configure(wait, spec.Config); err != nil {
		proc.Kill()
		return nil, err
	}
	c, err := dial(life, proc, p.now, p.log)
	if err != nil {
		proc.Kill()
		return nil, err
	}
	return c, nil
}

// supervise serves one life after the other. It owns the plugin's goroutines.
func (p *Plugin) supervise(ctx context.Context, c *Conn) {
	defer close(p.done)
	for {
		if c != nil {
			p.serve(ctx, c)
		}
		if ctx.Err() != nil || p.stopping.Load() {
			p.set(Stopped, nil)
			return
		}
		wait, quarantine := p.crashed(time.Now())
		if quarantine {
			p.set(Quarantined, nil)
			p.log.Error("plugin is quarantined: it died 5 times in 10 minutes; see its log lines above, then restart the gateway")
			<-ctx.Done()
			p.set(Stopped, nil)
			return
		}
		select {
		case <-ctx.Done():
			p.set(Stopped, nil)
			return
		case <-time.After(wait):
		}
		var err error
		p.count()
		if c, err = p.launch(ctx, ctx); err != nil && ctx.Err() == nil {
			p.set(BackingOff, err)
			p.log.Error("plugin does not start", "error", err)
		}
		if err == nil {
			p.up(c)
		}
	}
}

// up makes c the plugin's present life.
func (p *Plugin) up(c *Conn) {
	p.conn.Store(c)
	p.set(Running, nil)
	p.log.Info("plugin is up", "pid", c.PID, "version", c.Description.GetVersion(), "listeners", len(c.Listeners))
	p.handler.PluginUp(c)
}

// serve runs c until it dies or is stopped.
func (p *Plugin) serve(ctx context.Context, c *Conn) {
	err := c.run(ctx, func(m *pluginv1.PluginMessage) { p.handler.PluginSays(c, m) })
	p.conn.Store(nil)
	p.handler.PluginDown(c)
	c.Kill()
	if ctx.Err() == nil && !p.stopping.Load() {
		p.set(BackingOff, fmt.Errorf("plugin died: %w", err))
		p.log.Error("plugin died", "pid", c.PID, "error", err)
	}
}

// crashed notes a death and says how long to wait, or that it was one too many.
func (p *Plugin) crashed(now time.Time) (wait time.Duration, quarantine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	recent := p.crashes[:0]
	for _, t := range p.crashes {
		if now.Sub(t) < crashWindow {
			recent = append(recent, t)
		}
	}
	p.crashes = append(recent, now)
	n := len(p.crashes)
	if n >= crashLimit {
		return 0, true
	}
	wait = min(firstBackOff<<(2*(n-1)), maxBackOff)
	return wait/2 + rand.N(wait/2+1), false //nolint:gosec // jitter, no secret
}

func (p *Plugin) count() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restarts++
}

func (p *Plugin) set(s State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	if err != nil {
		p.lastErr = err.Error()
	} else if s == Running {
		p.lastErr = ""
	}
}

// Conn is the plugin's present life; nil while it has none.
func (p *Plugin) Conn() *Conn { return p.conn.Load() }

// Kind says which side of a call the plugin serves.
func (p *Plugin) Kind() pluginv1.Kind { return p.desc.Load().GetKind() }

// Reconfigure hands a running plugin its new block. restart says that the
// plugin keeps its old values until it is restarted.
func (p *Plugin) Reconfigure(ctx context.Context, spec Spec) (restart bool, err error) {
	c := p.Conn()
	if c == nil {
		p.spec.Store(&spec)
		return false, nil
	}
	if restart, err = c.Configure(ctx, spec.Config); err == nil {
		p.spec.Store(&spec) // a later life starts with the new values
	}
	return restart, err
}

// Drain asks the plugin to refuse new work.
func (p *Plugin) Drain(ctx context.Context) error {
	c := p.Conn()
	if c == nil {
		return nil
	}
	if _, err := c.Provider.Drain(ctx, &pluginv1.DrainRequest{}); err != nil {
		return fmt.Errorf("drain plugin %s: %w", p.Instance, err)
	}
	return nil
}

// ErrDown says that a plugin has no process at the moment.
var ErrDown = errors.New("plugin is down")

// Metrics asks the plugin for its figures.
func (p *Plugin) Metrics(ctx context.Context) ([]*pluginv1.MetricFamily, error) {
	c := p.Conn()
	if c == nil {
		return nil, ErrDown
	}
	out, err := c.Provider.Metrics(ctx, &pluginv1.MetricsRequest{})
	if err != nil {
		return nil, fmt.Errorf("metrics of plugin %s: %w", p.Instance, err)
	}
	return out.GetFamilies(), nil
}

// Stop ends the plugin's legs politely and its process; it returns when all
// its goroutines have.
func (p *Plugin) Stop(ctx context.Context) {
	p.stopping.Store(true)
	if c := p.Conn(); c != nil {
		c.control.Close(errStopped)
		select {
		case <-c.down:
		case <-ctx.Done():
		}
	}
	p.stop()
	<-p.done
}

var errStopped = errors.New("core stops the plugin")

// Status describes the plugin for the operator.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	s := Status{Instance: p.Instance, State: p.state, Restarts: p.restarts, LastError: p.lastErr}
	p.mu.Unlock()
	if d := p.desc.Load(); d != nil {
		s.Name, s.Version, s.Capabilities = d.GetName(), d.GetVersion(), d.GetCapabilities()
		s.Kind = map[pluginv1.Kind]string{pluginv1.Kind_KIND_INGRESS: "ingress", pluginv1.Kind_KIND_EGRESS: "egress"}[d.GetKind()]
	}
	s.Addresses = []Address{}
	if c := p.Conn(); c != nil {
		s.PID, s.UpSince = c.PID, &c.Since
		m := c.MediaStats()
		s.Media = &m
		for _, l := range c.Listeners {
			s.Addresses = append(s.Addresses, Address{l.GetPurpose(), l.GetAddress()})
		}
	}
	return s
}
