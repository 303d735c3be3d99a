package jitter_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/patchbay/patchbay/sdk/media/jitter"
)

const ms = int64(time.Millisecond)

// step is one thing that happens to a buffer: a packet (seq ≥ 0) or a tick at a time in ms.
type step struct {
	at   int64
	seq  int
	ssrc uint32
}

// tick at the given time.
func tick(at int64) step { return step{at: at, seq: -1} }

// header makes a header whose timestamp fits the sequence number.
func header(seq int, ssrc uint32) jitter.Header {
	return jitter.Header{SSRC: ssrc, Seq: uint16(seq), Timestamp: uint32(seq * 160)}
}

// run plays steps; each emitted packet becomes "seq@ms", "-n" before it for losses, "!" for a reset.
func run(b *jitter.Buffer, steps []step) []string {
	var got []string
	for _, s := range steps {
		emit := func(p jitter.Packet) {
			text := fmt.Sprintf("%d@%d", p.Seq, s.at)
			if p.Lost > 0 {
				text = fmt.Sprintf("-%d ", p.Lost) + text
			}
			if p.Reset {
				text = "!" + text
			}
			if want := fmt.Sprint(p.Seq); string(p.Payload) != want {
				text += " with the payload of " + string(p.Payload)
			}
			got = append(got, text)
		}
		if s.seq < 0 {
			b.Tick(s.at*ms, emit)
			continue
		}
		b.Push(s.at*ms, header(s.seq, s.ssrc), []byte(fmt.Sprint(uint16(s.seq))), emit)
	}
	return got
}

func TestBuffer(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
		want  []string
		stats jitter.Stats
	}{
		{
			"in order, at once",
			[]step{{0, 5, 0}, {35, 6, 0}, {41, 7, 0}},
			[]string{"!5@0", "6@35", "7@41"},
			jitter.Stats{Received: 3, Delivered: 3},
		},
		{
			"overtaken",
			[]step{{0, 1, 0}, {20, 3, 0}, {25, 2, 0}, {40, 4, 0}},
			[]string{"!1@0", "2@25", "3@25", "4@40"},
			jitter.Stats{Received: 4, Delivered: 4, Reordered: 1},
		},
		{
			"lost",
			[]step{{0, 1, 0}, {20, 3, 0}, tick(39), tick(40), {41, 4, 0}},
			[]string{"!1@0", "-1 3@40", "4@41"},
			jitter.Stats{Received: 3, Delivered: 3, Lost: 1},
		},
		{
			"lost, and nobody ticks",
			[]step{{0, 1, 0}, {20, 3, 0}, {41, 4, 0}},
			[]string{"!1@0", "-1 3@41", "4@41"},
			jitter.Stats{Received: 3, Delivered: 3, Lost: 1},
		},
		{
			"two gaps, each with its own wait",
			[]step{{0, 1, 0}, {20, 3, 0}, {30, 5, 0}, tick(40), tick(49), tick(50)},
			[]string{"!1@0", "-1 3@40", "-1 5@50"},
			jitter.Stats{Received: 3, Delivered: 3, Lost: 2},
		},
		{
			"late, then the wait is longer",
			[]step{{0, 1, 0}, {20, 3, 0}, tick(40), {60, 2, 0}, {61, 5, 0}, tick(100), {101, 4, 0}},
			[]string{"!1@0", "-1 3@40", "4@101", "5@101"},
			jitter.Stats{Received: 5, Delivered: 4, Lost: 1, Late: 1, Reordered: 1},
		},
		{
			"duplicates, delivered and held",
			[]step{{0, 1, 0}, {1, 1, 0}, {20, 3, 0}, {21, 3, 0}, {22, 2, 0}},
			[]string{"!1@0", "2@22", "3@22"},
			jitter.Stats{Received: 5, Delivered: 3, Duplicate: 2, Reordered: 1},
		},
		{
			"wrap",
			[]step{{0, 65534, 0}, {20, 65535, 0}, {40, 65537, 0}, {41, 65536, 0}},
			[]string{"!65534@0", "65535@20", "0@41", "1@41"},
			jitter.Stats{Received: 4, Delivered: 4, Reordered: 1},
		},
		{
			"burst loss is not waited for",
			[]step{{0, 1, 0}, {1000, 51, 0}, {1020, 52, 0}},
			[]string{"!1@0", "-49 51@1000", "52@1020"},
			jitter.Stats{Received: 3, Delivered: 3, Lost: 49},
		},
		{
			"new source",
			[]step{{0, 1, 7}, {20, 3, 7}, {21, 900, 8}, {40, 901, 8}},
			[]string{"!1@0", "-1 3@21", "!900@21", "901@40"},
			jitter.Stats{Received: 4, Delivered: 4, Lost: 1, Sources: 1},
		},
		{
			"one stray",
			[]step{{0, 1, 0}, {20, 30000, 0}, {21, 2, 0}, {22, 30001, 0}},
			[]string{"!1@0", "2@21"},
			jitter.Stats{Received: 4, Delivered: 2, Stray: 2},
		},
		{
			"jump",
			[]step{{0, 10000, 0}, {20, 5, 0}, {40, 6, 0}, {60, 7, 0}},
			[]string{"!10000@0", "!6@40", "7@60"},
			jitter.Stats{Received: 4, Delivered: 3, Stray: 1, Jumps: 1},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := jitter.NewBuffer(8000)
			if diff := cmp.Diff(test.want, run(b, test.steps)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(test.stats, b.Stats()); diff != "" {
				t.Errorf("stats, -want +got:\n%s", diff)
			}
		})
	}
}

