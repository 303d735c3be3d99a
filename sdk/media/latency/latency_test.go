package latency_test

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/patchbay/patchbay/sdk/media/latency"
)

func TestEmpty(t *testing.T) {
	var h latency.Histogram
	s := h.Snapshot()
	if s.Count != 0 || s.Max != 0 || s.Mean() != 0 || s.Quantile(0.5) != 0 {
		t.Errorf("empty histogram says %d, %v, %v, %v", s.Count, s.Max, s.Mean(), s.Quantile(0.5))
	}
}

func TestExtremes(t *testing.T) {
	var h latency.Histogram
	for _, d := range []time.Duration{-time.Second, 0, 1, time.Microsecond, time.Minute, time.Hour, math.MaxInt64 / 2} {
		h.Observe(d)
	}
	s := h.Snapshot()
	if s.Count != 7 || s.Max != math.MaxInt64/2 || s.Quantile(0) != 0 || s.Quantile(2) > s.Max {
		t.Errorf("got count %d, max %v, quantiles %v to %v", s.Count, s.Max, s.Quantile(0), s.Quantile(2))
	}
}

// TestQuantiles compares with the exact quantiles of any set of delays.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		delays := rapid.SliceOfN(rapid.Int64Range(0, int64(60*time.Second)), 1, 300).Draw(t, "delays")
		cut := rapid.IntRange(0, len(delays)).Draw(t, "cut")
		var first, second latency.Histogram
		var sum time.Duration
		for i, d := range delays {
			sum += time.Duration(d)
			if i < cut {
				first.Observe(time.Duration(d))
			} else {
				second.Observe(time.Duration(d))
			}
		}
		s, other := first.Snapshot(), second.Snapshot()
		s.Merge(&other)
		slices.Sort(delays)
		if s.Count != uint64(len(delays)) || s.Sum != sum || int64(s.Max) != delays[len(delays)-1] {
			t.Fatalf("count %d, sum %v, max %v of %v", s.Count, s.Sum, s.Max, delays)
		}
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
			exact := float64(delays[int(math.Ceil(q*float64(len(delays))))-1])
			if got := float64(s.Quantile(q)); math.Abs(got-exact) > exact/8+1024 {
				t.Fatalf("quantile %v is %v, want %v", q, time.Duration(got), time.Duration(exact))
			}
		}
	})
}

func TestReadersBesideTheWriter(t *testing.T) {
	const total = 20000
	var h latency.Histogram
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range total {
			h.Observe(time.Duration(i) * time.Microsecond)
		}
	})
	for range 3 {
		wg.Go(func() {
			var last uint64
			for last < total {
				s := h.Snapshot()
				if s.Count < last {
					t.Errorf("count fell from %d to %d", last, s.Count)
					return
				}
				last = s.Count
			}
		})
	}
	wg.Wait()
}

func TestNoAllocation(t *testing.T) {
	var h latency.Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(3 * time.Millisecond) }); n != 0 {
		t.Errorf("Observe allocates %v times", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h latency.Histogram
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(3 * time.Millisecond)
	}
}
