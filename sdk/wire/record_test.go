package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden reads a file of hex digits; '#' begins a comment.
func golden(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	out, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// goldenRecords are what testdata/records.hex holds.
func goldenRecords() []Record {
	return []Record{
		{
			Kind: KindAudio, Flags: FlagTalkSpurt | FlagDiscontinuity, Stream: 0xABC12345, Sequence: 0x01020304,
			Timestamp: 0x0A0B0C0D, Origin: 0x1122334455667788, Payload: []byte{0xFF, 0x7F, 0x00},
		},
		{Kind: KindDTMF, Stream: 1, Sequence: 2, Timestamp: 160, Payload: []byte{'5', 0xFA, 0x00}},
		{Kind: KindComfortNoise, Stream: 1, Payload: []byte{0x40}},
		{Kind: KindMark, Stream: 1, Payload: []byte("greeting")},
		{Kind: KindClear, Stream: 1, Payload: []byte{}},
		{Kind: KindAudio, Flags: FlagEnd, Stream: 1 << slotBits, Payload: []byte{}},
	}
}

// TestRecordGolden holds the layout that media.proto describes.
func TestRecordGolden(t *testing.T) {
	want := golden(t, "testdata/records.hex")
	var got []byte
	for _, r := range goldenRecords() {
		got = r.Append(got)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("packed:\n%s\nwant:\n%s", hex.Dump(got), hex.Dump(want))
	}
	if diff := cmp.Diff(goldenRecords(), parseAll(t, want)); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
}

func parseAll(tb testing.TB, b []byte) []Record {
	tb.Helper()
	var out []Record
	for len(b) > 0 {
		var r Record
		rest, err := r.Parse(b)
		if err != nil {
			tb.Fatalf("parse after %d records: %v", len(out), err)
		}
		if len(rest)+r.Size() != len(b) {
			tb.Fatalf("record of %d bytes took %d", r.Size(), len(b)-len(rest))
		}
		out, b = append(out, r), rest
	}
	return out
}

func TestParseTruncated(t *testing.T) {
	whole := (&Record{Kind: KindMark, Stream: 7, Payload: []byte("m")}).Append(nil)
	for n := range whole {
		before := Record{Sequence: 99}
		r := before
		if rest, err := r.Parse(whole[:n]); !errors.Is(err, ErrTruncated) || rest != nil {
			t.Errorf("%d bytes of %d: rest %v, error %v", n, len(whole), rest, err)
		}
		if diff := cmp.Diff(before, r); diff != "" {
			t.Errorf("%d bytes: record touched:\n%s", n, diff)
		}
	}
}

// A payload is a view: appending to it must not write over the next record.
func TestParsePayloadHasNoRoom(t *testing.T) {
	packed := (&Record{Payload: []byte{1}}).Append(nil)
	packed = (&Record{Payload: []byte{2}}).Append(packed)
	kept := bytes.Clone(packed)
	var r Record
	if _, err := r.Parse(packed); err != nil {
		t.Fatal(err)
	}
	_ = append(r.Payload, 0xEE)
	if !bytes.Equal(packed, kept) {
		t.Error("append to a payload reached the record behind it")
	}
}

func TestDroppable(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Record
		want bool
	}{
		{"audio", Record{Kind: KindAudio}, true},
		{"comfort noise", Record{Kind: KindComfortNoise}, true},
		{"dtmf", Record{Kind: KindDTMF}, false},
		{"mark", Record{Kind: KindMark}, false},
		{"clear", Record{Kind: KindClear}, false},
		{"a later version's", Record{Kind: 77}, false},
		{"last audio", Record{Kind: KindAudio, Flags: FlagEnd | FlagTalkSpurt}, false},
	} {
		if got := tc.r.droppable(); got != tc.want {
			t.Errorf("%s: droppable %v", tc.name, got)
		}
	}
}
