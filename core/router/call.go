package router

import (
	"strings"
	"sync"
	"time"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

// State is where a call stands. A call only ever moves down this list.
type State string

// The states of a call.
const (
	Admitted  State = "admitted"  // a seat is reserved, the leg is not offered yet
	Placing   State = "placing"   // the egress leg is being placed
	Early     State = "early"     // media flows before the answer
	Answered  State = "answered"  // both legs are up
	Finishing State = "finishing" // one leg has ended, the other is being told
	Ended     State = "ended"     // the record is written
)

const (
	// offerPatience is how long a seat is held without Offer (design §3).
	offerPatience = 15 * time.Second
	// finishPatience is how long a leg may take to end when told to: a SIP
	// transaction runs out after 32 s, a platform's drain and grace before.
	finishPatience = 40 * time.Second
	maxEvents      = 400
)

// side is one leg of a call as core holds it.
type side struct {
	conn    *host.Conn
	stream  wire.StreamID
	placed  bool // the plugin has (had) a leg
	ended   bool
	held    bool // the peer holds: silence is no fault
	ending  sdk.Ending
	silence silence
}

// silence notes when a side's sound was last seen to have moved on.
type silence struct {
	frames uint64
	since  time.Time
}

// Call is one conversation: an ingress leg joined to an egress leg.
//
// Its fields are guarded by mu, but for the bridge, which the media readers
// use without it. Lock order: Call.mu, then Router.mu, then the queues'.
type Call struct {
	id     string
	router *Router
	seat   Seat
	bridge bridge

	mu          sync.Mutex
	state       State
	ingress     side
	egress      side
	request     *pluginv1.Admit
	params      map[string]string
	termination sdk.Termination // the first cause
	finish      *sdk.Finish     // what the platform is told
	timer       *time.Timer
	record      records.Record
	transfer    *pluginv1.Transfer
	checkpoint  []byte
}

// newCall takes an admitted request. The caller holds no lock.
func (r *Router) newCall(c *host.Conn, seat Seat, req *pluginv1.Admit) (*Call, error) {
	call := &Call{id: r.newID(), router: r, seat: seat, state: Admitted, request: req, params: req.GetParameters()}
	call.ingress = side{conn: c}
	call.bridge.flooded = call.flooded
	call.record = records.Record{
		CallID: call.id, Node: r.node, Ingress: c.Spec.Instance, App: seat.App(), Number: req.GetNumber(),
		Bot: req.GetBot(), Account: req.GetAccount(), Admitted: time.Now().UTC(), Events: []records.Event{},
	}
	id, err := c.Slots.Open(&host.Port{Forward: call.bridge.ingressToEgress, Dropped: call.bridge.fromEgress.lost})
	if err != nil {
		return nil, err
	}
	call.ingress.stream = id
	call.timer = time.AfterFunc(offerPatience, func() { call.withdraw("no offer within 15 s") })
	return call, nil
}

// offer takes the ingress leg and places the egress leg.
func (c *Call) offer(o *pluginv1.Offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != Admitted {
		return
	}
	c.timer.Stop()
	now := time.Now().UTC()
	c.record.Offered, c.record.PlatformCallID = &now, o.GetPlatformCallId()
	c.record.Caller = caller(o.GetCaller())
	c.state = Placing
	c.ingress.placed = true
	c.ingress.silence.since = now
	c.params = merge(o.GetParameters(), c.request.GetParameters())
	if err := c.seat.PlatformAccount(o.GetPlatformAccount()); err != nil {
		c.fail(sdk.Termination{Who: sdk.Platform, Reason: sdk.ReasonFailed, Q850: 21, Detail: err.Error()})
		return
	}
	c.place()
}

// place asks the route's egress plugin for the other leg. mu is held.
func (c *Call) place() {
	route := c.seat.Route()
	c.record.Egress = route.To
	conn := c.router.plugin(route.To)
	if conn == nil {
		c.fail(sdk.Termination{Who: sdk.Plugin, Reason: sdk.ReasonFailed, Q850: 38, Detail: "plugin " + route.To + " is down"})
		return
	}
	id, err := conn.Slots.Open(&host.Port{Forward: c.bridge.egressToIngress, Dropped: c.bridge.fromIngress.lost})
	if err != nil {
		c.fail(sdk.Termination{Who: sdk.GatewayItself, Reason: sdk.ReasonFailed, Q850: 34, Detail: err.Error()})
		return
	}
	c.egress = side{conn: conn, stream: id, placed: true}
	c.egress.silence.since = time.Now()
	c.bridge.toIngress.Store(&destination{c.ingress.conn, c.ingress.stream})
	stream := sdk.PCMU8k()
	conn.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Place{Place: &pluginv1.Place{
		CallId: c.id, Destination: c.request.GetNumber(), Caller: c.record.Caller,
		Headers: c.headers(), Streams: []*pluginv1.Stream{stream.ToProto(uint32(id))},
	}}})
	c.log("placing call", "egress", route.To, "number", c.request.GetNumber())
}

