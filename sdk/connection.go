package sdk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

// admitPatience is how long an Admit waits for core (design §3).
const admitPatience = 2 * time.Second

// connection is the plugin's end of the control and media streams with core,
// and the legs that hang on it.
type connection struct {
	log     *slog.Logger
	control *ControlQueue[*pluginv1.PluginMessage]
	media   *wire.Queue
	slots   *wire.Slots[legStream]

	mu       sync.Mutex
	legs     map[string]*leg
	requests map[uint64]chan *pluginv1.CoreMessage
	nextID   uint64
	closed   bool
	placing  sync.WaitGroup // goroutines in Place
}

func newConnection(log *slog.Logger, now func() int64) *connection {
	c := &connection{
		log:      log,
		control:  NewControlQueue[*pluginv1.PluginMessage](),
		media:    wire.NewQueue(wire.DefaultLimits, now),
		slots:    wire.NewSlots[legStream](0),
		legs:     map[string]*leg{},
		requests: map[uint64]chan *pluginv1.CoreMessage{},
	}
	c.media.OnDrop(func(id wire.StreamID) {
		if s := c.slots.Lookup(id); s != nil {
			s.leg.lost.Add(1)
		}
	})
	return c
}

// tell queues a message for core. When core does not read, the control stream
// ends and with it all legs; there is nobody left to tell.
func (c *connection) tell(m *pluginv1.PluginMessage) {
	if err := c.control.Put(m); errors.Is(err, ErrHung) {
		c.log.Error("core does not read its control messages", "error", err)
	}
}

func (c *connection) forget(callID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.legs, callID)
}

func (c *connection) leg(callID string) *leg {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.legs[callID]
}

// add enters a leg; started is called with it, before the connection can be
// lost.
func (c *connection) add(l *leg, started func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrLegEnded
	}
	if c.legs[l.callID] != nil {
		return fmt.Errorf("call %s has a leg here already", l.callID)
	}
	c.legs[l.callID] = l
	started()
	return nil
}

// Admit implements Gateway.
func (c *connection) Admit(ctx context.Context, req AdmitRequest) (Admission, error) {
	answer := make(chan *pluginv1.CoreMessage, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, &Refusal{Reason: RefusedDraining, Detail: "the gateway is going away"}
	}
	c.nextID++
	id := c.nextID
	c.requests[id] = answer
	c.mu.Unlock()

	c.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Admit{Admit: &pluginv1.Admit{
		RequestId: id, Credential: req.Credential.toProto(), Number: req.Number, Bot: req.Bot,
		Account: req.Account, Mode: req.Mode, Parameters: req.Parameters, RemoteAddress: req.Remote,
	}}})
	patience := time.NewTimer(admitPatience)
	defer patience.Stop()
	select {
	case m := <-answer:
		return c.admission(m)
	case <-patience.C:
		return nil, c.abandon(id, &Refusal{Reason: RefusedBusy, RetryAfter: time.Second, Detail: "core did not answer within 2 s"})
	case <-ctx.Done():
		return nil, c.abandon(id, ctx.Err())
	}
}

// abandon gives up waiting: an answer that comes later is handed back.
func (c *connection) abandon(id uint64, why error) error {
	c.mu.Lock()
	delete(c.requests, id)
	c.mu.Unlock()
	c.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Withdrawn{Withdrawn: &pluginv1.Withdrawn{RequestId: id}}})
	return why
}

func (c *connection) admission(m *pluginv1.CoreMessage) (Admission, error) {
	if r := m.GetRefused(); r != nil {
		return nil, &Refusal{
			Reason:     RefusalReason(r.GetReason()),
			RetryAfter: time.Duration(r.GetRetryAfterMs()) * time.Millisecond,
			Detail:     r.GetDetail(),
		}
	}
	return &admission{conn: c, admitted: m.GetAdmitted()}, nil
}

// answer hands core's verdict to the one who asked; false: nobody waits.
func (c *connection) answer(id uint64, m *pluginv1.CoreMessage) bool {
	c.mu.Lock()
	ch := c.requests[id]
	delete(c.requests, id)
	c.mu.Unlock()
	if ch == nil {
		return false
	}
	ch <- m // capacity 1, one answer each
	return true
}

type admission struct {
	conn     *connection
	admitted *pluginv1.Admitted
	once     sync.Once
}

func (a *admission) CallID() string { return a.admitted.GetCallId() }

func (a *admission) Withdraw() {
	a.once.Do(a.withdraw)
}

func (a *admission) withdraw() {
	a.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Withdrawn{
		Withdrawn: &pluginv1.Withdrawn{CallId: a.CallID()},
	}})
}

func (a *admission) Offer(o Offer, frames func(*Frame)) (IngressLeg, error) {
	err := ErrLegEnded
	var l *leg
	a.once.Do(func() {
		defer func() {
			if err != nil {
				a.withdraw() // the place need not wait for its 15 s
			}
		}()
		if l, err = a.conn.newLeg(a.CallID(), a.admitted.GetStreams()); err != nil {
			return
		}
		if frames != nil {
			l.frames.Store(&frames)
		}
		if err = a.conn.add(l, func() {}); err != nil {
			l.closeSlots()
			return
		}
		a.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Offer{Offer: &pluginv1.Offer{
			CallId: l.callID, Streams: l.streamsToProto(), Caller: o.Caller,
			PlatformAccount: o.PlatformAccount, PlatformCallId: o.PlatformCallID, Parameters: o.Parameters,
		}}})
	})
	if err != nil {
		return nil, fmt.Errorf("offer leg of call %s: %w", a.CallID(), err)
	}
	return l, nil
}

