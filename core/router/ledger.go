package router

import (
	"time"

	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/media/latency"
)

// ledger is core's page of the latency ledger: how long frames took from the
// first socket read to here.
type ledger struct{ delays latency.Histogram }

// observe notes one frame. An origin of 0 is unknown, one in the future a lie.
func (l *ledger) observe(origin, now int64) {
	if origin > 0 && origin <= now {
		l.delays.Observe(time.Duration(now - origin))
	}
}

func (l *ledger) summary() records.Delay {
	s := l.delays.Snapshot()
	return records.Delay{P50: ms(s.Quantile(0.5)), P99: ms(s.Quantile(0.99)), Max: ms(s.Max), Count: s.Count}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// writeRecord fills the record in and hands it on. mu is held.
func (c *Call) writeRecord() {
	r := &c.record
	r.Ended = time.Now().UTC()
	if r.Answered != nil {
		r.TalkMS = r.Ended.Sub(*r.Answered).Milliseconds()
	}
	t := c.termination
	r.Who, r.Reason, r.Q850, r.SIP, r.Detail = t.Who.String(), t.Reason.String(), t.Q850, t.SIP, clean(t.Detail)
	if r.Result == "" {
		r.Result = "none" // the caller left first: there was nobody to tell
	}
	r.ToEgress = c.direction(&c.bridge.fromIngress, &c.ingress.ending.Stats, &c.egress.ending.Stats)
	r.ToIngress = c.direction(&c.bridge.fromEgress, &c.egress.ending.Stats, &c.ingress.ending.Stats)
	c.router.metrics.ended(r)
	c.router.sink(r)
	c.log("call ended", "result", r.Result, "target", r.Target, "who", r.Who, "reason", r.Reason,
		"q850", r.Q850, "sip", r.SIP, "detail", r.Detail, "talk_ms", r.TalkMS)
}

// direction puts the figures of both legs and of core together.
func (c *Call) direction(f *flow, from, to *sdk.LegStats) records.Direction {
	d := records.Direction{
		Frames: f.audio.Load(), Lost: from.Lost, Late: from.Late, Duplicates: from.Duplicates,
		Reordered: from.Reordered, Fills: to.Fills, JitterMS: from.JitterMS, RoundTripMS: from.RoundTripMS,
		DelayToCore: f.ledger.summary(),
		DelayToLeave: records.Delay{
			P50: to.DelayOut.P50MS, P99: to.DelayOut.P99MS, Max: to.DelayOut.MaxMS, Count: to.DelayOut.Count,
		},
	}
	d.Drops = map[string]uint64{}
	for reason, n := range map[string]uint64{
		"before_answer": f.early.Load(), "after_end": f.after.Load(), "core_queue": f.queue.Load(),
	} {
		if n > 0 {
			d.Drops[reason] = n
		}
	}
	for reason, n := range from.Drops {
		d.Drops["from_"+reason] += n
	}
	for reason, n := range to.DropsOut {
		d.Drops["to_"+reason] += n
	}
	return d
}
