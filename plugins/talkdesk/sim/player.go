package sim

import (
	"time"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// pauseLength parts an underrun (the buffer ran dry in the middle of speech) from a pause (the gateway need not send silence).
const pauseLength = 500 * time.Millisecond

// player is the platform's playback buffer with a virtual cursor: audio is played in the order received, in real time, on a line
// of samples that begins with the call. Since audio once accepted has a fixed place on that line, the cursor is the clock.
type player struct {
	prebuffer int // samples held before playing starts
	limit     int // bytes of heard kept
	from      int // sample at which the current spurt begins, behind its prebuffer
	end       int // sample at which the accepted audio ends
	heard     []byte
	begun     bool
	marks     []pendingMark

	maxAhead          int
	underruns, pauses int
	cleared           int // samples thrown away by clear
	unplayed          int // samples still waiting when the call ended
}

// pendingMark is a mark waiting for the audio in front of it.
type pendingMark struct {
	name string
	at   int // sample
}

func newPlayer(o *Options) *player {
	return &player{prebuffer: samples(o.Prebuffer), limit: o.MaxAudio}
}

// accept queues audio that arrived at now.
func (p *player) accept(now time.Duration, ulaw []byte) {
	cursor := samples(now)
	if p.end < cursor || !p.begun {
		if p.begun {
			p.countDry(duration(cursor - p.end))
		}
		p.begun = true
		p.from = cursor + p.prebuffer
		p.silence(p.from)
	}
	if len(p.heard) == p.end {
		p.heard = append(p.heard, ulaw[:min(len(ulaw), max(0, p.limit-len(p.heard)))]...)
	}
	p.end += len(ulaw)
	// What stands in front of the cursor beyond the platform's own prebuffer was sent ahead of real time.
	p.maxAhead = max(p.maxAhead, p.end-cursor-p.prebuffer)
}

func (p *player) countDry(dry time.Duration) {
	if dry < pauseLength {
		p.underruns++
	} else {
		p.pauses++
	}
}

// silence fills the line with silence up to sample to, which lies behind end.
func (p *player) silence(to int) {
	if len(p.heard) == p.end {
		for len(p.heard) < min(to, p.limit) {
			p.heard = append(p.heard, g711.SilenceULaw)
		}
	}
	p.end = to
}

// clear throws away what is not played at now and returns the marks that waited for it, in order.
func (p *player) clear(now time.Duration) []string {
	if cursor := samples(now); p.end > cursor {
		p.cleared += p.end - max(cursor, p.from)
		p.cut(cursor)
	}
	names := make([]string, 0, len(p.marks))
	for _, m := range p.marks {
		names = append(names, m.name)
	}
	p.marks = nil
	// What comes next starts a new spurt, with the prebuffer again.
	p.begun = false
	return names
}

// finish ends playback at now: what was not played was never heard.
func (p *player) finish(now time.Duration) {
	if cursor := samples(now); p.end > cursor {
		p.unplayed = p.end - max(cursor, p.from)
		p.cut(cursor)
	}
}

func (p *player) cut(at int) {
	p.end = at
	p.heard = p.heard[:min(len(p.heard), at)]
}

// mark asks for name to be echoed once everything accepted so far has been played.
func (p *player) mark(name string) { p.marks = append(p.marks, pendingMark{name: name, at: p.end}) }

// nextMark returns the first waiting mark and when it is due.
func (p *player) nextMark() (name string, at time.Duration, ok bool) {
	if len(p.marks) == 0 {
		return "", 0, false
	}
	return p.marks[0].name, duration(p.marks[0].at), true
}

// popMark takes away the mark that nextMark returned.
func (p *player) popMark() { p.marks = p.marks[1:] }
