package stage

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/patchbay/patchbay/configs/harness"
)

const fill = 0xFF

// Wherever playback began and however often it ran dry, for whatever number of samples: after aligning, everything
// that was played compares as sent.
func TestAlignFindsFramesAtAnySample(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := Signal(rapid.IntRange(2, 60).Draw(t, "frames"), 0)
		heard := bytes.Repeat([]byte{fill}, rapid.IntRange(0, 1000).Draw(t, "before"))
		missing := 0
		for f := range slices.Chunk(sent, harness.FrameBytes) {
			if rapid.IntRange(0, 9).Draw(t, "dry") == 0 {
				heard = append(heard, bytes.Repeat([]byte{fill}, rapid.IntRange(1, 500).Draw(t, "gap"))...)
			}
			if rapid.IntRange(0, 19).Draw(t, "lose") == 0 {
				missing++
				continue
			}
			heard = append(heard, f...)
		}
		cut := 0
		if len(heard) > harness.FrameBytes {
			cut = rapid.IntRange(0, harness.FrameBytes-1).Draw(t, "cut")
		}
		r := harness.CompareULaw(sent, Align(sent, heard[:len(heard)-cut], fill), fill)
		lost := r.MissingFront + r.MissingMiddle + r.MissingEnd
		if r.Extra != 0 || lost != missing && (cut == 0 || lost != missing+1) {
			t.Fatalf("%d left out, %d samples cut off: %v", missing, cut, r)
		}
	})
}

func TestAlignKeepsWhatIsForeign(t *testing.T) {
	sent := Signal(3, 0)
	foreign := bytes.Repeat([]byte{1, 2, 3, fill}, 100)
	heard := slices.Concat(bytes.Repeat([]byte{fill}, 33), sent[:160], foreign, sent[160:])
	r := harness.CompareULaw(sent, Align(sent, heard, fill), fill)
	if r.Matched != 3 || r.Extra != 3 {
		t.Errorf("400 foreign bytes: %v", r)
	}
}
