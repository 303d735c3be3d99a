package main

import (
	"fmt"
	"time"

	"github.com/patchbay/patchbay/configs/harness"
)

const frame = 20 * time.Millisecond

// wrong lists everything that is not as it should be.
func (p *performance) wrong() []string {
	p.judgeOutcome()
	p.judgeSound()
	for _, v := range p.caller.Violations {
		p.fault("the gateway broke Talkdesk's protocol: %s: %s", v.Rule, v.Detail)
	}
	for _, v := range p.bot.Violations {
		p.fault("the gateway broke SIP or RTP: %s", v)
	}
	return p.faults
}

func (p *performance) judgeOutcome() {
	const want = "escalate → " + queue
	if p.caller.Outcome != want {
		p.fault("Talkdesk was told %q, expected %q", p.caller.Outcome, want)
	}
	if r := &p.record; r.Result != "escalate" || r.Target != queue || r.Who != "bot" {
		p.fault("the call record says %s → %s, ended by the %s; expected %s, ended by the bot", r.Result, r.Target, r.Who, want)
	}
	if len(p.bot.Calls) != 1 {
		p.fault("the bot got %d calls, expected 1", len(p.bot.Calls))
		return
	}
	c := &p.bot.Calls[0]
	if !c.Answered || !c.Acked {
		p.fault("the bot's answer was not acknowledged")
	}
	if c.Digits != digits {
		p.fault("the caller pressed %s, the bot got %q", digits, c.Digits)
	}
	for _, v := range c.Violations {
		p.fault("the gateway broke SIP or RTP: %s", v)
	}
}

// judgeSound demands every frame that was sent after the answer, as it was sent and in order.
func (p *performance) judgeSound() {
	// The caller speaks from the first moment on, so what is said before the answer is not heard. One frame may be
	// under way, and the gateway may still hold what is not older than its playout buffer wants.
	before := 2
	if r := &p.record; r.Offered != nil && r.Answered != nil {
		before += int(r.Answered.Sub(*r.Offered) / frame)
	}
	// The bot's first packet can overtake its 200 OK; the record counts what came before the answer was known.
	const overtaking = 2
	early := min(overtaking, int(p.record.ToIngress.Drops["from_rtp_not_open"]))
	for _, way := range []struct {
		who, whom string
		front     int // frames that may be missing in front
		result    harness.Result
	}{{"caller", "bot", before, p.toBot}, {"bot", "caller", early, p.toCaller}} {
		r := way.result
		switch {
		case !r.Intact():
			p.fault("what the %s said did not reach the %s whole: %v", way.who, way.whom, r)
		case r.MissingEnd > 0:
			p.fault("the %s did not hear the %s's last %d frames", way.whom, way.who, r.MissingEnd)
		case r.MissingFront > way.front:
			p.fault("the %s did not hear the %s's first %v, at most %v were said before the answer",
				way.whom, way.who, time.Duration(r.MissingFront)*frame, time.Duration(way.front)*frame)
		}
	}
}

// stalled reports whether some program was not run for so long that sound had to be lost: the simulated caller was late
// itself, or frames took longer to core, or to their sending, than the playout buffer holds.
func (p *performance) stalled() bool {
	const ceiling = 120 // ms
	r := &p.record
	return max(p.caller.SendLateMS, r.ToEgress.DelayToCore.Max, r.ToIngress.DelayToCore.Max,
		r.ToEgress.DelayToLeave.Max, r.ToIngress.DelayToLeave.Max) > ceiling
}

// drops writes what was dropped, for people.
func drops(m map[string]uint64) string {
	if len(m) == 0 {
		return "none"
	}
	return fmt.Sprint(m)[len("map"):]
}
