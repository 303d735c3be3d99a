package dtmf_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/patchbay/patchbay/sdk/media/dtmf"
)

// arrival is one received packet; its slot says when it comes, in ptimes.
type arrival struct {
	slot      int
	event     byte
	end       bool
	duration  uint16
	marker    bool
	timestamp uint32
	seq       uint16
}

func (a arrival) payload() []byte {
	flags := byte(10)
	if a.end {
		flags |= 0x80
	}
	return []byte{a.event, flags, byte(a.duration >> 8), byte(a.duration)}
}

// decode feeds a decoder slot by slot, and ten slots more.
func decode(d *dtmf.Decoder, arrivals []arrival) []dtmf.Digit {
	var got []dtmf.Digit
	emit := func(digit dtmf.Digit) { got = append(got, digit) }
	last := 0
	for _, a := range arrivals {
		last = max(last, a.slot)
	}
	for slot := range last + 10 {
		now := int64(slot) * int64(ptime)
		for _, a := range arrivals {
			if a.slot == slot {
				d.Push(now, a.payload(), a.marker, a.timestamp, a.seq, emit)
			}
		}
		d.Tick(now, emit)
	}
	return got
}

func TestDecoder(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tests := []struct {
		name     string
		arrivals []arrival
		want     []dtmf.Digit
		old      uint64
		lost     uint64
	}{
		{"whole event, three ends", []arrival{
			{0, 1, false, 160, true, 1000, 1},
			{1, 1, false, 320, false, 1000, 2},
			{2, 1, true, 480, false, 1000, 3},
			{3, 1, true, 480, false, 1000, 4},
			{4, 1, true, 480, false, 1000, 5},
		}, []dtmf.Digit{{'1', ms(60)}}, 2, 0},
		{"only the last end arrives", []arrival{{4, 15, true, 480, false, 1000, 5}}, []dtmf.Digit{{'D', ms(60)}}, 0, 0},
		{
			"no marker",
			[]arrival{{0, 10, false, 160, false, 1000, 1}, {1, 10, true, 320, false, 1000, 2}},
			[]dtmf.Digit{{'*', ms(40)}},
			0, 0,
		},
		{
			"all ends lost, then time passes",
			[]arrival{{0, 11, false, 160, true, 1000, 1}, {1, 11, false, 320, false, 1000, 2}},
			[]dtmf.Digit{{'#', ms(40)}},
			0, 1,
		},
		{
			"all ends lost, then the next event",
			[]arrival{{0, 5, false, 160, true, 1000, 1}, {1, 5, true, 160, true, 5000, 9}},
			[]dtmf.Digit{{'5', ms(20)}, {'5', ms(20)}},
			0, 1,
		},
		{"update after the time-out is no second digit", []arrival{
			{0, 5, false, 160, true, 1000, 1}, {6, 5, false, 1120, false, 1000, 7}, {7, 5, true, 1280, false, 1000, 8},
		}, []dtmf.Digit{{'5', ms(20)}}, 2, 1},
		{"end overtakes an update", []arrival{
			{0, 5, false, 160, true, 1000, 1}, {1, 5, true, 480, false, 1000, 3}, {1, 5, false, 320, false, 1000, 2},
		}, []dtmf.Digit{{'5', ms(60)}}, 1, 0},
		{"end overtaken by the next event", []arrival{
			{0, 5, false, 160, true, 1000, 1},
			{1, 6, false, 160, true, 3000, 4},
			{1, 5, true, 320, false, 1000, 3},
			{2, 6, true, 320, false, 3000, 5},
		}, []dtmf.Digit{{'5', ms(20)}, {'6', ms(40)}}, 1, 1},
		{"same packet twice", []arrival{
			{0, 5, false, 160, true, 1000, 1}, {0, 5, false, 160, true, 1000, 1}, {1, 5, true, 320, false, 1000, 2},
		}, []dtmf.Digit{{'5', ms(40)}}, 1, 0},
		{"timestamp and sequence number wrap", []arrival{
			{0, 5, false, 160, true, 0xFFFFFFF0, 0xFFFF},
			{1, 5, true, 320, false, 0xFFFFFFF0, 0},
			{8, 5, true, 160, true, 0x1000, 6},
		}, []dtmf.Digit{{'5', ms(40)}, {'5', ms(20)}}, 0, 0},
		{"timestamp moves with every packet", []arrival{
			{0, 5, false, 160, true, 1000, 1},
			{1, 5, false, 320, false, 1160, 2},
			{2, 5, true, 480, false, 1320, 3},
			{3, 5, true, 480, false, 1480, 4},
			{4, 5, true, 480, false, 1640, 5},
		}, []dtmf.Digit{{'5', ms(60)}}, 2, 0},
		{
			"sender starts again",
			[]arrival{{0, 5, true, 160, true, 900000, 40000}, {3, 5, true, 160, true, 1000, 1}},
			[]dtmf.Digit{{'5', ms(20)}, {'5', ms(20)}},
			0, 0,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d dtmf.Decoder
			if diff := cmp.Diff(test.want, decode(&d, test.arrivals)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			want := dtmf.DecoderStats{
				Packets: uint64(len(test.arrivals)), Digits: uint64(len(test.want)), Old: test.old, LostEnds: test.lost,
			}
			if diff := cmp.Diff(want, d.Stats); diff != "" {
				t.Errorf("stats, -want +got:\n%s", diff)
			}
		})
	}
}