func TestOversizeAndReset(t *testing.T) {
	b := jitter.NewBuffer(8000)
	none := func(p jitter.Packet) { t.Errorf("emitted %v", p.Header) }
	b.Push(0, header(1, 0), make([]byte, jitter.MaxPayload+1), none)
	some := 0
	count := func(jitter.Packet) { some++ }
	b.Push(0, header(1, 0), make([]byte, jitter.MaxPayload), count)
	b.Push(0, header(3, 0), make([]byte, jitter.MaxPayload), none)
	b.Reset()
	b.Tick(time.Hour.Nanoseconds(), none)
	b.Push(0, header(50000, 0), nil, count)
	if some != 2 || b.Held() != 0 || b.Stats().Oversize != 1 || b.Stats().Stray != 0 {
		t.Errorf("%d emitted, %d held, stats %+v", some, b.Held(), b.Stats())
	}
}

func TestDelayAdapts(t *testing.T) {
	b := jitter.NewBuffer(8000)
	var steps []step
	at, seq := int64(0), 1
	overtaken := func(by int64) {
		steps = append(steps, step{at, seq, 0}, step{at + 20, seq + 2, 0}, tick(at+20+by), step{at + 20 + by, seq + 1, 0})
		at, seq = at+200, seq+3
	}
	overtaken(70)
	run(b, steps)
	if got := b.Delay(); got != 75*time.Millisecond {
		t.Errorf("after a packet 70 ms late the wait is %v, want 75ms", got)
	}
	if b.Stats().Late != 1 {
		t.Errorf("stats %+v, want one late", b.Stats())
	}
	steps = nil
	overtaken(70)
	run(b, steps)
	if b.Stats().Late != 1 {
		t.Errorf("a second packet as late was not waited for: %+v", b.Stats())
	}
	steps = nil
	for range 100 { // losses that no wait helps
		steps = append(steps, step{at, seq, 0}, step{at + 20, seq + 2, 0}, tick(at+200))
		at, seq = at+220, seq+3
	}
	run(b, steps)
	if got := b.Delay(); got > jitter.StartDelay+time.Millisecond {
		t.Errorf("after 100 losses the wait is %v, want about %v", got, jitter.StartDelay)
	}
}

