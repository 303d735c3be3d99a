package stage

import (
	"errors"
	"fmt"
	"os"

	"github.com/patchbay/patchbay/configs/harness"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

// Signal makes µ-law audio of which every frame is unlike every other and none holds fill, so that each single frame
// that is lost, repeated or swapped shows. Signals of different seeds (0 to 15) have no frame in common.
func Signal(frames int, seed byte) []byte {
	out := make([]byte, 0, frames*harness.FrameBytes)
	for i := range frames {
		// The first four bytes number the frame; the rest sounds like a low hum and never reaches 0x7F or 0xFF,
		// the two silences.
		out = append(out, 0x20|seed&15, byte(i>>12&63), byte(i>>6&63), byte(i&63))
		for k := range harness.FrameBytes - 4 {
			out = append(out, byte(0x30+(i*7+k*3)%64))
		}
	}
	return out
}

// WriteWAV writes µ-law audio as a WAV file.
func WriteWAV(file string, ulaw []byte) (err error) {
	f, err := os.Create(file) //nolint:gosec // the caller's own file
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return wav.WriteMuLaw(f, ulaw)
}
