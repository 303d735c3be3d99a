package wire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ticker is a clock that stands until it is moved.
type ticker struct{ ns int64 }

func (c *ticker) now() int64              { return c.ns }
func (c *ticker) advance(d time.Duration) { c.ns += int64(d) }

// room is a bound for n records with a payload of 160 bytes.
func room(n int) int { return n * (stamp + HeaderSize + 160) }

func newTestQueue(bytes, reserve int) (*Queue, *ticker) {
	c := &ticker{}
	return NewQueue(Limits{Bytes: bytes, Age: 60 * time.Millisecond, Reserve: reserve}, c.now), c
}

func sound(seq uint32) *Record {
	return &Record{Kind: KindAudio, Stream: 1, Sequence: seq, Payload: make([]byte, 160)}
}

func mark(seq uint32) *Record {
	return &Record{Kind: KindMark, Stream: 1, Sequence: seq, Payload: make([]byte, 160)}
}

// drain takes everything there is.
func drain(tb testing.TB, q *Queue) []Record {
	tb.Helper()
	var all []byte
	for more := true; more; {
		var batch []byte
		batch, more = q.Take(make([]byte, 0, MaxBatch))
		all = append(all, batch...)
	}
	return parseAll(tb, all)
}

func sequences(rs []Record) []uint32 {
	out := []uint32{}
	for _, r := range rs {
		out = append(out, r.Sequence)
	}
	return out
}

