package rtpwire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	h := Header{Marker: true, PayloadType: 101, Seq: 0xfffe, Timestamp: 0xdeadbeef, SSRC: 7}
	plain := h.Append(nil, []byte{1, 2, 3, 4})
	extended := append([]byte{0x91}, plain[1:12]...) // one CSRC and an extension of one word
	extended = append(extended, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 8, 8, 8, 8, 1, 2, 3, 4)
	padded := append(append([]byte{0xa0}, plain[1:]...), 0, 0, 3)
	for name, b := range map[string][]byte{"plain": plain, "extended": extended, "padded": padded} {
		got, payload, err := Parse(b)
		if err != nil || got != h || !bytes.Equal(payload, []byte{1, 2, 3, 4}) {
			t.Errorf("%s: %+v % x %v", name, got, payload, err)
		}
	}
	for name, b := range map[string][]byte{
		"short":              plain[:11],
		"version":            append([]byte{0x40}, plain[1:]...),
		"extension cut":      append([]byte{0x90}, plain[1:12]...),
		"extension too long": append(append([]byte{0x90}, plain[1:12]...), 0, 0, 0, 9),
		"padding 0":          append(append([]byte{0xa0}, plain[1:]...), 0),
		"padding too long":   append(append([]byte{0xa0}, plain[1:]...), 200),
	} {
		if _, _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDigits(t *testing.T) {
	for i := range len(digits) {
		if c, ok := Code(digits[i]); !ok || Digit(c) != digits[i] {
			t.Errorf("%c: %d %v", digits[i], c, ok)
		}
	}
	if c, ok := Code('b'); !ok || Digit(c) != 'B' {
		t.Errorf("b: %d %v", c, ok)
	}
	if _, ok := Code('x'); ok || Digit(16) != 0 {
		t.Error("x is no key and 16 no digit")
	}
}

func TestRTCPRoundTrip(t *testing.T) {
	for _, o := range []Outgoing{
		{SSRC: 1, Packets: 3, Octets: 480, Timestamp: 5, CNAME: "bot@127.0.0.1", Bye: true, Blocks: []Block{{SSRC: 2, FractionLost: 128, Lost: -1, Jitter: 9}}},
		{SSRC: 1, CNAME: "", Blocks: nil},
		{SSRC: 1, CNAME: "abc"},
	} {
		r, err := ParseRTCP(o.Append(nil, time.Unix(1, 0)))
		if err != nil {
			t.Fatal(err)
		}
		want := Report{Descriptions: 1, SSRC: 1, Blocks: len(o.Blocks)}
		if o.Packets > 0 {
			want.SenderReports, want.SenderPackets, want.SenderOctets, want.NTP = 1, 3, 480, 2208988801<<32
			want.FractionLost, want.Jitter, want.Byes = 128, 9, 1
		} else {
			want.ReceiverReports = 1
		}
		if d := cmp.Diff(want, r); d != "" {
			t.Error(d)
		}
	}
	for name, b := range map[string][]byte{
		"starts with sdes":  {0x81, 202, 0, 1, 0, 0, 0, 0},
		"length beyond end": {0x80, 201, 0, 9, 0, 0, 0, 0},
		"length of one":     {0x80, 201, 0, 0, 0, 0, 0, 0},
		"blocks missing":    {0x81, 201, 0, 1, 0, 0, 0, 0},
		"version":           {0x40, 201, 0, 1, 0, 0, 0, 0},
		"sr too short":      {0x80, 200, 0, 1, 0, 0, 0, 0},
	} {
		if _, err := ParseRTCP(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// feeder sends packets to a receiver 20 ms apart.
type feeder struct {
	r   *Receiver
	h   Header
	now time.Time
}

func (f *feeder) audio(payload []byte) {
	f.r.Receive(f.h, payload, Audio, 0xff, f.now)
	f.h.Marker = false
	f.h.Seq++
	f.h.Timestamp += 160
	f.now = f.now.Add(20 * time.Millisecond)
}

func frame(c byte) []byte { return bytes.Repeat([]byte{c}, 160) }

func TestReceiverFigures(t *testing.T) {
	f := &feeder{r: NewReceiver(), h: Header{Marker: true, Seq: 65530, SSRC: 1}, now: time.Unix(100, 0)}
	for range 20 {
		f.audio(frame(1)) // wraps
	}
	f.audio(frame(0xff))
	f.h.Seq++ // one lost
	f.h.Timestamp += 160
	f.now = f.now.Add(20 * time.Millisecond)
	f.audio(frame(1))
	f.h.Timestamp += 80 // a wrong step
	f.audio(frame(1)[:80])
	f.h.Seq--
	f.audio(frame(1)) // a duplicate
	f.r.Receive(f.h, nil, Wrong, 0xff, f.now)
	got := f.r.Stats()
	want := Stats{
		Packets: 25, Audio: 23, Bytes: 24*160 - 80, WrongPT: 1, Lost: 1, Duplicates: 1, SSRCs: 1, Markers: 1, Fill: 1,
		TimestampSteps: 1, WrongSize: 1, Gaps: 1, P50: 20.1, P99: 40, Max: 40, FirstMS: -1,
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Stats{}, "Jitter", "P99")); d != "" {
		t.Error(d)
	}
	b, ok := f.r.Block()
	if !ok || b.Lost != 1 || b.FractionLost == 0 || b.SSRC != 1 {
		t.Errorf("block %+v %v", b, ok)
	}
	f.h.SSRC = 2
	f.audio(frame(1))
	if s := f.r.Stats(); s.SSRCs != 2 || s.Lost != 1 {
		t.Errorf("after a change of source: %d sources, %d lost", s.SSRCs, s.Lost)
	}
}

// TestReceiverCounts: whatever is lost, doubled and swapped inside the window is counted exactly.
func TestReceiverCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 300).Draw(t, "n")
		first := rapid.Uint16().Draw(t, "first")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var sent []uint16
		lost, doubled := 0, 0
		for i := range n {
			switch edge := i == 0 || i == n-1; {
			case !edge && rng.IntN(10) == 0:
				lost++
			case rng.IntN(10) == 0:
				sent = append(sent, first+uint16(i), first+uint16(i))
				doubled++
			default:
				sent = append(sent, first+uint16(i))
			}
		}
		for i := range len(sent) - 1 {
			if rng.IntN(5) == 0 {
				sent[i], sent[i+1] = sent[i+1], sent[i]
			}
		}
		r := NewReceiver()
		for i, seq := range sent {
			r.Receive(Header{Seq: seq, SSRC: 9}, frame(1), Audio, 0xff, time.Unix(int64(i), 0))
		}
		if s := r.Stats(); s.Lost != lost || s.Duplicates != doubled || s.Packets != len(sent) {
			t.Fatalf("lost %d, want %d; doubled %d, want %d", s.Lost, lost, s.Duplicates, doubled)
		}
	})
}

