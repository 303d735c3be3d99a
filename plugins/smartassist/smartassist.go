package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// errNotOpen is a call before Open or after Close.
var errNotOpen = errors.New("the provider is not open")

// provider is the plugin as the SDK sees it.
type provider struct {
	log      *slog.Logger
	draining atomic.Bool

	mu      sync.Mutex
	config  *config  // for new calls
	running *runtime // between Open and Close
}

// runtime is what Open makes and Close ends.
type runtime struct {
	stack  *stack
	engine engine.Engine
	pool   *portPool
	health *health
	totals totals

	ctx   context.Context // ends when Close begins
	end   context.CancelFunc
	calls sync.WaitGroup
}

// newProvider logs to log, or to slog's default, which Serve sets, when it is nil.
func newProvider(log *slog.Logger) *provider { return &provider{log: log} }

func (p *provider) logger() *slog.Logger {
	if p.log != nil {
		return p.log
	}
	return slog.Default()
}

// Describe implements sdk.Provider.
func (p *provider) Describe() sdk.Description {
	return sdk.Description{
		Name: "smartassist", Version: version(), ConfigSchema: configSchema,
		Capabilities: []string{"dtmf", "hold", "transfer", "early-media"},
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// Configure implements sdk.Provider.
func (p *provider) Configure(_ context.Context, raw json.RawMessage) error {
	next, err := parseConfig(raw)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		if !p.config.sameSockets(&next) {
			return fmt.Errorf("sockets, ports or certificates changed: %w", sdk.ErrRestartNeeded)
		}
		for _, t := range next.targets {
			if p.running.stack.agentFor(&next, t) == nil {
				return fmt.Errorf("a new tls target was added: %w", sdk.ErrRestartNeeded)
			}
		}
	}
	p.config = &next
	return nil
}

// Open implements sdk.Egress.
func (p *provider) Open(ctx context.Context) ([]sdk.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config == nil {
		return nil, errors.New("open before configure")
	}
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return nil, fmt.Errorf("open the i/o engine: %w", err)
	}
	//nolint:contextcheck // requests of peers outlive Open's context
	s, err := openStack(ctx, p.config, p.logger(), func(s *stack, r *sip.Request, tx *sip.ServerTx) {
		s.answerRequest(r, tx, p.draining.Load())
	})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	run := &runtime{
		stack: s, engine: e, health: newHealth(),
		pool: newPortPool(s.udp.Addr(), p.config.minPort, p.config.maxPort),
	}
	run.ctx, run.end = context.WithCancel(context.WithoutCancel(ctx))
	p.running = run
	listeners := []sdk.Listener{{Purpose: "sip-udp", Address: s.udp.String()}, {Purpose: "sip-tcp", Address: s.tcp.String()}}
	if s.tlsAddr.IsValid() {
		listeners = append(listeners, sdk.Listener{Purpose: "sip-tls", Address: s.tlsAddr.String()})
	}
	return listeners, nil
}

// Close implements sdk.Egress.
func (p *provider) Close(ctx context.Context) error {
	p.draining.Store(true)
	p.mu.Lock()
	run := p.running
	p.running = nil
	p.mu.Unlock()
	if run == nil {
		return nil
	}
	run.end()
	run.calls.Wait() // each ends at once; what is left to do on the wire is the stack's
	run.stack.settled(ctx)
	return errors.Join(run.stack.close(), run.engine.Close())
}

// Drain implements sdk.Drainer: OPTIONS is answered 503 from now on.
//
//nolint:unparam // the interface wants an error
func (p *provider) Drain(context.Context) error {
	p.draining.Store(true)
	return nil
}

// Place implements sdk.Egress.
func (p *provider) Place(ctx context.Context, leg sdk.EgressLeg, to sdk.Placement) sdk.Ending {
	log := p.logger().With("call_id", to.CallID)
	p.mu.Lock()
	run, c := p.running, p.config
	if run != nil {
		run.calls.Add(1)
	}
	p.mu.Unlock()
	if run == nil {
		return failed(errNotOpen)
	}
	defer run.calls.Done()
	if err := usablePlacement(to); err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(run.ctx, func() { cancel(nil) })() //nolint:contextcheck // Close ends calls beside their own context
	s, err := openSession(ctx, run.engine, run.pool, leg, c, log)
	if err != nil {
		return failed(err)
	}
	leg.OnFrame(s.fromCore)
	run.totals.begin(s)
	e := (&call{run: run, config: c, leg: leg, to: to, log: log, session: s}).place(ctx)
	s.close()
	e.Stats = s.stats()
	run.totals.finish(s, e)
	log.Info("leg ended", "termination", e.String(), "frames_in", e.Stats.FramesIn, "frames_out", e.Stats.FramesOut)
	return e
}

// failed is a call that never reached a target.
func failed(err error) sdk.Ending {
	return sdk.Ending{Termination: sdk.Termination{
		Who: sdk.Plugin, Reason: sdk.ReasonFailed, Q850: 34, Detail: err.Error(), // no circuit available
	}}
}

// usablePlacement checks what goes into a request line: core has made it canonical, and a mistake there must not
// become a request of somebody else's making.
func usablePlacement(to sdk.Placement) error {
	if !isNumber(to.Destination) {
		return fmt.Errorf("destination %.32q is not a number", to.Destination)
	}
	if to.Caller != "" && !isNumber(to.Caller) {
		return fmt.Errorf("caller %.32q is not a number", to.Caller)
	}
	if len(to.Streams) != 1 {
		return fmt.Errorf("%d streams: only two-way bot calls of one stream are built", len(to.Streams))
	}
	if s := to.Streams[0]; s.Codec != "PCMU" || s.ClockRate != clockRate || s.Ptime != ptime {
		return fmt.Errorf("stream %s/%d of %s: only PCMU/8000 of 20ms is built", s.Codec, s.ClockRate, s.Ptime)
	}
	return nil
}

func isNumber(s string) bool {
	digits := s
	if s != "" && s[0] == '+' {
		digits = s[1:]
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(digits) >= 1 && len(digits) <= 15
}
