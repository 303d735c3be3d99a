package engine

import "time"

// Clock reads a monotonic clock that all processes of a host share: on Linux CLOCK_MONOTONIC, in nanoseconds since
// boot without the time spent asleep. Elsewhere it starts from the wall clock of its making, so stamps of different
// processes agree as well as that clock allows. The zero Clock is not usable.
type Clock struct {
	base  int64
	start time.Time
}

// NewClock ties a Clock to the host's.
func NewClock() Clock {
	// The Go runtime reads the same clock through the vDSO, at a fifth of a system call's cost, but shows differences
	// only; one reading of the absolute time makes up for that. The tightest of a few readings is the base.
	best := Clock{}
	tightest := time.Duration(1<<63 - 1)
	for range 8 {
		before := time.Now()
		base := monotonic()
		width := time.Since(before)
		if width < tightest {
			tightest = width
			best = Clock{base: base - int64(width)/2, start: before}
		}
	}
	return best
}

// Now is the current time in nanoseconds.
func (c Clock) Now() int64 { return c.base + int64(time.Since(c.start)) }
