package wire

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestQueueModel holds the queue's promises under any course of events: what
// comes out is what went in, in order; nothing is lost that may not be; every
// record is accounted for.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &queueModel{clock: &ticker{}}
		m.limits = Limits{
			Bytes:   rapid.IntRange(0, 4<<10).Draw(t, "bytes"),
			Age:     60 * time.Millisecond,
			Reserve: rapid.IntRange(0, 1<<10).Draw(t, "reserve"),
		}
		m.q = NewQueue(m.limits, m.clock.now)
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"take":   m.take,
			"wait": func(t *rapid.T) {
				m.clock.advance(time.Duration(rapid.IntRange(0, 80).Draw(t, "ms")) * time.Millisecond)
			},
			"": m.check,
		})
		for len(m.expected) > 0 && m.q.Held() > 0 {
			m.takeInto(t, MaxBatch)
		}
		for _, w := range m.expected {
			if !w.droppable {
				t.Fatalf("record %d may not be dropped, and is missing", w.seq)
			}
		}
		s := m.q.Stats()
		if lost := s.DroppedFull + s.DroppedAge + s.Overflows; m.in != m.out+lost {
			t.Fatalf("%d in, %d out, %d counted as lost: %+v", m.in, m.out, lost, s)
		}
	})
}

type modelRecord struct {
	seq       uint32
	droppable bool
	entered   int64
	size      int
}

type queueModel struct {
	q        *Queue
	limits   Limits
	clock    *ticker
	next     uint32
	expected []modelRecord // taken in, not seen to come out
	in, out  uint64
}

func (m *queueModel) append(t *rapid.T) {
	m.next++
	r := Record{
		Kind:     Kind(rapid.IntRange(0, 5).Draw(t, "kind")),
		Sequence: m.next,
		Payload:  make([]byte, rapid.IntRange(0, 400).Draw(t, "size")),
	}
	if rapid.IntRange(0, 9).Draw(t, "end") == 0 {
		r.Flags = FlagEnd
	}
	m.in++
	ok := m.q.Append(&r)
	if !ok && r.droppable() {
		t.Fatal("sound refused")
	}
	if ok {
		m.expected = append(m.expected, modelRecord{m.next, r.droppable(), m.clock.ns, r.Size()})
	}
}

func (m *queueModel) take(t *rapid.T) {
	m.takeInto(t, rapid.IntRange(HeaderSize+400, 2<<10).Draw(t, "room"))
}

func (m *queueModel) takeInto(t *rapid.T, size int) {
	batch, _ := m.q.Take(make([]byte, 0, size))
	if len(batch) > size {
		t.Fatalf("batch of %d bytes in room for %d", len(batch), size)
	}
	for len(batch) > 0 {
		var r Record
		rest, err := r.Parse(batch)
		if err != nil {
			t.Fatal(err)
		}
		batch = rest
		m.came(t, &r)
	}
}

// came strikes a record off the list, and with it the sound before it, which
// can only have been dropped.
func (m *queueModel) came(t *rapid.T, r *Record) {
	for len(m.expected) > 0 {
		w := m.expected[0]
		m.expected = m.expected[1:]
		if w.seq == r.Sequence {
			if w.droppable && m.clock.ns-w.entered > int64(m.limits.Age) {
				t.Fatalf("record %d is too old", w.seq)
			}
			m.out++
			return
		}
		if !w.droppable {
			t.Fatalf("record %d came before %d, which may not be dropped", r.Sequence, w.seq)
		}
	}
	t.Fatalf("record %d came out of nowhere", r.Sequence)
}

func (m *queueModel) check(t *rapid.T) {
	if held, limit := m.q.Held(), m.limits.Bytes+2*m.limits.Reserve; held > limit {
		t.Fatalf("%d bytes held, limit %d", held, limit)
	}
}
