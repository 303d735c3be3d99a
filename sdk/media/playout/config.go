package playout

import (
	"fmt"
	"time"
)

// bytesPerMs is the rate of G.711: one byte is one sample of 125 µs.
const bytesPerMs = 8

// Law is the coding of the audio.
type Law uint8

// The two laws of G.711.
const (
	ULaw Law = iota
	ALaw
)

// Config says how a Buffer behaves. The zero value stands for the defaults.
type Config struct {
	// Law is the coding of the audio, which Fill and the silence test need.
	Law Law
	// Ptime is the length of a frame; default 20 ms.
	Ptime time.Duration
	// Floor, Start and Ceiling bound and begin the target, the mean delay that the
	// buffer aims at; defaults 10, 40 and 120 ms. A frame waits up to half a ptime
	// more or less than the target, as the phases of input and output will have it.
	// Ceiling is also the most audio that is ever held.
	Floor, Start, Ceiling time.Duration
}

// withDefaults fills in what is not set and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.Ptime == 0 {
		c.Ptime = 20 * time.Millisecond
	}
	if c.Floor == 0 {
		c.Floor = c.Ptime / 2
	}
	if c.Start == 0 {
		c.Start = 2 * c.Ptime
	}
	if c.Ceiling == 0 {
		c.Ceiling = 6 * c.Ptime
	}
	switch {
	case c.Law > ALaw:
		return c, fmt.Errorf("playout: law %d: use ULaw or ALaw", c.Law)
	case c.Ptime < 5*time.Millisecond || c.Ptime > 100*time.Millisecond || c.Ptime%time.Millisecond != 0:
		return c, fmt.Errorf("playout: ptime %v: use whole milliseconds, 5 to 100", c.Ptime)
	case c.Floor < c.Ptime/2 || c.Start < c.Floor || c.Ceiling < c.Start || c.Ceiling < 4*c.Ptime:
		return c, fmt.Errorf("playout: floor %v, start %v, ceiling %v: use half a ptime (%v) ≤ floor ≤ start ≤ ceiling, and a ceiling of four ptimes or more",
			c.Floor, c.Start, c.Ceiling, c.Ptime/2)
	case c.Ceiling > 2*time.Second:
		return c, fmt.Errorf("playout: ceiling %v: use at most 2s", c.Ceiling)
	}
	return c, nil
}

// samples returns the number of bytes that last so long.
func samples(d time.Duration) int64 { return int64(d/time.Millisecond) * bytesPerMs }

// Stats counts what became of the audio, in samples (bytes), and frames:
// Pushed = Played + Silence + Speech + Overflow + Preroll + Cleared + those held.
type Stats struct {
	// Pushed is the samples given to Push.
	Pushed uint64
	// Played is the samples that Pop returned in Audio frames.
	Played uint64
	// Silence and Speech are the samples removed to bring the delay down to the target.
	Silence, Speech uint64
	// Overflow is the samples dropped because the ceiling was reached.
	Overflow uint64
	// Preroll is the samples that had grown old before the first Pop.
	Preroll uint64
	// Cleared is the samples that Clear dropped.
	Cleared uint64

	// Frames is the frames popped, Fills those among them that were Fill.
	Frames, Fills uint64
	// Underruns is how often the audio ran dry while it was played.
	Underruns uint64
}
