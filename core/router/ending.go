package router

import (
	"time"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// withdraw ends a call whose leg was never offered.
func (c *Call) withdraw(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != Admitted {
		return
	}
	c.cause(sdk.Termination{Who: sdk.Platform, Reason: sdk.ReasonLost, Detail: why})
	c.record.Result = "abandoned"
	c.conclude()
}

// legEnded takes the end of a leg from its plugin.
func (c *Call) legEnded(from *host.Conn, e *pluginv1.Ended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sideOf(from)
	if s == nil || !s.placed || s.ended {
		return
	}
	s.ending = sdk.Ending{
		Termination: sdk.TerminationFromProto(e.GetTermination()), Headers: sdk.HeadersFromProto(e.GetHeaders()),
		Target: e.GetTarget(), Stats: sdk.LegStatsFromProto(e.GetStats()),
	}
	if t := c.transfer; t != nil && s == &c.egress {
		if s.ending.Target == "" {
			s.ending.Target = t.GetTarget()
		}
		s.ending.Headers = append(s.ending.Headers, sdk.HeadersFromProto(t.GetHeaders())...)
	}
	c.sideEnded(s)
}

// sideLost ends the legs of a plugin that died.
func (c *Call) sideLost(from *host.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sideOf(from)
	if s == nil || s.ended || c.state == Ended {
		return
	}
	s.ending.Termination = sdk.Termination{
		Who: sdk.Plugin, Reason: sdk.ReasonLost, Q850: 41, Detail: "plugin " + from.Spec.Instance + " died",
	}
	if c.state == Admitted {
		c.cause(s.ending.Termination)
		c.record.Result = "abandoned"
		c.conclude()
		return
	}
	c.sideEnded(s)
}

func (c *Call) sideOf(conn *host.Conn) *side {
	switch conn {
	case c.egress.conn:
		return &c.egress
	case c.ingress.conn:
		return &c.ingress
	}
	return nil
}

// sideEnded tells the other leg that s is over, or concludes the call when it
// was the last. The slots stay open until then: the control stream may overtake
// the last frames and the end record on the media stream. mu is held.
func (c *Call) sideEnded(s *side) {
	s.ended = true
	c.cause(s.ending.Termination)
	if s == &c.egress {
		c.bridge.fromIngress.over.Store(true)
		c.bridge.toEgress.Store(nil)
		if !c.ingress.ended {
			route := c.seat.Route()
			f := outcome(&route, &s.ending, c.params)
			c.finishIngress(f)
		}
	} else {
		c.bridge.fromEgress.over.Store(true)
		c.bridge.toIngress.Store(nil)
		if c.egress.placed && !c.egress.ended {
			c.hangupEgress(s.ending.Termination)
		}
	}
	if c.ingress.ended && (!c.egress.placed || c.egress.ended) {
		c.conclude()
		return
	}
	c.state = Finishing
}

// fail ends a call that core itself cannot go on with. mu is held.
func (c *Call) fail(t sdk.Termination) {
	c.cause(t)
	c.finishIngress(sdk.Finish{Result: sdk.ResultError, Termination: t})
	if c.egress.placed && !c.egress.ended {
		c.hangupEgress(t)
	}
	c.state = Finishing
}

// Hangup ends the call from outside: an operator, a limit, the end of a drain.
func (c *Call) Hangup(t sdk.Termination) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case Admitted:
		c.cause(t)
		c.record.Result = "abandoned"
		c.conclude()
	case Placing, Early, Answered:
		c.fail(t)
	case Finishing, Ended:
	}
}

// flooded: a leg's queue is full of what may not be dropped. Called by a media
// reader, which no lock of ours is held in.
func (c *Call) flooded(to string) {
	c.router.metrics.floods.Inc()
	c.Hangup(sdk.Termination{Who: sdk.Plugin, Reason: sdk.ReasonFailed, Q850: 41, Detail: "the media queue toward " + to + " is full of records that may not be dropped"})
}

// finishIngress tells the platform the result, once. mu is held.
func (c *Call) finishIngress(f sdk.Finish) {
	if c.finish != nil || c.ingress.ended {
		return
	}
	c.finish = &f
	c.record.Result, c.record.Target = f.Result, f.Target
	c.ingress.conn.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Finish{Finish: &pluginv1.Finish{
		CallId: c.id, Result: f.Result, Target: f.Target, Variables: f.Variables, Termination: f.Termination.ToProto(),
	}}})
	c.patience()
}

// hangupEgress tells the egress leg to end. mu is held.
func (c *Call) hangupEgress(t sdk.Termination) {
	c.egress.conn.Tell(&pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hangup{Hangup: &pluginv1.Hangup{
		CallId: c.id, Termination: t.ToProto(),
	}}})
	c.patience()
}

// patience bounds how long a leg that was told to end may take. mu is held.
func (c *Call) patience() {
	c.timer.Stop()
	c.timer = time.AfterFunc(finishPatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.state == Ended {
			return
		}
		c.router.log.Error("leg does not end: the call is closed without it", "call_id", c.id)
		c.conclude()
	})
}

// cause notes the first reason of the call's end. mu is held.
func (c *Call) cause(t sdk.Termination) {
	if c.termination == (sdk.Termination{}) {
		c.termination = t
	}
}

// conclude frees everything and writes the record. mu is held.
func (c *Call) conclude() {
	if c.state == Ended {
		return
	}
	c.state = Ended
	c.timer.Stop()
	c.bridge.toEgress.Store(nil)
	c.bridge.toIngress.Store(nil)
	c.ingress.conn.Slots.Close(c.ingress.stream)
	if c.egress.placed {
		c.egress.conn.Slots.Close(c.egress.stream)
	}
	c.seat.Release()
	c.router.forget(c)
	c.writeRecord()
}
