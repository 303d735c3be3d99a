package playout_test

import (
	"bytes"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/patchbay/patchbay/sdk/media/playout"
)

const (
	ms    = int64(time.Millisecond)
	ptime = 20 * ms
	frame = 160
)

// arrival is a piece of the stream and when it comes.
type arrival struct {
	at      int64
	payload []byte
}

// stream makes audio: speech is loud noise without two equal frames, silence is silence.
func stream(seed uint64, frames int, speech func(frame int) bool) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	audio := make([]byte, frames*frame)
	for i := range audio {
		audio[i] = 0xFF
		if speech(i / frame) {
			audio[i] = byte(random.UintN(64)) | byte(random.UintN(2))<<7 // the upper segments of either sign
		}
	}
	return audio
}

func always(int) bool { return true }

// talk alternates two seconds of speech and one of silence.
func talk(frame int) bool { return frame%150 < 100 }

// arrivals cuts audio into payloads of a size, each coming when its last byte was
// spoken plus a delay; like TCP they never overtake each other.
func arrivals(audio []byte, size int, delay func(at int64) int64) []arrival {
	return slices.Collect(drifting(audio, 1, size, 0, delay))
}

// drifting is arrivals of audio that is said several times over, by a sender whose
// clock is off by some ppm: positive is fast.
func drifting(audio []byte, times, size int, ppm float64, delay func(at int64) int64) iter.Seq[arrival] {
	return func(yield func(arrival) bool) {
		var said, last int64
		for range times {
			for payload := range slices.Chunk(audio, size) {
				said += int64(len(payload))
				spoken := int64(float64(said) * 125e3 / (1 + ppm/1e6))
				last = max(last, spoken+delay(spoken))
				if !yield(arrival{last, payload}) {
					return
				}
			}
		}
	}
}

// none delays nothing.
func none(int64) int64 { return 0 }

// jittered delays by up to most, evenly spread.
func jittered(seed uint64, most int64) func(int64) int64 {
	random := rand.New(rand.NewPCG(seed, 2))
	return func(int64) int64 {
		if most == 0 {
			return 0
		}
		return random.Int64N(most)
	}
}

// stalled holds what would come in the given time until its end.
func stalled(from, length int64, otherwise func(int64) int64) func(int64) int64 {
	return func(at int64) int64 {
		if at >= from && at < from+length {
			return from + length - at
		}
		return otherwise(at)
	}
}

// played is one popped frame.
type played struct {
	at    int64
	wait  int64 // since the arrival of its first byte
	kind  playout.FrameKind
	audio []byte
}

// play runs a buffer over arrivals, popping once per ptime from the phase on
// until a second after the last arrival. Check sees the buffer after each step.
func play(b *playout.Buffer, list []arrival, phase int64, check func()) []played {
	var out []played
	run(b, slices.Values(list), phase, check, func(p played) {
		p.audio = bytes.Clone(p.audio)
		out = append(out, p)
	})
	return out
}

// run is play for long runs: each frame is passed to the visitor, its audio valid until that returns.
func run(b *playout.Buffer, input iter.Seq[arrival], phase int64, check func(), visit func(played)) {
	dst := make([]byte, frame)
	now := phase
	popUntil := func(end int64) {
		for ; now < end; now += ptime {
			origin, kind := b.Pop(now, dst)
			check()
			visit(played{now, now - origin, kind, dst})
		}
	}
	var last int64
	for a := range input {
		popUntil(a.at) // what arrives in the very moment of a Pop comes before it
		b.Push(a.at, a.payload, a.at)
		check()
		last = a.at
	}
	popUntil(last + 1000*ms)
}

// heard joins the audio frames.
func heard(out []played) []byte {
	var audio []byte
	for _, p := range out {
		if p.kind == playout.Audio {
			audio = append(audio, p.audio...)
		}
	}
	return audio
}

// waits returns the sorted waits of the audio frames popped from one time to another.
func waits(out []played, from, to int64) []int64 {
	var list []int64
	for _, p := range out {
		if p.kind == playout.Audio && p.at >= from && p.at < to {
			list = append(list, p.wait)
		}
	}
	slices.Sort(list)
	return list
}

// fills counts the fill frames popped from one time to another.
func fills(out []played, from, to int64) int {
	n := 0
	for _, p := range out {
		if p.kind == playout.Fill && p.at >= from && p.at < to {
			n++
		}
	}
	return n
}
