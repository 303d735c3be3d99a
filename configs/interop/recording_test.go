//go:build interop

package interop

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// TestReadDecoded: every value that µ-law knows is read back as its code, with the zero of baresip's decoder; what no
// µ-law decoder writes is refused.
func TestReadDecoded(t *testing.T) {
	var all []byte
	var decoded []int16
	for code := range 256 {
		all = append(all, byte(code))
		decoded = append(decoded, g711.DecodeULaw(byte(code)))
	}
	baresips := slices.Clone(decoded)
	baresips[0xFF] = 2
	for name, samples := range map[string][]int16{"exact": decoded, "baresip's": baresips} {
		got, err := readDecoded(writeSamples(t, samples))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(oneZero(got), oneZero(all)) {
			t.Errorf("%s: read % x", name, got)
		}
	}
	for _, foreign := range []int16{4, -4, 9, -9, 32123} {
		if _, err := readDecoded(writeSamples(t, []int16{0, foreign})); err == nil {
			t.Errorf("%d was taken for a value of µ-law", foreign)
		}
	}
}

// TestCompareNotices: the comparison fails when one sample of the speech differs by one step, wherever the recording
// begins, and when a frame is missing.
func TestCompareNotices(t *testing.T) {
	_, speech := callerSpeech(t.Context(), t)
	late := slices.Concat(bytes.Repeat([]byte{g711.SilenceULaw}, 77), speech)
	if r := compare(speech, late); !r.Intact() || r.MissingFront+r.MissingEnd > 0 {
		t.Errorf("77 samples late: %v", r)
	}
	changed := slices.Clone(late)
	changed[len(changed)/2] ^= 1
	if r := compare(speech, changed); r.Intact() {
		t.Errorf("one sample changed: %v", r)
	}
	middle := 77 + len(speech)/2/160*160
	if r := compare(speech, slices.Delete(slices.Clone(late), middle, middle+160)); r.Intact() {
		t.Errorf("a frame missing: %v", r)
	}
}

// writeSamples writes a WAV file of 16-bit samples at 8 kHz.
func writeSamples(t *testing.T, samples []int16) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "samples.wav")
	size := uint32(2 * len(samples))
	b := binary.LittleEndian.AppendUint32([]byte("RIFF"), 36+size)
	b = binary.LittleEndian.AppendUint32(append(b, "WAVEfmt "...), 16)
	for _, v := range []uint16{1, 1, 8000, 0, 16000, 0, 2, 16} { // PCM, mono; the rates are 32 bits wide
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	b = binary.LittleEndian.AppendUint32(append(b, "data"...), size)
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