// TestAnyNetwork checks, for any loss, doubling and delay: the order is kept, no
// packet is emitted twice or altered, nobody waits longer than MaxDelay and a
// tick, and every packet is accounted for.
func TestAnyNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type delivery struct {
			at  int64
			seq int
		}
		n := rapid.IntRange(1, 120).Draw(t, "packets")
		first := rapid.IntRange(0, 65535).Draw(t, "first")
		var deliveries []delivery
		for i := range n {
			for range rapid.SampledFrom([]int{1, 1, 1, 1, 0, 2}).Draw(t, "copies") {
				late := rapid.SampledFrom([]int64{0, 0, 0, 3, 25, 60, 200}).Draw(t, "late")
				deliveries = append(deliveries, delivery{int64(20*i) + late, first + i})
			}
		}
		slices.SortStableFunc(deliveries, func(a, b delivery) int { return int(a.at - b.at) })
		b := jitter.NewBuffer(8000)
		last, lost := -1, 0
		var now int64
		emit := func(p jitter.Packet) {
			seq := int(binary.BigEndian.Uint32(p.Payload))
			if p.Seq != uint16(seq) || p.Timestamp != uint32(seq*160) {
				t.Fatalf("packet %d has the header of %d", seq, p.Seq)
			}
			if last >= 0 && seq != last+1+p.Lost {
				t.Fatalf("%d after %d with %d lost", seq, last, p.Lost)
			}
			if now-p.Arrival > int64(jitter.MaxDelay)+5*ms {
				t.Fatalf("%d waited %d ms", seq, (now-p.Arrival)/ms)
			}
			last = seq
			lost += p.Lost
		}
		for i := 0; i < len(deliveries) || b.Held() > 0; now += 5 * ms {
			for ; i < len(deliveries) && deliveries[i].at*ms <= now; i++ {
				payload := binary.BigEndian.AppendUint32(nil, uint32(deliveries[i].seq))
				b.Push(now, header(deliveries[i].seq, 1), payload, emit)
			}
			b.Tick(now, emit)
		}
		s := b.Stats()
		if s.Received != uint64(len(deliveries)) || s.Received != s.Delivered+s.Late+s.Duplicate || s.Lost != uint64(lost) {
			t.Fatalf("%d packets, %d lost, stats %+v", len(deliveries), lost, s)
		}
	})
}

// FuzzBuffer checks the account and the order for packets that nobody sane would send.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 3, 1, 0, 2, 1, 0, 200, 0})
	f.Add([]byte{0, 0, 1, 117, 48, 1, 117, 49, 1, 117, 52, 90})
	f.Fuzz(func(t *testing.T, in []byte) {
		b := jitter.NewBuffer(8000)
		var now int64
		var emitted uint64
		var last jitter.Header
		emit := func(p jitter.Packet) {
			if emitted > 0 && !p.Reset && p.Seq != last.Seq+1+uint16(p.Lost) {
				t.Fatalf("%d after %d with %d lost", p.Seq, last.Seq, p.Lost)
			}
			if p.Reset && p.Lost != 0 {
				t.Fatalf("%d lost before a new sequence", p.Lost)
			}
			emitted++
			last = p.Header
		}
		for ; len(in) >= 3; in = in[3:] {
			now += int64(in[2]>>2) * ms
			b.Push(now, header(int(binary.BigEndian.Uint16(in)), uint32(in[2]&1)), in[:2], emit)
			b.Report()
		}
		s := b.Stats()
		if s.Received != s.Delivered+s.Late+s.Duplicate+s.Stray+uint64(b.Held()) || s.Delivered != emitted {
			t.Fatalf("%d emitted, %d held, stats %+v", emitted, b.Held(), s)
		}
		b.Tick(now+int64(time.Minute), emit)
		if b.Held() != 0 {
			t.Fatalf("%d held after a minute", b.Held())
		}
	})
}

func TestNoAllocation(t *testing.T) {
	b := jitter.NewBuffer(8000)
	payload := make([]byte, 160)
	emit := func(jitter.Packet) {}
	seq := 0
	push := func() { // every second pair swapped, now and then one lost
		for _, d := range []int{0, 1, 3, 2, 5} {
			b.Push(int64(seq+d)*20*ms, header(seq+d, 1), payload, emit)
		}
		b.Tick(int64(seq+5)*20*ms, emit)
		seq += 6
	}
	push() // the slots are made at the first gap
	if n := testing.AllocsPerRun(1000, push); n != 0 {
		t.Errorf("Push allocates %v times", n)
	}
	if s := b.Stats(); s.Reordered == 0 || s.Lost == 0 {
		t.Errorf("the run met no reordering or loss: %+v", s)
	}
}

func BenchmarkPushInOrder(b *testing.B) {
	buffer := jitter.NewBuffer(8000)
	payload := make([]byte, 160)
	emit := func(jitter.Packet) {}
	seq := 0
	b.ReportAllocs()
	for b.Loop() {
		buffer.Push(int64(seq)*20*ms, header(seq, 1), payload, emit)
		seq++
	}
}

func BenchmarkPushReordered(b *testing.B) {
	buffer := jitter.NewBuffer(8000)
	payload := make([]byte, 160)
	emit := func(jitter.Packet) {}
	seq := 0
	buffer.Push(0, header(seq, 1), payload, emit)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		buffer.Push(int64(seq)*20*ms, header(seq^1, 1), payload, emit)
	}
}
