package engine

import (
	"encoding/binary"
	"slices"
)

// recordOverhead is what a queued message costs beside its payload: sequence (8), time (8), length (4), op (1), spare.
const recordOverhead = 24

// firstRing is the size a queue starts with: two media messages, the usual depth.
const firstRing = 2 << 10

// record describes one queued message.
type record struct {
	seq  uint64
	at   int64 // when it was queued
	size int
	op   Op
}

// ring is a byte ring of messages. It grows by doubling up to its bound and never shrinks, so that a steady flow
// allocates nothing.
type ring struct {
	buf   []byte
	head  int // of the oldest record
	used  int
	count int
	bound int
}

// fits reports whether a message of size bytes can be queued without dropping another.
func (r *ring) fits(size int) bool { return r.used+recordOverhead+size <= r.bound }

// push queues a message that fits.
func (r *ring) push(rec record, data []byte) {
	r.reserve(r.used + recordOverhead + len(data))
	var h [recordOverhead]byte
	binary.LittleEndian.PutUint64(h[0:], rec.seq)
	binary.LittleEndian.PutUint64(h[8:], uint64(rec.at))
	binary.LittleEndian.PutUint32(h[16:], uint32(len(data)))
	h[20] = byte(rec.op)
	r.write(h[:])
	r.write(data)
	r.count++
}

// oldest describes the next message out.
func (r *ring) oldest() (record, bool) {
	if r.count == 0 {
		return record{}, false
	}
	var h [recordOverhead]byte
	r.copyOut(h[:], 0)
	return record{
		seq:  binary.LittleEndian.Uint64(h[0:]),
		at:   int64(binary.LittleEndian.Uint64(h[8:])),
		size: int(binary.LittleEndian.Uint32(h[16:])),
		op:   Op(h[20]),
	}, true
}

// take removes the oldest message, which rec describes, and appends its payload to dst.
func (r *ring) take(rec record, dst []byte) []byte {
	n := len(dst)
	dst = slices.Grow(dst, rec.size)[:n+rec.size]
	r.copyOut(dst[n:], recordOverhead)
	r.discard(rec)
	return dst
}

// discard removes the oldest message, which rec describes.
func (r *ring) discard(rec record) {
	n := recordOverhead + rec.size
	r.head = (r.head + n) % len(r.buf)
	r.used -= n
	r.count--
}

// payload is the number of bytes queued without overhead.
func (r *ring) payload() int { return r.used - r.count*recordOverhead }

func (r *ring) reserve(n int) {
	if n <= len(r.buf) {
		return
	}
	size := max(len(r.buf), firstRing)
	for size < n {
		size *= 2
	}
	grown := make([]byte, min(size, max(r.bound, n)))
	r.copyOut(grown[:r.used], 0)
	r.buf, r.head = grown, 0
}

func (r *ring) write(b []byte) {
	if len(b) == 0 {
		return
	}
	at := (r.head + r.used) % len(r.buf)
	n := copy(r.buf[at:], b)
	copy(r.buf, b[n:])
	r.used += len(b)
}

// copyOut copies len(dst) bytes that lie skip bytes behind the head.
func (r *ring) copyOut(dst []byte, skip int) {
	if len(dst) == 0 {
		return
	}
	at := (r.head + skip) % len(r.buf)
	n := copy(dst, r.buf[at:])
	copy(dst[n:], r.buf)
}

// pending is the send queue of one WebSocket: a ring per class, so that the oldest media can be dropped while a
// control message waits before it, and a sequence that keeps the order of both.
type pending struct {
	media, control ring
	seq            uint64
	maxAge         int64

	droppedFull, droppedOld uint64
}

func newPending(maxMedia, maxControl int, maxAge int64) pending {
	return pending{media: ring{bound: maxMedia}, control: ring{bound: maxControl}, maxAge: maxAge}
}

// push queues a message. An error says that it was not queued: ErrTooLarge, or ErrOverflow for control.
func (p *pending) push(op Op, data []byte, class Class, now int64) error {
	r := &p.media
	if class != Media {
		r = &p.control
	}
	if recordOverhead+len(data) > r.bound {
		return ErrTooLarge
	}
	if class == Media {
		p.expire(now)
		for !r.fits(len(data)) {
			rec, _ := r.oldest()
			r.discard(rec)
			p.droppedFull++
		}
	}
	if !r.fits(len(data)) {
		return ErrOverflow
	}
	p.seq++
	r.push(record{seq: p.seq, at: now, op: op}, data)
	return nil
}

// expire drops the media that has waited too long.
func (p *pending) expire(now int64) {
	for {
		rec, ok := p.media.oldest()
		if !ok || now-rec.at <= p.maxAge {
			return
		}
		p.media.discard(rec)
		p.droppedOld++
	}
}

// next takes the message that was queued first, appending its payload to dst.
func (p *pending) next(now int64, dst []byte) (Op, []byte, bool) {
	p.expire(now)
	m, haveMedia := p.media.oldest()
	c, haveControl := p.control.oldest()
	switch {
	case haveMedia && (!haveControl || m.seq < c.seq):
		return m.op, p.media.take(m, dst), true
	case haveControl:
		return c.op, p.control.take(c, dst), true
	}
	return 0, dst, false
}
