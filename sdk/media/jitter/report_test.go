package jitter_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/sdk/media/jitter"
)

func TestReport(t *testing.T) {
	b := jitter.NewBuffer(8000)
	if _, ok := b.Report(); ok {
		t.Error("a report before the first packet")
	}
	drop := func(jitter.Packet) {}
	push := func(seqs ...int) {
		for _, seq := range seqs {
			b.Push(int64(seq)*20*ms, header(seq, 9), nil, drop)
		}
	}
	push(65530, 65531, 65532, 65533, 65535, 65536, 65538, 65537) // 65534 is lost
	want := jitter.Report{SSRC: 9, FractionLost: 256 / 9, CumulativeLost: 1, HighestSeq: 65538}
	got, _ := b.Report()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	push(65539, 65540)
	want = jitter.Report{SSRC: 9, CumulativeLost: 1, HighestSeq: 65540}
	if got, _ = b.Report(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	push(65540, 65540, 65540)
	want.CumulativeLost = -2 // RFC 3550 §6.4.1: duplicates count as received
	if got, _ = b.Report(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	push(65740)
	if got, _ = b.Report(); got.FractionLost != 254 || got.CumulativeLost != 197 {
		t.Errorf("after a burst loss: %+v", got)
	}
	b.Push(0, header(1, 10), nil, drop)
	want = jitter.Report{SSRC: 10, HighestSeq: 1}
	if got, _ = b.Report(); got != want {
		t.Errorf("new source: got %+v, want %+v", got, want)
	}
}

// TestJitterEstimate compares with RFC 3550 §6.4.1's formula in floating point.
func TestJitterEstimate(t *testing.T) {
	b := jitter.NewBuffer(8000)
	drop := func(jitter.Packet) {}
	start := int64(1 << 60) // a clock as large as they come
	var want, before float64
	for i := range 500 {
		late := float64(i * 7919 % 13) // ms, without pattern
		b.Push(start+int64(i)*20*ms+int64(late)*ms, header(i, 1), nil, drop)
		if i > 0 {
			want += (max(late-before, before-late) - want) / 16
		}
		before = late
	}
	got := float64(b.Jitter()) / float64(ms)
	if got < want-0.2 || got > want+0.2 {
		t.Errorf("jitter is %.2f ms, want %.2f", got, want)
	}
	report, _ := b.Report()
	if report.Jitter != uint32(time.Duration(b.Jitter())*8000/time.Second) {
		t.Errorf("the report says %d units, Jitter %d ns", report.Jitter, b.Jitter())
	}
}

// TestJitterOfEvents checks that telephone events, whose packets share a timestamp, add no jitter.
func TestJitterOfEvents(t *testing.T) {
	b := jitter.NewBuffer(8000)
	for i := range 300 {
		h := header(i, 1)
		if i%50 >= 40 {
			h.Timestamp, h.PayloadType = header(i/50*50+40, 1).Timestamp, 101
		}
		b.Push(int64(i)*20*ms, h, nil, func(jitter.Packet) {})
	}
	if got := b.Jitter(); got != 0 {
		t.Errorf("jitter is %d ns, want 0", got)
	}
}
