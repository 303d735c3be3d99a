// Package router joins ingress legs to egress legs. It holds the calls and
// their state, and tells plugins what to do; media takes the short way through
// bridge.go.
package router

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// Limits bound a running call.
type Limits struct {
	MaxCallDuration time.Duration
	SilenceTimeout  time.Duration
}

// Options make a Router.
type Options struct {
	Node    string
	Desk    Desk
	Limits  Limits
	Records func(*records.Record) // takes each finished call's record; must not block
	Log     *slog.Logger
	Metrics *Metrics
}

// Router is the heart of core: it implements host.Handler.
type Router struct {
	node    string
	desk    Desk
	sink    func(*records.Record)
	log     *slog.Logger
	metrics *Metrics

	mu       sync.Mutex
	limits   Limits
	plugins  map[string]*host.Conn
	calls    map[string]*Call
	requests map[requestKey]*Call // admitted, the plugin may not know the call id yet
	empty    chan struct{}        // closed and replaced when the last call ends
}

// requestKey names an Admit until its call has an Offer.
type requestKey struct {
	conn *host.Conn
	id   uint64
}

// New makes a router.
func New(o Options) *Router {
	return &Router{
		node: o.Node, desk: o.Desk, sink: o.Records, log: o.Log, metrics: o.Metrics, limits: o.Limits,
		plugins: map[string]*host.Conn{}, calls: map[string]*Call{}, requests: map[requestKey]*Call{},
		empty: make(chan struct{}),
	}
}

// SetLimits changes the limits of a reload; they hold for running calls too.
func (r *Router) SetLimits(l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits = l
}

func (r *Router) newID() string {
	id, err := uuid.NewV7()
	if err != nil { // only where the system has no randomness left
		panic("router: " + err.Error())
	}
	return id.String()
}

// PluginUp implements host.Handler.
func (r *Router) PluginUp(c *host.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plugins[c.Spec.Instance] = c
}

// PluginDown implements host.Handler: all legs of c are lost.
func (r *Router) PluginDown(c *host.Conn) {
	r.mu.Lock()
	if r.plugins[c.Spec.Instance] == c {
		delete(r.plugins, c.Spec.Instance)
	}
	calls := slices.Collect(maps.Values(r.calls))
	r.mu.Unlock()
	for _, call := range calls {
		call.sideLost(c)
	}
}

func (r *Router) plugin(instance string) *host.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plugins[instance]
}

// PluginSays implements host.Handler: one control message of a plugin.
func (r *Router) PluginSays(c *host.Conn, m *pluginv1.PluginMessage) {
	switch m := m.GetMessage().(type) {
	case *pluginv1.PluginMessage_Admit:
		r.admit(c, m.Admit)
	case *pluginv1.PluginMessage_Withdrawn:
		r.withdrawn(c, m.Withdrawn)
	case *pluginv1.PluginMessage_Offer:
		r.withCall(c, m.Offer.GetCallId(), func(call *Call) { call.offer(m.Offer) })
	case *pluginv1.PluginMessage_Progress:
		r.withCall(c, m.Progress.GetCallId(), func(call *Call) { call.progress(m.Progress) })
	case *pluginv1.PluginMessage_Answered:
		r.withCall(c, m.Answered.GetCallId(), func(call *Call) { call.answer(m.Answered) })
	case *pluginv1.PluginMessage_Transfer:
		r.withCall(c, m.Transfer.GetCallId(), func(call *Call) { call.noteTransfer(m.Transfer) })
	case *pluginv1.PluginMessage_Checkpoint:
		r.withCall(c, m.Checkpoint.GetCallId(), func(call *Call) { call.keep(m.Checkpoint.GetOpaque()) })
	case *pluginv1.PluginMessage_Hold:
		r.withCall(c, m.Hold.GetCallId(), func(call *Call) { call.hold(c, true) })
	case *pluginv1.PluginMessage_Resumed:
		r.withCall(c, m.Resumed.GetCallId(), func(call *Call) { call.hold(c, false) })
	case *pluginv1.PluginMessage_Ended:
		r.withCall(c, m.Ended.GetCallId(), func(call *Call) { call.legEnded(c, m.Ended) })
	case *pluginv1.PluginMessage_Event:
		r.withCall(c, m.Event.GetCallId(), func(call *Call) { r.event(c, call, m.Event) })
	default: // a newer plugin's; unknown kinds are ignored
		r.metrics.unknownMessages.Inc()
	}
}

