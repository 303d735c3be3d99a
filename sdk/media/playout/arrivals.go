package playout

import (
	"math"
	"time"
)

const (
	// nsPerSample is the length of one sample.
	nsPerSample = int64(time.Millisecond) / bytesPerMs

	// baseBlock: the base line is the least lateness of this time and the one before it.
	baseBlock = int64(time.Second)

	// bucketWidth and bucketCount lay out the histogram of how late frames are.
	bucketWidth = int64(time.Millisecond)
	bucketCount = 128
	// decayEvery frames the histogram and the peak lose an eighth: a memory of about 10 s.
	decayEvery = 64
	// quorum is how many frames must be seen before their jitter is believed.
	quorum = 50
	// late is the share of frames that may miss their slot, in percent: later ones
	// are stalls, not jitter.
	late = 3
	// guard is kept at least: neither end's clock ticks exactly.
	guard = int64(time.Millisecond)
)

// arrivals learns how irregular the input is.
type arrivals struct {
	frame   int64 // samples
	floor   int64 // least reserve, ns
	start   int64 // reserve taken as needed until quorum frames were seen
	ceiling int64 // largest reserve
	stall   int64 // a pause longer than this is no jitter

	last       int64 // time of the last arrival
	seen       bool
	blockStart int64
	least      int64 // least lateness of this block
	leastPrev  int64 // and of the one before

	counts   [bucketCount]uint32
	total    uint32
	frames   uint64
	peak     int64 // greatest lateness of late, up to one ptime
	peakMost int64
	quantile int64
}

func newArrivals(c Config) arrivals {
	ptime := int64(c.Ptime)
	return arrivals{
		frame:    samples(c.Ptime),
		floor:    max(int64(c.Floor)-ptime/2, guard),
		start:    int64(c.Start) - ptime/2,
		ceiling:  int64(c.Ceiling) - 2*ptime,
		stall:    int64(c.Ceiling) + ptime,
		peakMost: ptime,
	}
}

// base returns the base line: the lateness of audio that met no delay.
func (a *arrivals) base() int64 { return min(a.least, a.leastPrev) }

// arrived notes that n samples came at now and stand at the position in the stream.
func (a *arrivals) arrived(now, position, n int64) {
	if !a.seen || now-a.last > a.stall {
		// The stream begins, or goes on after a pause. If it was a stall, the burst
		// that follows it brings the base line back down at once.
		a.seen = true
		a.blockStart, a.least, a.leastPrev = now, math.MaxInt64, math.MaxInt64
	}
	if now-a.blockStart >= baseBlock {
		a.blockStart, a.least, a.leastPrev = now, math.MaxInt64, a.least
	}
	a.last = now
	// The end of each frame in the payload has its own lateness; the first is the latest.
	for end := min(position+a.frame, position+n); ; end = min(end+a.frame, position+n) {
		a.observe(now - end*nsPerSample)
		if end == position+n {
			return
		}
	}
}

// observe counts the lateness of one frame.
func (a *arrivals) observe(lateness int64) {
	a.least = min(a.least, lateness)
	over := lateness - a.base()
	a.peak = max(a.peak, min(over, a.peakMost))
	a.counts[min(over/bucketWidth, bucketCount-1)] += 8
	a.total += 8
	a.frames++
	if a.frames%decayEvery == 0 {
		a.decay()
	}
	if a.frames%8 == 0 {
		a.quantile = a.find()
	}
}

func (a *arrivals) decay() {
	a.peak -= a.peak / 8
	a.total = 0
	for i := range a.counts {
		a.counts[i] -= (a.counts[i] + 7) / 8
		a.total += a.counts[i]
	}
}

// find returns the lateness that all but the late frames stay under.
func (a *arrivals) find() int64 {
	left := uint64(a.total) * late / 100
	for i := bucketCount - 1; i >= 0; i-- {
		if uint64(a.counts[i]) > left {
			return int64(i+1) * bucketWidth
		}
		left -= uint64(a.counts[i])
	}
	return 0
}

// reserve returns the lead to begin with: what the arrivals so far have shown to be needed.
func (a *arrivals) reserve() int64 {
	return min(max(a.quantile, a.peak+guard, a.floor), max(a.ceiling, a.floor))
}

// learned returns the reserve above which the lead may be brought down: not yet
// below the start while little has been seen.
func (a *arrivals) learned() int64 {
	if a.frames < quorum {
		return max(a.reserve(), a.start)
	}
	return a.reserve()
}