// place starts an egress leg; run is Place or Resume of the provider.
func (c *connection) place(ctx context.Context, callID string, streams []*pluginv1.Stream, run func(context.Context, *leg) Ending) {
	l, err := c.newLeg(callID, streams)
	if err == nil {
		ctx, l.cancel = context.WithCancelCause(ctx)
		if err = c.add(l, func() { c.placing.Add(1) }); err != nil {
			l.cancel(err)
			l.closeSlots()
		}
	}
	if err != nil {
		c.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Ended{Ended: &pluginv1.Ended{
			CallId:      callID,
			Termination: Termination{Who: Plugin, Reason: ReasonFailed, Detail: err.Error()}.ToProto(),
		}}})
		return
	}
	go func() {
		defer c.placing.Done()
		defer l.cancel(nil)
		l.End(c.guard(ctx, l, run))
	}()
}

// guard turns a provider's panic into the end of its one call.
func (c *connection) guard(ctx context.Context, l *leg, run func(context.Context, *leg) Ending) (e Ending) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("provider panicked", "call_id", l.callID, "panic", fmt.Sprint(p))
			e = Ending{Termination: Termination{Who: Plugin, Reason: ReasonFailed, Detail: "the provider panicked"}}
		}
	}()
	return run(ctx, l)
}

// lost ends all legs because core is gone, and wakes those who ask it.
func (c *connection) lost() {
	c.mu.Lock()
	c.closed = true
	legs := make([]*leg, 0, len(c.legs))
	for _, l := range c.legs {
		legs = append(legs, l)
	}
	waiting := c.requests
	c.requests = map[uint64]chan *pluginv1.CoreMessage{}
	c.mu.Unlock()
	for _, ch := range waiting {
		ch <- &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Refused{Refused: &pluginv1.Refused{
			Reason: pluginv1.RefusedReason_REFUSED_REASON_DRAINING, Detail: "the gateway is going away",
		}}}
	}
	for _, l := range legs {
		l.hangup(Termination{Who: GatewayItself, Reason: ReasonLost, Q850: 41, Detail: "the gateway is gone"})
	}
}

// settle waits until no Place is running, or ctx ends.
func (c *connection) settle(ctx context.Context) {
	done := make(chan struct{})
	go func() { c.placing.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// open counts the legs.
func (c *connection) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.legs)
}

// dispatch handles one message from core.
func (c *connection) dispatch(ctx context.Context, p Provider, m *pluginv1.CoreMessage) {
	switch m := m.GetMessage().(type) {
	case *pluginv1.CoreMessage_Admitted:
		if !c.answer(m.Admitted.GetRequestId(), &pluginv1.CoreMessage{Message: m}) {
			c.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Withdrawn{
				Withdrawn: &pluginv1.Withdrawn{CallId: m.Admitted.GetCallId()},
			}})
		}
	case *pluginv1.CoreMessage_Refused:
		c.answer(m.Refused.GetRequestId(), &pluginv1.CoreMessage{Message: m})
	case *pluginv1.CoreMessage_Answered:
		if l := c.leg(m.Answered.GetCallId()); l != nil && !m.Answered.GetEarly() {
			l.answerOnce.Do(func() { close(l.answered) })
		}
	case *pluginv1.CoreMessage_Finish:
		if l := c.leg(m.Finish.GetCallId()); l != nil {
			l.finish(Finish{
				Result: m.Finish.GetResult(), Target: m.Finish.GetTarget(), Variables: m.Finish.GetVariables(),
				Termination: TerminationFromProto(m.Finish.GetTermination()),
			})
		}
	case *pluginv1.CoreMessage_Hangup:
		if l := c.leg(m.Hangup.GetCallId()); l != nil {
			l.hangup(TerminationFromProto(m.Hangup.GetTermination()))
		}
	case *pluginv1.CoreMessage_Place:
		c.dispatchPlace(ctx, p, m.Place)
	case *pluginv1.CoreMessage_Resume:
		c.dispatchResume(ctx, p, m.Resume)
	}
}

func (c *connection) dispatchPlace(ctx context.Context, p Provider, m *pluginv1.Place) {
	c.place(ctx, m.GetCallId(), m.GetStreams(), func(ctx context.Context, l *leg) Ending {
		eg, ok := p.(Egress)
		if !ok {
			return Ending{Termination: Termination{Who: Plugin, Reason: ReasonFailed, Detail: "this provider places no calls"}}
		}
		return eg.Place(ctx, l, Placement{
			CallID: l.callID, Destination: m.GetDestination(), Caller: m.GetCaller(),
			Headers: HeadersFromProto(m.GetHeaders()), Streams: l.streams,
		})
	})
}

func (c *connection) dispatchResume(ctx context.Context, p Provider, m *pluginv1.Resume) {
	c.place(ctx, m.GetCallId(), m.GetStreams(), func(ctx context.Context, l *leg) Ending {
		r, ok := p.(Resumer)
		if !ok {
			return Ending{Termination: Termination{Who: Plugin, Reason: ReasonLost, Detail: "this provider cannot resume a call"}}
		}
		return r.Resume(ctx, l, m.GetCheckpoint())
	})
}