func expect(t *testing.T, q *Queue, want ...uint32) {
	t.Helper()
	if diff := cmp.Diff(append([]uint32{}, want...), sequences(drain(t, q))); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

func append1(t *testing.T, q *Queue, rs ...*Record) {
	t.Helper()
	for _, r := range rs {
		if !q.Append(r) {
			t.Fatalf("record %d refused", r.Sequence)
		}
	}
}

func TestQueueKeepsOrderAndContent(t *testing.T) {
	q, _ := newTestQueue(1<<16, 1<<10)
	records := goldenRecords()
	for i := range records {
		append1(t, q, &records[i])
	}
	records[0].Payload[0] = 0 // the queue has its own copy
	if diff := cmp.Diff(goldenRecords(), drain(t, q)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if s := q.Stats(); s != (QueueStats{Records: 6}) {
		t.Errorf("stats %+v", s)
	}
	if q.Held() != 0 {
		t.Errorf("%d bytes held of an empty queue", q.Held())
	}
}

func TestQueueDropsOldestSound(t *testing.T) {
	q, _ := newTestQueue(room(3), room(1))
	append1(t, q, sound(1), sound(2), sound(3), sound(4), sound(5))
	if held := q.Held(); held > room(3) {
		t.Errorf("%d bytes held, limit %d", held, room(3))
	}
	expect(t, q, 3, 4, 5)
	if s := q.Stats(); s.DroppedFull != 2 || s.Records != 5 || s.Overflows != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestQueueDropsOldSound(t *testing.T) {
	q, c := newTestQueue(1<<16, 1<<10)
	append1(t, q, sound(1), mark(2))
	c.advance(30 * time.Millisecond)
	append1(t, q, sound(3))
	c.advance(30 * time.Millisecond) // 1 is just not too old
	q2, c2 := newTestQueue(1<<16, 1<<10)
	append1(t, q2, sound(1))
	c2.advance(60 * time.Millisecond)
	expect(t, q2, 1)

	c.advance(time.Nanosecond)
	expect(t, q, 2, 3)
	if s := q.Stats(); s.DroppedAge != 1 || s.DroppedFull != 0 {
		t.Errorf("stats %+v", s)
	}
}

// What is not sound stays, in its place, at sound's cost.
func TestQueueKeepsControlInPlace(t *testing.T) {
	q, _ := newTestQueue(room(3), room(2))
	append1(t, q, sound(1), mark(2), sound(3), mark(4), sound(5), sound(6), sound(7), sound(8))
	expect(t, q, 2, 4, 6, 7, 8)
	if s := q.Stats(); s.DroppedFull != 3 || s.Overflows != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestQueueOverflow(t *testing.T) {
	// Room for 2 sounds and a reserve of 2 beyond, in the ring and aside.
	q, _ := newTestQueue(room(2), room(2))
	var taken []uint32
	for seq := uint32(1); ; seq++ {
		if !q.Append(mark(seq)) {
			break
		}
		taken = append(taken, seq)
	}
	if len(taken) < 4 || q.Held() > room(6) {
		t.Errorf("%d marks taken, %d bytes held", len(taken), q.Held())
	}
	if s := q.Stats(); s.Overflows != 1 || s.DroppedFull != 0 {
		t.Errorf("stats %+v", s)
	}
	if !q.Append(sound(100)) {
		t.Error("sound without room is dropped, not an overflow")
	}
	if s := q.Stats(); s.Overflows != 1 || s.DroppedFull != 1 {
		t.Errorf("stats after sound %+v", s)
	}
	expect(t, q, taken...)
	append1(t, q, mark(200)) // there is room again
	expect(t, q, 200)
}

// A record that no batch can hold would stop the sender for ever.
func TestQueueRefusesTooLong(t *testing.T) {
	q, _ := newTestQueue(1<<20, 1<<20)
	append1(t, q, sound(1))
	if !q.Append(&Record{Payload: make([]byte, MaxBatch-HeaderSize+1)}) {
		t.Error("sound that is too long ends no leg")
	}
	if q.Append(&Record{Kind: KindMark, Payload: make([]byte, MaxPayload)}) {
		t.Error("a mark that is too long was taken")
	}
	if q.Append(&Record{Kind: KindMark, Payload: make([]byte, MaxPayload+1)}) {
		t.Error("a mark longer than its length field was taken")
	}
	longest := &Record{Kind: KindMark, Sequence: 2, Payload: make([]byte, MaxBatch-HeaderSize)}
	append1(t, q, longest)
	expect(t, q, 1, 2)
	if s := q.Stats(); s.DroppedFull != 1 || s.Overflows != 2 || s.Records != 2 {
		t.Errorf("stats %+v", s)
	}
}

// One record larger than the whole queue pushes nothing out.
func TestQueueTooLongForLimitKeepsTheRest(t *testing.T) {
	q, _ := newTestQueue(room(2), 0)
	append1(t, q, sound(1), sound(2), &Record{Sequence: 3, Payload: make([]byte, 1000)})
	expect(t, q, 1, 2)
}

func TestTakeBounds(t *testing.T) {
	q, _ := newTestQueue(1<<20, 1<<20)
	for seq := range uint32(1000) {
		append1(t, q, sound(seq))
	}
	size := sound(0).Size()
	small, more := q.Take(make([]byte, 0, 2*size+1))
	if len(small) != 2*size || !more {
		t.Fatalf("took %d bytes, more %v", len(small), more)
	}
	batch, more := q.Take(make([]byte, 0, 1<<20))
	if len(batch) > MaxBatch || len(batch) != MaxBatch/size*size || !more {
		t.Errorf("took %d bytes, more %v", len(batch), more)
	}
	if first := parseAll(t, batch)[0].Sequence; first != 2 {
		t.Errorf("second batch begins with %d", first)
	}
	rest := drain(t, q)
	if last := rest[len(rest)-1].Sequence; last != 999 {
		t.Errorf("last is %d", last)
	}
	if _, more = q.Take(make([]byte, 0, MaxBatch)); more {
		t.Error("more of an empty queue")
	}
}

// Records set aside leave over several batches, before all others.
func TestTakeOfKeptRecords(t *testing.T) {
	q, _ := newTestQueue(room(2), room(3))
	append1(t, q, mark(1), mark(2), sound(3), sound(4), mark(5), mark(6), mark(7), mark(8))
	var got []uint32
	for more := true; more; {
		var batch []byte
		batch, more = q.Take(make([]byte, 0, sound(0).Size()))
		got = append(got, sequences(parseAll(t, batch))...)
	}
	if diff := cmp.Diff([]uint32{1, 2, 4, 5, 6, 7, 8}, got); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

func TestQueueClose(t *testing.T) {
	q, _ := newTestQueue(1<<16, 1<<10)
	append1(t, q, sound(1))
	q.Close()
	append1(t, q, mark(2), sound(3))
	expect(t, q)
	if s := q.Stats(); s.DroppedClose != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestQueueAllocatesNothing(t *testing.T) {
	q, _ := newTestQueue(DefaultLimits.Bytes, DefaultLimits.Reserve)
	buf := make([]byte, 0, MaxBatch)
	r := sound(1)
	round := func() {
		for range 300 {
			q.Append(r)
		}
		for more := true; more; {
			_, more = q.Take(buf)
		}
	}
	round() // the ring grows once
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations for 300 records", n)
	}
}

// A sender that is always a little behind must not make the memory grow.
func TestQueueMemoryIsBounded(t *testing.T) {
	q, _ := newTestQueue(DefaultLimits.Bytes, DefaultLimits.Reserve)
	buf := make([]byte, 0, 8<<10)
	r := sound(1)
	for range 20_000 {
		for range 43 { // 43 of 184 bytes go into 8 KiB, with no more than their like
			q.Append(r)
		}
		q.Take(buf)
	}
	if limit := 2 * (DefaultLimits.Bytes + DefaultLimits.Reserve); cap(q.ring) > limit {
		t.Errorf("ring of %d bytes, want at most %d", cap(q.ring), limit)
	}
}

// What is lost is told to its leg, and nothing else is.
func TestQueueTellsOfDrops(t *testing.T) {
	var now int64
	q := NewQueue(Limits{Bytes: 2 * (stamp + HeaderSize + 160), Age: time.Millisecond, Reserve: 1 << 10}, func() int64 { return now })
	lost := map[StreamID]int{}
	q.OnDrop(func(id StreamID) { lost[id]++ })
	for id := range StreamID(4) {
		q.Append(&Record{Stream: id, Payload: make([]byte, 160)})
	}
	q.Append(&Record{Stream: 9, Kind: KindClear})
	now += 2 * int64(time.Millisecond)
	if batch, _ := q.Take(make([]byte, 0, MaxBatch)); len(batch) != HeaderSize {
		t.Errorf("%d bytes left, want the one record that may not be dropped", len(batch))
	}
	q.Close()
	q.Append(&Record{Stream: 3, Payload: make([]byte, 160)})
	for id, want := range map[StreamID]int{0: 1, 1: 1, 2: 1, 3: 2, 9: 0} {
		if lost[id] != want {
			t.Errorf("stream %d: told of %d drops, want %d", id, lost[id], want)
		}
	}
}