func pressKey(tr *Tracker, code uint8, ts uint32, bad func(i int, h *Header, e *Event)) {
	for i := range 8 {
		h := Header{Marker: i == 0, Timestamp: ts}
		e := Event{Code: code, End: i >= 5, Duration: uint16(160 * min(i+1, 6))}
		if bad != nil {
			bad(i, &h, &e)
		}
		tr.Receive(h, e, time.Unix(0, 0))
	}
}

func TestTracker(t *testing.T) {
	good := DTMFEvent{Digit: "5", DurationMS: 120, Packets: 8, EndPackets: 3, MarkerOK: true, TimestampOK: true, DurationOK: true}
	for name, tc := range map[string]struct {
		bad  func(i int, h *Header, e *Event)
		want func(e *DTMFEvent)
	}{
		"good":             {nil, func(*DTMFEvent) {}},
		"no marker":        {func(_ int, h *Header, _ *Event) { h.Marker = false }, func(e *DTMFEvent) { e.MarkerOK = false }},
		"two markers":      {func(i int, h *Header, _ *Event) { h.Marker = i < 2 }, func(e *DTMFEvent) { e.MarkerOK = false }},
		"moving timestamp": {func(i int, h *Header, _ *Event) { h.Timestamp += uint32(160 * min(i, 5)) }, func(e *DTMFEvent) { e.TimestampOK = false }},
		"growing end":      {func(i int, _ *Header, e *Event) { e.Duration = uint16(120 * (i + 1)) }, func(e *DTMFEvent) { e.DurationOK = false }},
		"never ended":      {func(_ int, _ *Header, e *Event) { e.End = false }, func(e *DTMFEvent) { e.EndPackets = 0 }},
	} {
		var tr Tracker
		pressKey(&tr, 5, 1000, tc.bad)
		pressKey(&tr, 5, 5000, nil)
		want := good
		tc.want(&want)
		got := tr.Events()
		if d := cmp.Diff([]DTMFEvent{want, good}, got, cmpopts.IgnoreFields(DTMFEvent{}, "At")); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// FuzzParse: header and payload of a packet that parses survive being written again.
func FuzzParse(f *testing.F) {
	f.Add(Header{PayloadType: 0, Seq: 1}.Append(nil, frame(0xff)))
	f.Add([]byte{0xb1, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 5, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		h, payload, err := Parse(in)
		if err != nil {
			return
		}
		again, p, err := Parse(h.Append(nil, payload))
		if err != nil || again != h || !bytes.Equal(p, payload) {
			t.Fatalf("%+v % x → %+v % x %v", h, payload, again, p, err)
		}
	})
}

// FuzzRTCP: a compound never says more reports than its bytes can hold.
func FuzzRTCP(f *testing.F) {
	f.Add(Outgoing{SSRC: 1, Packets: 1, CNAME: "a", Bye: true, Blocks: []Block{{}}}.Append(nil, time.Unix(1, 0)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _ := ParseRTCP(in)
		if parts := r.SenderReports + r.ReceiverReports + r.Descriptions + r.Byes; parts*8+r.Blocks*24 > len(in) {
			t.Fatalf("%+v from %d bytes", r, len(in))
		}
	})
}