// withCall runs fn for a call that c has a part in; a plugin cannot touch
// another's calls.
func (r *Router) withCall(c *host.Conn, id string, fn func(*Call)) {
	r.mu.Lock()
	call := r.calls[id]
	r.mu.Unlock()
	if call == nil || !call.has(c) {
		r.metrics.strayMessages.Inc()
		return
	}
	fn(call)
}

func (r *Router) event(c *host.Conn, call *Call, e *pluginv1.Event) {
	leg := "egress"
	if c.Kind == pluginv1.Kind_KIND_INGRESS {
		leg = "ingress"
	}
	call.event(leg, time.Unix(0, e.GetAt()), e.GetOutbound(), e.GetText())
}

// admit answers a request to come in.
func (r *Router) admit(c *host.Conn, req *pluginv1.Admit) {
	seat, refused := r.desk.Admit(time.Now(), c.Spec.Instance, req)
	if refused == nil {
		call, err := r.newCall(c, seat, req)
		if err == nil {
			r.admitted(c, call, req)
			return
		}
		seat.Release()
		refused = &pluginv1.Refused{Reason: pluginv1.RefusedReason_REFUSED_REASON_BUSY, RetryAfterMs: 1000, Detail: err.Error()}
	}
	refused.RequestId = req.GetRequestId()
	r.metrics.refused(refused.GetReason())
	r.log.Warn("call refused", "plugin", c.Spec.Instance, "reason", sdk.RefusalReason(refused.GetReason()).String(),
		"detail", refused.GetDetail(), "remote", req.GetRemoteAddress(), "number", clean(req.GetNumber()))
	c.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Refused{Refused: refused}})
}

func (r *Router) admitted(c *host.Conn, call *Call, req *pluginv1.Admit) {
	r.mu.Lock()
	r.calls[call.id] = call
	r.requests[requestKey{c, req.GetRequestId()}] = call
	r.mu.Unlock()
	r.metrics.admitted.Inc()
	stream := sdk.PCMU8k()
	c.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Admitted{Admitted: &pluginv1.Admitted{
		RequestId: req.GetRequestId(), CallId: call.id,
		Streams: []*pluginv1.Stream{stream.ToProto(uint32(call.ingress.stream))},
	}}})
	call.log("call admitted", "app", call.seat.App(), "plugin", c.Spec.Instance, "remote", req.GetRemoteAddress())
}

// withdrawn gives a seat back: by the call's id, or by the request's where the
// plugin has not seen the answer.
func (r *Router) withdrawn(c *host.Conn, w *pluginv1.Withdrawn) {
	r.mu.Lock()
	call := r.calls[w.GetCallId()]
	if w.GetCallId() == "" {
		call = r.requests[requestKey{c, w.GetRequestId()}]
	}
	r.mu.Unlock()
	if call != nil && call.has(c) {
		call.withdraw("the platform went away before the call began")
	}
}

// forget takes a call off the books.
func (r *Router) forget(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.calls, c.id)
	delete(r.requests, requestKey{c.ingress.conn, c.request.GetRequestId()})
	if len(r.calls) == 0 {
		close(r.empty)
		r.empty = make(chan struct{})
	}
}

// Wait returns when no call is left, or ctx ends.
func (r *Router) Wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		n, empty := len(r.calls), r.empty
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// HangupAll ends every call.
func (r *Router) HangupAll(t sdk.Termination) {
	for _, c := range r.all() {
		c.Hangup(t)
	}
}

// Hangup ends one call; false: there is none of that id.
func (r *Router) Hangup(id string, t sdk.Termination) bool {
	r.mu.Lock()
	c := r.calls[id]
	r.mu.Unlock()
	if c == nil {
		return false
	}
	c.Hangup(t)
	return true
}

func (r *Router) all() []*Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.calls))
}

// InUse counts the calls.
func (r *Router) InUse() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// configValues are the parameters as a template's values.
func configValues(params map[string]string) config.Values { return config.Values{Parameters: params} }
