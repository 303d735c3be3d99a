// Package playout turns audio that arrives in bursts, late or too fast into one
// frame per ptime. It learns from the arrivals how much delay is needed, keeps
// no more, and gives back what a stall has added: in silence first, in speech
// slowly. It never returns nothing: where audio is missing it fills.
//
// A Buffer has no goroutine, timer or lock: its owner brings the clock, calls
// Push when audio arrives and Pop once per ptime.
//
// How the delay is measured. Byte n of the stream is due n × 125 µs after the
// stream's beginning, so each arrival has a lateness: its time less its due
// time. The least lateness of the last seconds is the base line, that of audio
// which met no delay on its way. The lead is the lateness at which frames are
// played, less the base line: how long audio without delay waits. A frame later
// than the lead misses its slot. So the lead must be the jitter of the arrivals
// (the reserve, see arrivals.go), and being bound to whole frames it lies
// anywhere from the reserve up to one ptime more.
package playout

import (
	"time"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// FrameKind says what Pop returned.
type FrameKind uint8

const (
	// Audio is a frame of the audio pushed.
	Audio FrameKind = iota + 1
	// Fill is a frame of silence, for want of audio.
	Fill
)

const (
	// speechInterval is the least time between two frames removed in speech: 5 per second.
	speechInterval = int64(200 * time.Millisecond)
	// residueAge is when audio too short for a frame is played all the same.
	residueAge = int64(100 * time.Millisecond)
)

// Buffer is the playout buffer of one direction of a leg. It belongs to one goroutine.
type Buffer struct {
	config   Config
	frame    int64 // samples in a frame
	capacity int64 // samples in the ceiling
	ptime    int64 // ns

	ring  []byte // sample n of the stream is at n % capacity
	read  int64  // stream position of the next sample to play
	write int64  // stream position after the last sample pushed
	marks marks
	in    arrivals

	started    bool // the first Pop has been
	playing    bool // the last Pop returned audio
	recovering bool // a stall's backlog is being removed
	speechAt   int64
	stats      Stats
}

// NewBuffer returns an empty buffer, or what is wrong with the configuration.
func NewBuffer(config Config) (*Buffer, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	capacity := samples(config.Ceiling)
	return &Buffer{
		config: config, frame: samples(config.Ptime), capacity: capacity, ptime: int64(config.Ptime),
		ring: make([]byte, capacity), in: newArrivals(config),
	}, nil
}

// FrameSize returns the number of bytes in a frame.
func (b *Buffer) FrameSize() int { return int(b.frame) }

// Stats returns the counters so far.
func (b *Buffer) Stats() Stats { return b.stats }

// Depth returns how much audio is held.
func (b *Buffer) Depth() time.Duration { return time.Duration((b.write - b.read) * nsPerSample) }

// Target returns the mean delay that is aimed at, as learned from the arrivals.
func (b *Buffer) Target() time.Duration {
	return time.Duration(b.in.reserve() + b.ptime/2)
}

// Push takes audio of any length that arrived at now (ns of any steady clock).
// The origin is a stamp of the caller's, which Pop returns with the frame that
// begins in this audio. What does not fit under the ceiling drives out the oldest.
func (b *Buffer) Push(now int64, payload []byte, origin int64) {
	if len(payload) == 0 {
		return
	}
	n := int64(len(payload))
	b.stats.Pushed += uint64(n)
	b.in.arrived(now, b.write, n)
	if over := b.write + n - b.read - b.capacity; over > 0 {
		// Whole frames, so that the rest keeps its borders.
		over = (over + b.frame - 1) / b.frame * b.frame
		over = min(over, b.write+n-b.read)
		b.stats.Overflow += uint64(over)
		b.read += over
		b.recovering = true
		b.marks.forget(b.read)
	}
	b.marks.add(b.write, origin)
	from := max(b.write, b.read)
	b.put(from, payload[from-b.write:])
	b.write += n
}

// Clear drops all audio that is held.
func (b *Buffer) Clear() {
	b.stats.Cleared += uint64(b.write - b.read)
	b.read = b.write
	b.marks.forget(b.read)
}

// Pop writes the next frame to dst, which must hold FrameSize bytes, and returns
// the origin of its first byte. It is called once per ptime. A Fill frame has no
// origin; 0 is returned.
func (b *Buffer) Pop(now int64, dst []byte) (origin int64, kind FrameKind) {
	dst = dst[:b.frame]
	b.stats.Frames++
	if !b.started {
		b.preroll(now)
	}
	held := b.write - b.read
	switch {
	case held < b.frame:
		if held > 0 && now-b.in.last > residueAge {
			return b.residue(dst), Audio
		}
		if b.playing {
			b.stats.Underruns++
		}
		return b.fill(dst)
	case !b.playing && b.lead(now) < b.in.reserve() && held+b.frame <= b.capacity:
		// Begin with the reserve in hand rather than run dry again at once.
		return b.fill(dst)
	}
	b.playing = true
	b.shorten(now)
	origin = b.marks.at(b.read)
	b.get(dst)
	return origin, Audio
}

// preroll leaves of what was pushed before the first Pop only the newest. It has
// taught the buffer how regular the arrivals are; nobody was there to hear it.
func (b *Buffer) preroll(now int64) {
	b.started, b.recovering = true, false
	for b.write-b.read >= 2*b.frame && b.lead(now)-b.in.reserve() >= b.ptime {
		b.read += b.frame
		b.stats.Preroll += uint64(b.frame)
	}
}

// lead returns how long audio without delay waits if a frame is played now, in ns.
func (b *Buffer) lead(now int64) int64 {
	return now - (b.read+b.frame)*nsPerSample - b.in.base()
}

// shorten removes frames while the lead exceeds what is needed by a ptime: all
// that are silent, and where a stall has left a backlog one of speech per interval.
func (b *Buffer) shorten(now int64) {
	target := b.in.learned()
	for b.write-b.read >= 2*b.frame {
		excess := b.lead(now) - target
		if excess < b.ptime {
			b.recovering = false
			return
		}
		switch {
		case b.silent():
			b.stats.Silence += uint64(b.frame)
		case (b.recovering || excess >= 2*b.ptime) && now-b.speechAt >= speechInterval:
			// One ptime too much may be the phase's doing and waits for a silence.
			b.recovering = true
			b.speechAt = now
			b.stats.Speech += uint64(b.frame)
		default:
			return
		}
		b.read += b.frame
	}
}

// silent reports whether the next frame is too quiet to be missed: below about
// -50 dBm0, the level of line noise.
func (b *Buffer) silent() bool {
	const threshold = 64 * 64
	decode := g711.DecodeULaw
	if b.config.Law == ALaw {
		decode = g711.DecodeALaw
	}
	var energy int64
	at := b.read % b.capacity
	for range b.frame {
		sample := int64(decode(b.ring[at]))
		energy += sample * sample
		if at++; at == b.capacity {
			at = 0
		}
	}
	return energy < threshold*b.frame
}

func (b *Buffer) silence() byte {
	if b.config.Law == ALaw {
		return g711.SilenceALaw
	}
	return g711.SilenceULaw
}

func (b *Buffer) fill(dst []byte) (int64, FrameKind) {
	b.playing = false
	b.stats.Fills++
	silence := b.silence()
	for i := range dst {
		dst[i] = silence
	}
	return 0, Fill
}

// residue plays the last piece of audio before a pause, made up to a frame with
// silence, so that it is not heard when the stream goes on much later.
func (b *Buffer) residue(dst []byte) int64 {
	b.playing = false
	origin := b.marks.at(b.read)
	held := b.write - b.read
	b.get(dst[:held])
	silence := b.silence()
	for i := range dst[held:] {
		dst[held+int64(i)] = silence
	}
	return origin
}

// put copies audio into the ring at a stream position.
func (b *Buffer) put(position int64, audio []byte) {
	n := copy(b.ring[position%b.capacity:], audio)
	copy(b.ring, audio[n:])
}

// get takes len(dst) bytes of audio from the ring.
func (b *Buffer) get(dst []byte) {
	n := copy(dst, b.ring[b.read%b.capacity:])
	copy(dst[n:], b.ring)
	b.read += int64(len(dst))
	b.stats.Played += uint64(len(dst))
}
