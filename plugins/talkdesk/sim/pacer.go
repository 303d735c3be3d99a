package sim

import (
	"math/rand/v2"
	"time"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// pacer says when the caller's frames leave and what is in them. Times are counted from the start of the call; each frame's
// due time is absolute, n times the ptime, so that lateness never adds up.
type pacer struct {
	ptime   time.Duration
	play    []byte
	loop    bool
	jitter  time.Duration
	stalls  []Stall
	random  *rand.Rand
	next    int           // index of the next frame, from 0
	release time.Duration // when frame next leaves
	held    time.Duration // frames due before this leave with the frame that drew the delay
	frame   []byte
}

func newPacer(o *Options) *pacer {
	p := &pacer{
		ptime: o.Ptime, play: o.Play, loop: o.Loop, jitter: o.Jitter, stalls: o.Stalls,
		random: rand.New(rand.NewPCG(o.Seed, 0x7061636572)), //nolint:gosec // repeatable lateness, not a secret
		frame:  make([]byte, samples(o.Ptime)),
	}
	p.schedule()
	return p
}

// due is when frame n would leave without jitter and stalls.
func (p *pacer) due(n int) time.Duration { return time.Duration(n) * p.ptime }

// schedule works out when frame next leaves, never before the frame in front of it.
func (p *pacer) schedule() {
	due := p.due(p.next)
	at := due
	switch {
	case due < p.held:
		at = p.held
	case p.jitter > 0:
		at = due + time.Duration(p.random.Int64N(int64(p.jitter)+1))
		p.held = at
	}
	for _, st := range p.stalls {
		if at >= st.At && at < st.At+st.For {
			at = st.At + st.For
		}
	}
	p.release = max(p.release, at)
}

// advance goes on to the frame after next.
func (p *pacer) advance() {
	p.next++
	p.schedule()
}

// audio returns frame n of the caller's audio; the slice is reused.
func (p *pacer) audio(n int) []byte {
	from := n * len(p.frame)
	for i := range p.frame {
		at := from + i
		if p.loop {
			at %= len(p.play)
		}
		if at < len(p.play) {
			p.frame[i] = p.play[at]
		} else {
			p.frame[i] = g711.SilenceULaw
		}
	}
	return p.frame
}

const sampleRate = 8000

// samples is how many samples, and µ-law bytes, d lasts; part of one counts as none.
func samples(d time.Duration) int { return int(d / (time.Second / sampleRate)) }

// duration is how long n samples last.
func duration(n int) time.Duration { return time.Duration(n) * (time.Second / sampleRate) }
