// Package latency measures delays on the audio path: a histogram of fixed size
// that one goroutine feeds and any number read, without locks or allocation.
// The latency ledger keeps one per hop and direction of a call.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// unitBits makes the unit of the buckets 1.024 µs; what is shorter shares bucket 0.
	unitBits = 10
	// subBits splits each octave in 8, so that a bucket is at most 12.5 % wide.
	subBits = 3
	// octaves above the linear part: up to 2^26 units, 69 s.
	octaves = 23
	buckets = (octaves + 1) << subBits
)

// Histogram counts delays in log-linear buckets from 1 µs to 69 s; it takes 0.8
// kB. The zero value is ready. Observe may be called by one goroutine at a time,
// Snapshot by any number beside it. It must not be copied.
type Histogram struct {
	counts [buckets]atomic.Uint32
	max    atomic.Int64
	sum    atomic.Int64
}

// Observe counts one delay. A negative one, which a step of the clock can
// cause, counts as zero.
func (h *Histogram) Observe(delay time.Duration) {
	delay = max(delay, 0)
	h.counts[bucketOf(delay)].Add(1)
	h.sum.Add(int64(delay))
	if int64(delay) > h.max.Load() {
		h.max.Store(int64(delay)) // one writer: nobody raised it in between
	}
}

// Snapshot returns the counts so far. What is observed meanwhile may be in it or not.
func (h *Histogram) Snapshot() Snapshot {
	var s Snapshot
	for i := range h.counts {
		n := h.counts[i].Load()
		s.counts[i] = uint64(n)
		s.Count += uint64(n)
	}
	s.Max = time.Duration(h.max.Load())
	s.Sum = time.Duration(h.sum.Load())
	return s
}

// Snapshot is a histogram at one moment, or several merged. It is a plain value.
type Snapshot struct {
	// Count is the number of delays.
	Count uint64
	// Sum is all delays together.
	Sum time.Duration
	// Max is the longest delay, exactly.
	Max time.Duration

	counts [buckets]uint64
}

// Merge adds the delays of another snapshot to s.
func (s *Snapshot) Merge(other *Snapshot) {
	for i, n := range other.counts {
		s.counts[i] += n
	}
	s.Count += other.Count
	s.Sum += other.Sum
	s.Max = max(s.Max, other.Max)
}

// Mean returns the average delay, or 0 when there is none.
func (s *Snapshot) Mean() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return s.Sum / time.Duration(s.Count)
}

// Quantile returns the delay that the share q (0 to 1) of the delays does not
// exceed, to within 12.5 %, interpolated inside its bucket and never above Max.
// Without delays it is 0.
func (s *Snapshot) Quantile(q float64) time.Duration {
	if s.Count == 0 {
		return 0
	}
	rank := min(max(q, 0), 1) * float64(s.Count)
	var below float64
	for i, n := range s.counts {
		count := float64(n)
		if n > 0 && below+count >= rank {
			low, high := float64(lowerEdge(i)), float64(lowerEdge(i+1))
			return min(time.Duration(low+(high-low)*(rank-below)/count), s.Max)
		}
		below += count
	}
	return s.Max
}

// bucketOf returns the bucket of a delay that is not negative: linear below 2^subBits
// units, then 2^subBits buckets per octave.
func bucketOf(delay time.Duration) int {
	units := uint64(delay) >> unitBits
	octave := max(bits.Len64(units)-subBits-1, 0)
	if octave >= octaves {
		return buckets - 1
	}
	// The leading one of units>>octave carries into the octave's number.
	return octave<<subBits + int(units>>octave) // below 2^(subBits+1)
}

// lowerEdge returns the shortest delay of a bucket.
func lowerEdge(bucket int) time.Duration {
	octave := max(bucket>>subBits-1, 0)
	units := int64(bucket - octave<<subBits)
	return time.Duration(units << (octave + unitBits))
}
