package wire

import (
	"encoding/binary"
	"sync"
	"time"
)

// Limits bound a Queue.
type Limits struct {
	Bytes   int           // sound held at most, packed bytes
	Age     time.Duration // older sound is dropped
	Reserve int           // bytes of records that may not be dropped, beyond Bytes
}

// DefaultLimits are design §4's: what 60 ms of 1000 calls need.
var DefaultLimits = Limits{Bytes: 256 << 10, Age: 60 * time.Millisecond, Reserve: 16 << 10}

// QueueStats count what a queue did, since it was made.
type QueueStats struct {
	Records      uint64 // taken in
	DroppedFull  uint64 // sound, the oldest first, for want of room; or too long for any batch
	DroppedAge   uint64 // sound older than Limits.Age
	Overflows    uint64 // records that may not be dropped but found no room
	DroppedClose uint64 // taken in after Close
}

// Queue holds packed records between the readers that append to it and the one
// sender that empties it. Append never blocks and does not allocate; sound is
// dropped oldest first when the sender falls behind, all else is kept in its
// place within the small reserve.
type Queue struct {
	limits Limits
	now    func() int64

	mu     sync.Mutex
	ring   []byte // whole records, each with its time of entry in front
	head   int    // start of the oldest record
	tail   int    // end of the newest
	kept   []byte // records that may not be dropped and were at the head when room was made; older than all in ring
	closed bool
	stats  QueueStats
	onDrop func(StreamID)

	ready chan struct{} // capacity 1: something to send
}

const stamp = 8 // bytes of the entry time in front of each record

// NewQueue makes a queue; now is the clock ages are measured with, in ns.
func NewQueue(limits Limits, now func() int64) *Queue {
	return &Queue{limits: limits, now: now, ready: make(chan struct{}, 1)}
}

// OnDrop sets what is told of each sound record that is lost, for the figures of
// its leg. It is called with the queue's lock held: it must not block. Set it
// before the queue is used.
func (q *Queue) OnDrop(fn func(StreamID)) { q.onDrop = fn }

// lose counts a sound record that goes no further.
func (q *Queue) lose(id StreamID, reason *uint64) {
	*reason++
	if q.onDrop != nil {
		q.onDrop(id)
	}
}

// Append copies r in. It reports false when r may not be dropped and the
// reserve is full too, or no batch can hold it: the caller ends r's leg, which
// is out of control.
func (q *Queue) Append(r *Record) bool {
	now := q.now()
	q.mu.Lock()
	ok := q.append(r, now)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return ok
}

func (q *Queue) append(r *Record, now int64) bool {
	if q.closed {
		q.lose(r.Stream, &q.stats.DroppedClose)
		return true
	}
	need := stamp + r.Size()
	limit := q.limits.Bytes
	if !r.droppable() {
		limit += q.limits.Reserve
	}
	if r.Size() > MaxBatch || need > limit { // it would block the sender, or push all else out in vain
		return q.refuse(r)
	}
	for q.tail-q.head+need > limit {
		if !q.makeRoom(&q.stats.DroppedFull) {
			return q.refuse(r)
		}
	}
	q.compact(need)
	q.ring = binary.LittleEndian.AppendUint64(q.ring[:q.tail], uint64(now))
	q.ring = r.Append(q.ring)
	q.tail = len(q.ring)
	q.stats.Records++
	return true
}

// refuse counts a record that finds no room, and says whether that is no harm.
func (q *Queue) refuse(r *Record) bool {
	if r.droppable() {
		q.lose(r.Stream, &q.stats.DroppedFull)
		return true
	}
	q.stats.Overflows++
	return false
}

// makeRoom removes the record at the head: sound is lost and counted, others
// move to kept, whose order is older than all of the ring's.
func (q *Queue) makeRoom(dropped *uint64) bool {
	rec, n := q.at(q.head)
	if rec.droppable() {
		q.lose(rec.Stream, dropped)
		q.head += n
		return true
	}
	if len(q.kept)+n-stamp > q.limits.Reserve {
		return false
	}
	q.kept = append(q.kept, q.ring[q.head+stamp:q.head+n]...)
	q.head += n
	return true
}

// at reads the record at i and its length with the stamp.
func (q *Queue) at(i int) (Record, int) {
	var r Record
	rest, err := r.Parse(q.ring[i+stamp : q.tail])
	if err != nil { // only what append wrote stands here
		panic("wire: queue is corrupt: " + err.Error())
	}
	return r, q.tail - i - len(rest)
}

// compact moves what is queued to the front where the memory would have to
// grow and at least half of it is dead, so that a byte moves at most once for
// each byte that has left and the memory stays under twice the limits.
func (q *Queue) compact(need int) {
	if q.head == q.tail {
		q.head, q.tail = 0, 0
		return
	}
	if q.tail+need > cap(q.ring) && q.head >= q.tail-q.head {
		q.tail = copy(q.ring, q.ring[q.head:q.tail])
		q.head = 0
	}
}

// Ready is signalled when there may be something to take.
func (q *Queue) Ready() <-chan struct{} { return q.ready }

// Take moves as many whole records as fit into dst (its capacity, which should
// be MaxBatch, and at most MaxBatch bytes) and reports whether more are waiting.
// Sound that is too old is dropped on the way.
func (q *Queue) Take(dst []byte) (batch []byte, more bool) {
	now := q.now()
	batch = dst[:0]
	room := min(cap(dst), MaxBatch)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.kept) > 0 {
		n := wholeRecords(q.kept, room)
		batch = append(batch, q.kept[:n]...)
		q.kept = q.kept[:copy(q.kept, q.kept[n:])]
		if len(q.kept) > 0 {
			return batch, true
		}
	}
	for q.head < q.tail {
		rec, n := q.at(q.head)
		entered := int64(binary.LittleEndian.Uint64(q.ring[q.head:]))
		if rec.droppable() && now-entered > int64(q.limits.Age) {
			q.lose(rec.Stream, &q.stats.DroppedAge)
			q.head += n
			continue
		}
		if len(batch)+n-stamp > room {
			return batch, true
		}
		batch = append(batch, q.ring[q.head+stamp:q.head+n]...)
		q.head += n
	}
	return batch, false
}

// wholeRecords is the length of the longest run of whole records in b that
// fits into room.
func wholeRecords(b []byte, room int) int {
	n := 0
	for len(b)-n >= HeaderSize {
		size := HeaderSize + int(binary.LittleEndian.Uint16(b[n:]))
		if n+size > min(room, len(b)) {
			break
		}
		n += size
	}
	return n
}

// Close empties the queue and refuses what comes later.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ring, q.kept, q.head, q.tail = nil, nil, 0, 0
}

// Stats returns the counters.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

// Held is the number of bytes waiting.
func (q *Queue) Held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tail - q.head + len(q.kept)
}
