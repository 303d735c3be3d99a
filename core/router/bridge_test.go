package router

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/wire"
)

// Before the other side can take media it is counted, not kept.
func TestBridgeBeforeAnswer(t *testing.T) {
	var b bridge
	b.ingressToEgress(&wire.Record{Payload: make([]byte, 160)}, 1)
	b.ingressToEgress(&wire.Record{Flags: wire.FlagEnd}, 1)
	b.egressToIngress(&wire.Record{Kind: wire.KindDTMF, Payload: []byte("1\x00\x00")}, 1)
	if b.fromIngress.audio.Load() != 1 || b.fromIngress.early.Load() != 1 {
		t.Errorf("from ingress: %d frames, %d early", b.fromIngress.audio.Load(), b.fromIngress.early.Load())
	}
	if b.fromEgress.audio.Load() != 0 || b.fromEgress.early.Load() != 0 {
		t.Errorf("from egress: %d frames, %d early", b.fromEgress.audio.Load(), b.fromEgress.early.Load())
	}
	b.fromIngress.over.Store(true)
	b.ingressToEgress(&wire.Record{Payload: make([]byte, 160)}, 1)
	if b.fromIngress.early.Load() != 1 || b.fromIngress.after.Load() != 1 {
		t.Errorf("after the end: %d early, %d after", b.fromIngress.early.Load(), b.fromIngress.after.Load())
	}
	r := &wire.Record{Payload: make([]byte, 160)}
	if n := testing.AllocsPerRun(100, func() { b.ingressToEgress(r, 1) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestLedger(t *testing.T) {
	var l ledger
	now := int64(10 * time.Second)
	l.observe(0, now)     // unknown
	l.observe(now+1, now) // a lie
	l.observe(-5, now)
	if s := l.summary(); s.Count != 0 {
		t.Errorf("%d delays of none", s.Count)
	}
	for range 100 {
		l.observe(now-int64(2*time.Millisecond), now)
	}
	l.observe(now-int64(50*time.Millisecond), now)
	s := l.summary()
	if s.Count != 101 || s.P50 < 1.5 || s.P50 > 2.5 || s.Max < 49 || s.Max > 51 || s.P99 < s.P50 || s.P99 > s.Max {
		t.Errorf("summary %+v", s)
	}
}

func TestSilent(t *testing.T) {
	var f flow
	start := time.Unix(1000, 0)
	s := side{silence: silence{since: start}}
	if s.silent(&f, start.Add(30*time.Second), 30*time.Second) {
		t.Error("silent at the limit")
	}
	if !s.silent(&f, start.Add(30*time.Second+1), 30*time.Second) {
		t.Error("not silent beyond the limit")
	}
	f.audio.Add(1)
	if s.silent(&f, start.Add(time.Minute), 30*time.Second) {
		t.Error("silent with a frame just come")
	}
	if !s.silent(&f, start.Add(91*time.Second), 30*time.Second) {
		t.Error("not silent 31 s after the last frame")
	}
}

func TestOverdue(t *testing.T) {
	offered := time.Unix(1000, 0)
	limits := Limits{MaxCallDuration: time.Hour, SilenceTimeout: 30 * time.Second}
	for _, tc := range []struct {
		name  string
		state State
		after time.Duration
		held  bool
		who   sdk.Who // WhoUnknown: not overdue
	}{
		{"admitted", Admitted, 2 * time.Hour, false, sdk.WhoUnknown},
		{"ringing long", Placing, time.Minute, false, sdk.WhoUnknown},
		{"ringing too long", Placing, 2 * time.Hour, false, sdk.GatewayItself},
		{"answered, silent", Answered, time.Minute, false, sdk.Platform},
		{"answered, held", Answered, time.Minute, true, sdk.WhoUnknown},
		{"held too long", Answered, 2 * time.Hour, true, sdk.GatewayItself},
		{"ending", Finishing, 2 * time.Hour, false, sdk.WhoUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Call{state: tc.state}
			c.ingress.silence.since, c.egress.silence.since, c.egress.held = offered, offered, tc.held
			if tc.state != Admitted {
				c.record.Offered = &offered
			}
			got, over := c.overdue(offered.Add(tc.after), limits)
			if over != (tc.who != sdk.WhoUnknown) || got.Who != tc.who {
				t.Errorf("overdue %v: %v", over, got)
			}
		})
	}
}

// Metrics of core read as Prometheus' guide wants them.
func TestMetricNames(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	m.refusals.WithLabelValues("busy").Inc()
	m.results.WithLabelValues("ok", "bot", "hangup").Inc()
	m.frames.WithLabelValues("to_egress").Inc()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