func TestDecoderIgnores(t *testing.T) {
	var d dtmf.Decoder
	none := func(digit dtmf.Digit) { t.Errorf("yielded %v", digit) }
	d.Push(0, []byte{16, 0x8a, 0, 160}, true, 0, 1, none)
	d.Push(0, []byte{70, 0x8a, 0, 160}, true, 0, 2, none)
	d.Push(0, []byte{5, 0x8a, 0}, true, 0, 3, none)
	d.Push(0, nil, true, 0, 4, none)
	want := dtmf.DecoderStats{Packets: 4, Malformed: 2, Ignored: 2, Flash: 1}
	if diff := cmp.Diff(want, d.Stats); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDecoderReset(t *testing.T) {
	var d dtmf.Decoder
	got := 0
	emit := func(dtmf.Digit) { got++ }
	end := arrival{event: 5, end: true, duration: 160}
	d.Push(0, end.payload(), true, 1000, 1, emit)
	d.Reset()
	d.Push(0, end.payload(), true, 1000, 1, emit)
	if got != 2 || d.Stats.Digits != 2 {
		t.Errorf("%d digits of two sources, stats say %d", got, d.Stats.Digits)
	}
}

// send encodes digits and returns the packets in their slots.
func send(t interface{ Fatal(...any) }, digits []byte, duration time.Duration) (packets []arrival, eventOf []int) {
	e := dtmf.NewEncoder(ptime)
	for _, digit := range digits {
		if err := e.Add(digit, duration); err != nil {
			t.Fatal(err)
		}
	}
	number := -1
	for slot := 0; e.Busy(); slot++ {
		p, ok := e.Next(uint32(slot * frame))
		if !ok {
			continue
		}
		if p.Marker {
			number++
		}
		packets = append(packets, arrival{
			slot: slot, event: p.Payload[0], end: p.Payload[1]&0x80 != 0, duration: uint16(p.Payload[2])<<8 | uint16(p.Payload[3]),
			marker: p.Marker, timestamp: p.Timestamp, seq: uint16(65500 + slot),
		})
		eventOf = append(eventOf, number)
	}
	return packets, eventOf
}

// TestThroughBadNetwork loses, doubles and delays the encoder's packets. Each
// digit of which anything came before the next one's packets is yielded, once.
func TestThroughBadNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.SliceOfN(rapid.SampledFrom([]byte("0123456789*#ABCD")), 1, 8).Draw(t, "digits")
		duration := time.Duration(rapid.IntRange(60, 400).Draw(t, "ms")) * time.Millisecond
		packets, eventOf := send(t, digits, duration)
		type delivery struct {
			arrival
			event int
		}
		var deliveries []delivery
		for i, p := range packets {
			for range rapid.SampledFrom([]int{1, 1, 1, 0, 0, 2}).Draw(t, "copies") {
				copied := p
				copied.slot += rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "late")
				deliveries = append(deliveries, delivery{copied, eventOf[i]})
			}
		}
		slices.SortStableFunc(deliveries, func(a, b delivery) int { return a.slot - b.slot })
		var arrivals []arrival
		want, newest := "", -1
		for _, d := range deliveries {
			arrivals = append(arrivals, d.arrival)
			if d.event > newest {
				newest = d.event
				want += string(digits[d.event])
			}
		}
		var decoder dtmf.Decoder
		got := ""
		for _, digit := range decode(&decoder, arrivals) {
			got += string(digit.Digit)
			if digit.Duration > duration+ptime {
				t.Fatalf("%c lasted %v of %v", digit.Digit, digit.Duration, duration)
			}
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestLongEvents(t *testing.T) {
	packets, _ := send(t, []byte("7"), 20*time.Second)
	var d dtmf.Decoder
	if diff := cmp.Diff([]dtmf.Digit{{'7', 20 * time.Second}}, decode(&d, packets)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The packets around the ends of segments are lost: a few, and so many that the event is thought to be over.
	for _, test := range []struct {
		from, to uint16
		want     time.Duration
	}{{230, 0xFFFE, 20 * time.Second}, {300, 0xFF00, 0xFE60 * time.Second / 8000}} {
		var cut []arrival
		for _, p := range packets {
			if p.duration > test.from && p.duration < test.to {
				cut = append(cut, p)
			}
		}
		d = dtmf.Decoder{}
		if diff := cmp.Diff([]dtmf.Digit{{'7', test.want}}, decode(&d, cut)); diff != "" {
			t.Errorf("durations in %d to %d only, -want +got:\n%s", test.from, test.to, diff)
		}
	}
}

// FuzzDecoder checks that any packets yield at most one digit each, and all are accounted for.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{1, 0x0a, 0, 160, 1, 0, 1, 0x8a, 1, 64, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var d dtmf.Decoder
		var digits, packets uint64
		emit := func(digit dtmf.Digit) {
			digits++
			if digit.Duration < 0 {
				t.Fatalf("digit of negative length: %v", digit)
			}
		}
		var now int64
		var seq uint16
		for len(in) >= 6 {
			seq += uint16(in[5] & 3)
			now += int64(in[5]>>2) * int64(time.Millisecond)
			d.Push(now, in[:4], in[4]&1 != 0, uint32(in[4]>>1)*80, seq, emit)
			packets++
			in = in[6:]
		}
		d.Tick(now+int64(time.Second), emit)
		if digits > packets || digits != d.Stats.Digits || packets != d.Stats.Packets || d.Stats.Ignored+d.Stats.Old > packets {
			t.Fatalf("%d digits of %d packets, stats %+v", digits, packets, d.Stats)
		}
		d.Tick(now+int64(time.Hour), func(digit dtmf.Digit) { t.Fatalf("%v a second time", digit) })
	})
}

func TestDecoderNoAllocation(t *testing.T) {
	var d dtmf.Decoder
	payload := arrival{event: 5, end: true, duration: 160}.payload()
	emit := func(dtmf.Digit) {}
	var n uint32
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		d.Push(int64(n)*int64(ptime), payload, true, n*frame, uint16(n), emit)
	}); allocs != 0 {
		t.Errorf("Push allocates %v times", allocs)
	}
}

func BenchmarkDecoderPush(b *testing.B) {
	var d dtmf.Decoder
	payload := arrival{event: 5, end: true, duration: 160}.payload()
	emit := func(dtmf.Digit) {}
	var n uint32
	b.ReportAllocs()
	for b.Loop() {
		n++
		d.Push(int64(n)*int64(ptime), payload, true, n*frame, uint16(n), emit)
	}
}
