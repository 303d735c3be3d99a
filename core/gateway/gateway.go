// Package gateway puts the parts of core together: it starts them in order,
// reloads and drains them, and stops them in the opposite order.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/patchbay/patchbay/core/admin"
	"github.com/patchbay/patchbay/core/admission"
	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/core/router"
	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// goodbye bounds how long legs and plugins may take to end at the stop: a
// platform's drain of 2 s and grace of 5 s fit in.
const goodbye = 10 * time.Second

// Options make a Gateway.
type Options struct {
	Config *config.Config
	// Reread loads the configuration again, for a reload.
	Reread func() (*config.Config, error)
	Log    *slog.Logger
	Level  *slog.LevelVar
}

// Gateway is a running node.
type Gateway struct {
	log    *slog.Logger
	level  *slog.LevelVar
	reread func() (*config.Config, error)
	clock  engine.Clock

	gate    *admission.Gate
	router  *router.Router
	records *records.Writer
	plugins map[string]*host.Plugin
	admin   net.Listener

	mu  sync.Mutex // guards cfg and reloads
	cfg *config.Config

	draining chan struct{}
	drain    sync.Once
	stop     context.CancelFunc
	parts    sync.WaitGroup
}

// Start brings everything up; calls are taken when it returns. On an error
// nothing is left running.
func Start(ctx context.Context, o Options) (*Gateway, error) {
	cfg := o.Config
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g := &Gateway{
		log: o.Log, level: o.Level, reread: o.Reread, clock: engine.NewClock(), cfg: cfg,
		gate: admission.NewGate(cfg), plugins: map[string]*host.Plugin{}, draining: make(chan struct{}),
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w: choose another address, or stop what uses it", err)
	}
	g.admin = listener
	if g.records, err = records.Open(cfg.Records.Path, int64(cfg.Records.Rotate), g.log); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	g.router = router.New(router.Options{
		Node: cfg.Node.Name, Desk: desk{g.gate}, Limits: limits(cfg), Records: g.records.Add,
		Log: g.log, Metrics: router.NewMetrics(reg),
	})
	if err = g.startPlugins(ctx); err != nil {
		g.stopPlugins()
		return nil, errors.Join(err, g.records.Close(), listener.Close())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.registerMetrics(reg)
	g.parts.Go(func() { g.router.Watch(life) })
	g.serveAdmin(life, reg)
	return g, nil
}

func limits(cfg *config.Config) router.Limits {
	return router.Limits{MaxCallDuration: cfg.Limits.MaxCallDuration, SilenceTimeout: cfg.Limits.SilenceTimeout}
}

func (g *Gateway) serveAdmin(ctx context.Context, reg *prometheus.Registry) {
	missed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "patchbay", Name: "plugin_scrapes_missed_total", Help: "Scrapes that a plugin did not answer.",
	}, []string{"plugin"})
	reg.MustRegister(missed)
	var names []string
	if host, _, err := net.SplitHostPort(g.cfg.Admin.Listen); err == nil {
		names = append(names, host)
	}
	if u, err := url.Parse(g.cfg.Node.PublicURL); err == nil {
		names = append(names, u.Hostname())
	}
	//nolint:contextcheck // a scrape has no context: prometheus.Gatherer takes none
	handler := admin.Handler(admin.Options{
		Gateway: g, Token: g.cfg.Admin.Token.Reveal(), Hosts: append(names, g.cfg.Node.Name), Log: g.log,
		Gatherer: admin.Gatherer(reg, g.sources, func(instance string) { missed.WithLabelValues(instance).Inc() }),
	})
	tls := g.cfg.Admin.TLS
	g.parts.Go(func() {
		if err := admin.Serve(ctx, g.admin, handler, tls.CertFile, tls.KeyFile); err != nil {
			g.log.Error("admin endpoint is gone", "error", err)
		}
	})
}

func (g *Gateway) sources() []admin.Source {
	out := make([]admin.Source, 0, len(g.plugins))
	for _, name := range slices.Sorted(maps.Keys(g.plugins)) {
		out = append(out, admin.Source{Instance: name, Metrics: g.plugins[name].Metrics})
	}
	return out
}

// AdminAddr is where the admin endpoint listens.
func (g *Gateway) AdminAddr() string { return g.admin.Addr().String() }

// NotReady implements admin.Gateway.
func (g *Gateway) NotReady() []string {
	var why []string
	if g.gate.Draining() {
		why = append(why, "draining")
	}
	for _, s := range g.Plugins() {
		if s.State != host.Running {
			why = append(why, fmt.Sprintf("plugin %s is %s", s.Instance, s.State))
		}
	}
	return why
}

