package stage

import (
	"bytes"

	"github.com/patchbay/patchbay/configs/harness"
)

// Align shifts what was heard so that the frames of sent in it lie on whole frames again, as harness.CompareULaw wants
// them: a listener that plays in real time begins, and goes on after a gap, at any sample. Runs of fill between frames
// become whole frames of fill (a part of one is left out), and so is a last frame that the end of the recording cut
// short. Anything else that is no frame of sent is kept, and so counts as extra.
func Align(sent, heard []byte, fill byte) []byte {
	a := aligner{known: frameSet(sent, fill), blank: bytes.Repeat([]byte{fill}, harness.FrameBytes)}
	for len(heard) > 0 {
		heard = heard[a.take(heard):]
	}
	if !a.cutShort() {
		a.flush()
	}
	return a.out
}

type aligner struct {
	known   map[string]bool
	blank   []byte
	out     []byte
	foreign []byte // a run of bytes that are neither a known frame nor fill
	fills   int    // length of the run of fill
}

// take uses up the beginning of heard and returns how much of it.
func (a *aligner) take(heard []byte) int {
	switch {
	case len(heard) >= harness.FrameBytes && a.known[string(heard[:harness.FrameBytes])]:
		a.flush()
		a.out = append(a.out, heard[:harness.FrameBytes]...)
		a.fills = 0
		return harness.FrameBytes
	case heard[0] != a.blank[0], len(a.foreign) > 0 && !bytes.HasPrefix(heard, a.blank):
		// Fill inside something foreign belongs to it; only a whole frame of it ends it.
		a.foreign = append(a.foreign, heard[0])
		a.fills = 0
		return 1
	}
	a.flush()
	if a.fills++; a.fills == harness.FrameBytes {
		a.out = append(a.out, a.blank...)
		a.fills = 0
	}
	return 1
}

// flush puts the foreign bytes out, filled up to whole frames.
func (a *aligner) flush() {
	if rest := len(a.foreign) % harness.FrameBytes; rest > 0 {
		a.foreign = append(a.foreign, a.blank[rest:]...)
	}
	a.out = append(a.out, a.foreign...)
	a.foreign = a.foreign[:0]
}

// cutShort reports whether what is left is a part of a known frame.
func (a *aligner) cutShort() bool {
	if len(a.foreign) >= harness.FrameBytes {
		return false
	}
	for f := range a.known {
		if bytes.Contains([]byte(f), a.foreign) {
			return true
		}
	}
	return false
}

// frameSet are the frames of audio that are not all fill; a short last one is filled up.
func frameSet(audio []byte, fill byte) map[string]bool {
	blank := bytes.Repeat([]byte{fill}, harness.FrameBytes)
	set := map[string]bool{}
	for at := 0; at < len(audio); at += harness.FrameBytes {
		f := bytes.Clone(blank)
		copy(f, audio[at:])
		if !bytes.Equal(f, blank) {
			set[string(f)] = true
		}
	}
	return set
}
