//go:build interop

package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
	"github.com/patchbay/patchbay/sdk/media/g711"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

const (
	// speechFile is a woman reading from a novel, 5.3 s at 16 kHz (package pocketsphinx-testdata).
	speechFile = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0890.wav"
	// promptFile is a recorded voice menu, 25 s of 16 bits at 8 kHz (package asterisk-core-sounds-en-wav).
	promptFile = "/usr/share/asterisk/sounds/en_US_f_Allison/basic-pbx-ivr-main.wav"
)

// callerSpeech makes a µ-law file of the speech as a telephone hears it, and returns it with its audio.
func callerSpeech(ctx context.Context, t *testing.T) (file string, ulaw []byte) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "speech.wav")
	sox(ctx, t, speechFile, "-r", "8000", "-c", "1", "-e", "mu-law", file)
	return file, readULaw(t, file)
}

// botPrompt makes a file of 16-bit samples of the prompt, which is what baresip plays, and returns it with its audio in
// µ-law. Each sample is a value that µ-law has a code for: coders differ on what lies between.
func botPrompt(ctx context.Context, t *testing.T) (file string, ulaw []byte) {
	t.Helper()
	dir := t.TempDir()
	coded, file := filepath.Join(dir, "coded.wav"), filepath.Join(dir, "prompt.wav")
	sox(ctx, t, promptFile, "-e", "mu-law", coded)
	sox(ctx, t, coded, "-b", "16", "-e", "signed-integer", file)
	return file, readULaw(t, coded)
}

// sox runs sox on args.
func sox(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	// -R: the same dither every time, so that a failure can be repeated.
	p, err := harness.Start(ctx, harness.Command{Path: "sox", Args: append([]string{"-R"}, args...)})
	if err != nil {
		t.Fatalf("%v; make interop installs what is missing", err)
	}
	if err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func readULaw(t *testing.T, file string) []byte {
	t.Helper()
	ulaw, err := harness.ReadULaw(file)
	if err != nil {
		t.Fatal(err)
	}
	return ulaw
}

// compare compares a recording with what was sent by the values the codes stand for: µ-law has two codes for zero, and
// a peer that decodes keeps one of them.
func compare(sent, heard []byte) harness.Result {
	sent, heard = oneZero(sent), oneZero(heard)
	return harness.CompareULaw(sent, stage.Align(sent, heard, g711.SilenceULaw), g711.SilenceULaw)
}

// oneZero replaces the code of negative zero (ITU-T G.711 table 2a) by that of positive zero.
func oneZero(ulaw []byte) []byte {
	return bytes.ReplaceAll(ulaw, []byte{0x7F}, []byte{0xFF})
}

// nearZero is above what a decoder may make of zero: baresip's makes 2 of it, and 8 is µ-law's next value.
const nearZero = 4

// readDecoded reads a recording of 16-bit samples that came out of a µ-law decoder and returns their codes. A sample
// that no code stands for is an error: then the peer has not written down what it decoded.
func readDecoded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	defer f.Close()
	w, err := wav.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", file, err)
	}
	if w.Format != wav.PCM16 || w.SampleRate != 8000 || w.Channels != 1 {
		return nil, fmt.Errorf("recording %s has format %v, %d Hz, %d channels; 16 bits, 8000 Hz, 1 channel expected", file, w.Format, w.SampleRate, w.Channels)
	}
	ulaw := make([]byte, 0, len(w.Data)/2)
	for at := 0; at+1 < len(w.Data); at += 2 {
		sample := int16(uint16(w.Data[at]) | uint16(w.Data[at+1])<<8)
		code := g711.EncodeULaw(sample)
		if got := g711.DecodeULaw(code); got != sample && (got != 0 || sample <= -nearZero || sample >= nearZero) {
			return nil, fmt.Errorf("recording %s: sample %d is %d, next to µ-law's %d", file, at/2, sample, got)
		}
		ulaw = append(ulaw, code)
	}
	return ulaw, nil
}