// headers renders the route's headers; one with a control character is left
// out and counted (design §5 step 2).
func (c *Call) headers() []*pluginv1.Header {
	route := c.seat.Route()
	var out []*pluginv1.Header
	for _, name := range sortedKeys(route.Headers) {
		v, err := route.Headers[name].Render(configValues(c.params))
		if err == nil && v == "" {
			continue
		}
		if err != nil || strings.ContainsFunc(v, isControl) {
			c.router.metrics.headersLeftOut.Inc()
			c.log("header left out: its value holds a control character or is too long", "header", name)
			continue
		}
		out = append(out, &pluginv1.Header{Name: name, Value: v})
	}
	return out
}

// progress notes that the far side is being reached; early media may flow.
func (c *Call) progress(p *pluginv1.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == Placing && p.GetEarlyMedia() {
		c.state = Early
		c.open()
		c.tellAnswered(true)
	}
}

// answer joins the legs.
func (c *Call) answer(a *pluginv1.Answered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != Placing && c.state != Early {
		return
	}
	c.state = Answered
	now := time.Now().UTC()
	c.record.Answered = &now
	c.open()
	c.tellAnswered(false)
	c.log("answered", "headers", len(a.GetHeaders()))
}

// open lets the caller's media flow. mu is held.
func (c *Call) open() {
	c.bridge.toEgress.Store(&destination{c.egress.conn, c.egress.stream})
	now := time.Now()
	c.ingress.silence.since, c.egress.silence.since = now, now
}

func (c *Call) tellAnswered(early bool) {
	stream := sdk.PCMU8k()
	c.ingress.conn.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Answered{Answered: &pluginv1.LegAnswered{
		CallId: c.id, Early: early, Streams: []*pluginv1.Stream{stream.ToProto(uint32(c.ingress.stream))},
	}}})
}

// hold notes that a side's peer holds, or is back, and tells the other side.
func (c *Call) hold(from *host.Conn, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, other := &c.ingress, &c.egress
	if from == c.egress.conn {
		s, other = other, s
	}
	s.held = on
	s.silence.since = time.Now()
	if !other.placed || other.ended {
		return
	}
	m := &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Resumed{Resumed: &pluginv1.Resumed{CallId: c.id}}}
	if on {
		m = &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hold{Hold: &pluginv1.Hold{CallId: c.id}}}
	}
	other.conn.Tell(m)
}

// event adds a line to the ladder.
func (c *Call) event(leg string, at time.Time, outbound bool, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addEvent(leg, at, outbound, text)
}

func (c *Call) addEvent(leg string, at time.Time, outbound bool, text string) {
	if len(c.record.Events) >= maxEvents {
		c.record.EventsLost++
		return
	}
	c.record.Events = append(c.record.Events, records.Event{At: at.UTC(), Leg: leg, Outbound: outbound, Text: clean(text)})
}

func (c *Call) log(msg string, args ...any) {
	c.router.log.Info(msg, append([]any{"call_id", c.id}, args...)...) //nolint:sloglint // msg is constant at each caller
}
