package wav_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/sdk/media/g711"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

const guidTail = "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

// format builds the body of a fmt chunk.
func format(tag, channels uint16, rate uint32, bits uint16) string {
	le := binary.LittleEndian
	block := channels * bits / 8
	b := le.AppendUint16(nil, tag)
	b = le.AppendUint16(b, channels)
	b = le.AppendUint32(b, rate)
	b = le.AppendUint32(b, rate*uint32(block))
	b = le.AppendUint16(b, block)
	return string(le.AppendUint16(b, bits))
}

func extensible(sub string) string {
	return format(0xFFFE, 1, 8000, 16) + "\x16\x00\x10\x00\x04\x00\x00\x00" + sub
}

// chunk builds a chunk whose header says size; the body is written as it is.
func chunk(id string, size uint32, body string) string {
	return id + string(binary.LittleEndian.AppendUint32(nil, size)) + body
}

func riff(size uint32, chunks ...string) string {
	return chunk("RIFF", size, "WAVE"+strings.Join(chunks, ""))
}

func TestRead(t *testing.T) {
	mu, pcm := chunk("fmt ", 16, format(7, 1, 8000, 8)), chunk("fmt ", 16, format(1, 1, 8000, 16))
	list := chunk("LIST", 5, "INFOx\x00")
	ulaw := func(data string) *wav.File {
		return &wav.File{Format: wav.MuLaw, SampleRate: 8000, Channels: 1, Data: []byte(data)}
	}
	linear := func(data string) *wav.File {
		return &wav.File{Format: wav.PCM16, SampleRate: 8000, Channels: 1, Data: []byte(data)}
	}
	tests := []struct {
		name, in string
		want     *wav.File
		err      error
	}{
		{"plain", riff(40, mu, chunk("data", 4, "abcd")), ulaw("abcd"), nil},
		{"LIST before and after, odd and padded", riff(99, list, mu, list, chunk("data", 3, "abc\x00"), list), ulaw("abc"), nil},
		{"odd chunk whose padding is missing", riff(99, mu, chunk("LIST", 5, "INFOx"), chunk("data", 2, "ab")), ulaw("ab"), nil},
		{"data reaches past the end", riff(36, mu, chunk("data", 1000, "abcd")), ulaw("abcd"), nil},
		{"streamed, all lengths 0xFFFFFFFF", riff(math.MaxUint32, mu, chunk("data", math.MaxUint32, "abcd")), ulaw("abcd"), nil},
		{"streamed, lengths never filled in", riff(0, mu, chunk("data", 0, "abcd")), ulaw("abcd"), nil},
		{"no samples", riff(36, mu, chunk("data", 0, "")), ulaw(""), nil},
		{"no samples, then LIST", riff(99, mu, chunk("data", 0, ""), list), ulaw(""), nil},
		{"half a sample at the end", riff(99, pcm, chunk("data", 5, "abcde")), linear("abcd"), nil},
		{"extensible", riff(99, chunk("fmt ", 40, extensible("\x01\x00"+guidTail)), chunk("data", 2, "ab")), linear("ab"), nil},
		{
			"A-law stereo", riff(99, chunk("fmt ", 16, format(6, 2, 16000, 8)), chunk("data", 5, "abcde")),
			&wav.File{Format: wav.ALaw, SampleRate: 16000, Channels: 2, Data: []byte("abcd")}, nil,
		},

		{"empty", "", nil, wav.ErrNotWave},
		{"only a header", riff(4), nil, wav.ErrNotWave},
		{"not RIFF", "OggS" + riff(4), nil, wav.ErrNotWave},
		{"no data", riff(99, mu, list), nil, wav.ErrNotWave},
		{"data before fmt", riff(99, chunk("data", 2, "ab"), mu), nil, wav.ErrNotWave},
		{"short fmt", riff(99, chunk("fmt ", 14, format(7, 1, 8000, 8)[:14]), chunk("data", 2, "ab")), nil, wav.ErrNotWave},
		{"8-bit PCM", riff(99, chunk("fmt ", 16, format(1, 1, 8000, 8)), chunk("data", 2, "ab")), nil, wav.ErrUnsupported},
		{"24-bit PCM", riff(99, chunk("fmt ", 16, format(1, 1, 8000, 24)), chunk("data", 3, "abc")), nil, wav.ErrUnsupported},
		{"float", riff(99, chunk("fmt ", 16, format(3, 1, 8000, 32)), chunk("data", 4, "abcd")), nil, wav.ErrUnsupported},
		{"no channel", riff(99, chunk("fmt ", 16, format(7, 0, 8000, 8)), chunk("data", 2, "ab")), nil, wav.ErrUnsupported},
		{"no rate", riff(99, chunk("fmt ", 16, format(7, 1, 0, 8)), chunk("data", 2, "ab")), nil, wav.ErrUnsupported},
		{
			"extensible, foreign sub-format", riff(99, chunk("fmt ", 40, extensible(strings.Repeat("x", 16))), chunk("data", 2, "ab")),
			nil, wav.ErrUnsupported,
		},
		{"extensible, cut short", riff(99, chunk("fmt ", 18, extensible("")[:18]), chunk("data", 2, "ab")), nil, wav.ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := wav.Read(strings.NewReader(test.in))
			if !errors.Is(err, test.err) {
				t.Fatalf("error is %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestReadGolden reads a 1 kHz tone written by Python's wave module.
func TestReadGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/tone-pcm16.wav")
	if err != nil {
		t.Fatal(err)
	}
	file, err := wav.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	ulaw, err := file.MuLaw8k()
	if err != nil {
		t.Fatal(err)
	}
	if len(ulaw) != 160 {
		t.Fatalf("%d samples, want 160", len(ulaw))
	}
	for i, code := range ulaw {
		want := int(12000 * math.Sin(2*math.Pi*1000*float64(i)/8000))
		if got := int(g711.DecodeULaw(code)); max(got-want, want-got) > 512 {
			t.Errorf("sample %d is %d, want about %d", i, got, want)
		}
	}
}

func TestMuLaw8k(t *testing.T) {
	aLaw := wav.File{Format: wav.ALaw, SampleRate: 8000, Channels: 1, Data: []byte{g711.EncodeALaw(1000), g711.EncodeALaw(-1000)}}
	got, err := aLaw.MuLaw8k()
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{g711.EncodeULaw(1000), g711.EncodeULaw(-1000)}; !bytes.Equal(got, want) {
		t.Errorf("A-law became %x, want %x", got, want)
	}
	for _, file := range []wav.File{
		{Format: wav.MuLaw, SampleRate: 16000, Channels: 1},
		{Format: wav.MuLaw, SampleRate: 8000, Channels: 2},
		{SampleRate: 8000, Channels: 1},
	} {
		if _, err := file.MuLaw8k(); !errors.Is(err, wav.ErrUnsupported) {
			t.Errorf("%v: error is %v, want %v", file, err, wav.ErrUnsupported)
		}
	}
}

func TestWriteMuLaw(t *testing.T) {
	want := riff(54, chunk("fmt ", 18, format(7, 1, 8000, 8)+"\x00\x00"), chunk("fact", 4, "\x03\x00\x00\x00"), chunk("data", 3, "abc\x00"))
	var got bytes.Buffer
	if err := wav.WriteMuLaw(&got, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]byte(want), got.Bytes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if size := binary.LittleEndian.Uint32(got.Bytes()[4:]); int(size) != got.Len()-8 {
		t.Errorf("RIFF length is %d in a file of %d bytes", size, got.Len())
	}
}

var errBroken = errors.New("broken")

// brokenWriter takes some writes and then fails.
type brokenWriter struct{ takes int }

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.takes--; w.takes < 0 {
		return 0, errBroken
	}
	return len(b), nil
}

func TestErrorsOfReaderAndWriter(t *testing.T) {
	for takes := range 3 {
		if err := wav.WriteMuLaw(&brokenWriter{takes}, []byte("abc")); !errors.Is(err, errBroken) {
			t.Errorf("after %d writes the error is %v, want %v", takes, err, errBroken)
		}
	}
	if _, err := wav.Read(io.MultiReader(strings.NewReader("RIFF"), errReader{})); !errors.Is(err, errBroken) {
		t.Errorf("error is %v, want %v", err, errBroken)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

// FuzzRead checks that whatever is read is a part of the input in whole blocks,
// and that what we write of it reads back the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(riff(40, chunk("fmt ", 16, format(7, 1, 8000, 8)), chunk("data", 4, "abcd"))))
	f.Add([]byte(riff(99, chunk("LIST", 3, "abc\x00"), chunk("fmt ", 16, format(1, 1, 8000, 16)), chunk("data", 1<<31, "abcde"))))
	f.Add([]byte(riff(99, chunk("fmt ", 40, extensible("\x06\x00"+guidTail)), chunk("data", 0, "ab"))))
	f.Fuzz(func(t *testing.T, in []byte) {
		file, err := wav.Read(bytes.NewReader(in))
		if err != nil {
			if !errors.Is(err, wav.ErrNotWave) && !errors.Is(err, wav.ErrUnsupported) {
				t.Fatalf("error %v is of no stated kind", err)
			}
			return
		}
		if cap(file.Data) > len(in) || !bytes.Contains(in, file.Data) {
			t.Fatalf("%d bytes of samples (capacity %d) are not a part of %d bytes of input", len(file.Data), cap(file.Data), len(in))
		}
		width := 1
		if file.Format == wav.PCM16 {
			width = 2
		}
		if file.Channels < 1 || file.SampleRate < 1 || len(file.Data)%(file.Channels*width) != 0 {
			t.Fatalf("%d bytes do not make whole blocks of %d × %d", len(file.Data), file.Channels, width)
		}
		checkWriteRead(t, file.Data)
		if ulaw, err := file.MuLaw8k(); err == nil {
			checkWriteRead(t, ulaw)
		}
	})
}

func checkWriteRead(t *testing.T, ulaw []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := wav.WriteMuLaw(&out, ulaw); err != nil {
		t.Fatal(err)
	}
	back, err := wav.Read(&out)
	if err != nil {
		t.Fatal(err)
	}
	if back.Format != wav.MuLaw || back.SampleRate != 8000 || back.Channels != 1 || !bytes.Equal(back.Data, ulaw) {
		t.Fatalf("%d samples came back as %d of %v", len(ulaw), len(back.Data), back.Format)
	}
}