// Calls implements admin.Gateway.
func (g *Gateway) Calls() []router.Info { return g.router.Calls() }

// Call implements admin.Gateway.
func (g *Gateway) Call(id string) (router.Info, bool) { return g.router.Call(id) }

// HangupCall implements admin.Gateway.
func (g *Gateway) HangupCall(id string) bool {
	return g.router.Hangup(id, sdk.Termination{Who: sdk.GatewayItself, Reason: sdk.ReasonHangup, Q850: 16, Detail: "hung up by the operator"})
}

// Plugins implements admin.Gateway.
func (g *Gateway) Plugins() []host.Status {
	out := make([]host.Status, 0, len(g.plugins))
	for _, name := range slices.Sorted(maps.Keys(g.plugins)) {
		out = append(out, g.plugins[name].Status())
	}
	return out
}

// BeginDrain implements admin.Gateway: no new calls from now on.
func (g *Gateway) BeginDrain() {
	g.drain.Do(func() {
		g.gate.Drain()
		g.log.Info("draining", "calls", g.router.InUse())
		close(g.draining)
	})
}

// Draining is closed when a drain has begun.
func (g *Gateway) Draining() <-chan struct{} { return g.draining }

// Reload implements admin.Gateway. A bad file changes nothing.
func (g *Gateway) Reload(ctx context.Context) (needsRestart []string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next, err := g.reread()
	if err != nil {
		return nil, fmt.Errorf("the configuration stays as it was: %w", err)
	}
	needsRestart = config.Changes(g.cfg, next)
	for name, p := range g.plugins {
		if _, stays := next.Plugins[name]; !stays || next.Plugins[name].Config.Equal(g.cfg.Plugins[name].Config) {
			continue
		}
		spec, err := Spec(next, name, g.level.Level())
		if err != nil {
			return nil, fmt.Errorf("the configuration stays as it was: %w", err)
		}
		restart, err := p.Reconfigure(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("plugin %s keeps its configuration: %w", name, Explain(next, err))
		}
		if !restart { // the plugin has taken it
			key := "plugins." + name + ".config"
			needsRestart = slices.DeleteFunc(needsRestart, func(k string) bool { return k == key })
		}
	}
	g.gate.Update(next)
	g.router.SetLimits(limits(next))
	if err := g.level.UnmarshalText([]byte(next.Log.Level)); err != nil {
		g.log.Warn("log.level stays as it was", "error", err)
	}
	g.cfg = next
	g.log.Info("configuration reloaded", "needs_restart", needsRestart)
	return needsRestart, nil
}

// Run waits for a drain to begin and for the calls to end, at most
// limits.drain_timeout or until hurry ends, and stops everything.
func (g *Gateway) Run(hurry context.Context) {
	<-g.draining
	g.eachPlugin(func(p *host.Plugin) {
		ctx, cancel := context.WithTimeout(hurry, 2*time.Second)
		defer cancel()
		if err := p.Drain(ctx); err != nil {
			g.log.Warn("plugin does not drain", "error", err)
		}
	})
	g.mu.Lock()
	patience := g.cfg.Limits.DrainTimeout
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(hurry, patience)
	defer cancel()
	if err := g.router.Wait(ctx); err != nil {
		g.log.Warn("ending the calls that are left", "calls", g.router.InUse())
		g.router.HangupAll(sdk.Termination{Who: sdk.GatewayItself, Reason: sdk.ReasonHangup, Q850: 38, SIP: 503, Detail: "the gateway shuts down"})
	}
	g.Stop() //nolint:contextcheck // the goodbye has a time of its own, whatever hurried us here
}

// Stop ends what is left and returns when every goroutine and process has.
func (g *Gateway) Stop() {
	g.gate.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if g.router.Wait(ctx) != nil {
		g.log.Error("calls did not end in time", "calls", g.router.InUse())
	}
	g.stopPlugins()
	g.stop()
	g.parts.Wait()
	if err := g.records.Close(); err != nil {
		g.log.Error("close call records", "error", err)
	}
	g.log.Info("stopped")
}

func (g *Gateway) stopPlugins() {
	g.eachPlugin(func(p *host.Plugin) {
		ctx, cancel := context.WithTimeout(context.Background(), goodbye/2)
		defer cancel()
		p.Stop(ctx)
	})
}
