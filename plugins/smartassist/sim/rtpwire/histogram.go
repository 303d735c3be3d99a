package rtpwire

import "time"

const (
	// bucket is the width of one bucket; quantiles are exact to it.
	bucket  = 100 * time.Microsecond
	buckets = 2000
)

// histogram counts durations in buckets of 0.1 ms up to 200 ms; longer ones share the last bucket.
type histogram struct {
	counts [buckets]uint32
	total  uint64
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.counts[min(max(0, d/bucket), buckets-1)]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the upper edge of the bucket that holds the q-th part, in milliseconds; 0 when empty.
func (h *histogram) quantile(q float64) float64 {
	need := uint64(q*float64(h.total) + 0.5)
	var sum uint64
	for i, n := range h.counts {
		if sum += uint64(n); sum >= max(1, need) {
			return min(ms(time.Duration(i+1)*bucket), ms(h.max))
		}
	}
	return 0
}

func (h *histogram) longest() float64 { return ms(h.max) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
