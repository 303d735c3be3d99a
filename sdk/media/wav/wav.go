// Package wav reads and writes the RIFF WAVE files that telephony meets: 16-bit
// linear, µ-law and A-law. It reads what real programs write, wrong lengths and
// missing padding included, and never holds more memory than the file is long.
package wav

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// Format says how a file's samples are coded.
type Format uint8

// The sample codings that Read accepts.
const (
	// PCM16 is signed 16-bit linear, little endian, two bytes per sample.
	PCM16 Format = iota + 1
	// MuLaw is G.711 µ-law, one byte per sample.
	MuLaw
	// ALaw is G.711 A-law, one byte per sample.
	ALaw
)

// MaxSize is the most bytes Read takes: about nine hours of G.711.
const MaxSize = 256 << 20

// Errors of Read and of the conversions; match them with errors.Is.
var (
	// ErrNotWave means that the input is not a RIFF WAVE file, or ends before its samples begin.
	ErrNotWave = errors.New("not a RIFF WAVE file")
	// ErrUnsupported means that the file is sound but its coding, rate or channel count is not one we can use.
	ErrUnsupported = errors.New("unsupported WAVE format")
	// ErrTooLarge means that the input is longer than MaxSize, or the output than a WAVE file can be.
	ErrTooLarge = errors.New("too large for a WAVE file")
)

// File is a WAVE file's sound: whole sample blocks, as they stood in the file.
type File struct {
	// Format is the coding of Data.
	Format Format
	// SampleRate is in samples per second and channel.
	SampleRate int
	// Channels is the number of interleaved channels, at least 1.
	Channels int
	// Data holds the samples, little endian, a whole number of blocks.
	Data []byte
}

// String returns the coding's usual name.
func (f Format) String() string {
	switch f {
	case PCM16:
		return "16-bit PCM"
	case MuLaw:
		return "G.711 mu-law"
	case ALaw:
		return "G.711 A-law"
	default:
		return fmt.Sprintf("format %d", uint8(f))
	}
}

func (f Format) sampleBytes() int {
	if f == PCM16 {
		return 2
	}
	return 1
}

// Read reads a whole WAVE file. Chunks it does not know are skipped; a length
// that reaches past the end of the input means "until the end". Errors wrap
// ErrNotWave, ErrUnsupported, ErrTooLarge or the reader's own.
func Read(r io.Reader) (*File, error) { return readAtMost(r, MaxSize) }

func readAtMost(r io.Reader, limit int) (*File, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("reading WAVE file: %w", err)
	}
	if len(raw) > limit {
		return nil, fmt.Errorf("reading WAVE file: %w: more than %d bytes; cut it into parts", ErrTooLarge, limit)
	}
	file, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("reading WAVE file: %w", err)
	}
	return file, nil
}

// MuLaw8k returns the sound as µ-law, 8000 samples per second, one channel. It
// converts the coding but neither rate nor channels: those wrap ErrUnsupported.
// For a µ-law file the result is Data itself, not a copy.
func (f *File) MuLaw8k() ([]byte, error) {
	if f.SampleRate != g711.SampleRate || f.Channels != 1 {
		return nil, fmt.Errorf("%w: %d Hz with %d channel(s), want 8000 Hz mono; convert it with: sox IN.wav -r 8000 -c 1 OUT.wav",
			ErrUnsupported, f.SampleRate, f.Channels)
	}
	switch f.Format {
	case MuLaw:
		return f.Data, nil
	case ALaw:
		out := make([]byte, len(f.Data))
		g711.ALawToULaw(out, f.Data)
		return out, nil
	case PCM16:
		out := make([]byte, len(f.Data)/2)
		for i := range out {
			out[i] = g711.EncodeULaw(int16(binary.LittleEndian.Uint16(f.Data[2*i:])))
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%w: %s, want 16-bit PCM, mu-law or A-law", ErrUnsupported, f.Format)
	}
}

// WriteMuLaw writes a WAVE file of µ-law samples, 8000 per second, one channel
// (format tag 7, with the fact chunk that non-linear formats must have).
func WriteMuLaw(w io.Writer, ulaw []byte) error {
	const preamble = 4 + (8 + 18) + (8 + 4) + 8 // "WAVE", fmt, fact, the data chunk's header
	padded := len(ulaw) + len(ulaw)&1
	if int64(padded) > math.MaxUint32-preamble {
		return fmt.Errorf("writing WAVE file: %w: %d samples", ErrTooLarge, len(ulaw))
	}
	samples := uint32(len(ulaw))
	le := binary.LittleEndian
	head := make([]byte, 0, 8+preamble)
	head = append(head, "RIFF"...)
	head = le.AppendUint32(head, uint32(preamble+padded))
	head = append(head, "WAVEfmt "...)
	head = le.AppendUint32(head, 18)
	head = le.AppendUint16(head, tagMuLaw)
	head = le.AppendUint16(head, 1)
	head = le.AppendUint32(head, g711.SampleRate)
	head = le.AppendUint32(head, g711.SampleRate)
	head = le.AppendUint16(head, 1) // block: one byte
	head = le.AppendUint16(head, 8) // bits per sample
	head = le.AppendUint16(head, 0) // no extension
	head = append(head, "fact"...)
	head = le.AppendUint32(head, 4)
	head = le.AppendUint32(head, samples)
	head = append(head, "data"...)
	head = le.AppendUint32(head, samples)
	for _, part := range [][]byte{head, ulaw, make([]byte, padded-len(ulaw))} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("writing WAVE file: %w", err)
		}
	}
	return nil
}
