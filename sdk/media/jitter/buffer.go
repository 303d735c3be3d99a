// Package jitter puts received RTP packets back in order. While they come in
// order they pass straight through, at no delay; a gap holds the packets behind
// it for a short, adaptive, bounded time, after which the missing ones are given
// up and reported as lost. It also keeps the figures of RTCP reception reports.
//
// A Buffer has no goroutine, timer or lock: its owner brings the clock, and calls
// Push for each packet and Tick about once per ptime or oftener.
package jitter

import "time"

const (
	// Slots is how many packets are held behind a gap at most.
	Slots = 32
	// MaxPayload is the longest payload taken: 60 ms of G.711.
	MaxPayload = 480

	// StartDelay is how long a gap is waited for at first, and at least.
	StartDelay = 20 * time.Millisecond
	// MaxDelay is how long a gap is waited for at most.
	MaxDelay = 120 * time.Millisecond

	// maxDropout and maxMisorder bound the sequence numbers that count as the same
	// sender's; beyond them it takes two in a row to follow (RFC 3550 appendix A.1).
	maxDropout  = 3000
	maxMisorder = 100
)

// Header is the part of an RTP header that the buffer needs and passes on.
type Header struct {
	// SSRC identifies the source. A change begins a new stream.
	SSRC uint32
	// Timestamp is the sampling instant, in units of the clock rate.
	Timestamp uint32
	// Seq is the sequence number.
	Seq uint16
	// PayloadType is passed on: audio and telephone events share one sequence.
	PayloadType uint8
	// Marker is passed on.
	Marker bool
}

// Packet is a packet in its place in the sequence.
type Packet struct {
	Header
	// Payload is valid only until emit returns.
	Payload []byte
	// Arrival is the now of the packet's Push, in ns.
	Arrival int64
	// Lost is how many packets are missing right before this one.
	Lost int
	// Reset tells that the sequence begins anew here: the first packet, or the
	// first after a change of source or a jump.
	Reset bool
}

// Stats counts packets by what became of them:
// Received = Delivered + Late + Duplicate + Oversize + Stray + those held.
type Stats struct {
	// Received is every packet pushed.
	Received uint64
	// Delivered is packets emitted, Reordered those among them that were overtaken on their way.
	Delivered, Reordered uint64
	// Lost is packets given up. One that comes later still counts as Late too.
	Lost uint64
	// Late is packets that came after they were given up.
	Late uint64
	// Duplicate is packets that had been received before.
	Duplicate uint64
	// Oversize is packets over MaxPayload.
	Oversize uint64
	// Stray is packets whose sequence number fits no stream, one at a time.
	Stray uint64
	// Jumps is how often the sequence began anew within one source, Sources how often with a new one.
	Jumps, Sources uint64
}

type slot struct {
	Header
	arrival int64
	held    bool
	size    uint16
	data    [MaxPayload]byte
}

// Buffer is the reorder buffer of one received stream. It belongs to one goroutine.
type Buffer struct {
	stats  Stats
	report reception

	started   bool
	fresh     bool // nothing was emitted since the sequence began
	ssrc      uint32
	next      uint16 // the sequence number to be emitted next
	delivered uint64 // bit i: next-1-i was emitted

	slots *[Slots]slot // made at the first gap; most streams of a good network have none
	held  int
	since int64 // arrival of the packet that has been held longest

	delay     int64 // how long a gap is waited for, ns
	gaveUp    int64 // since when the last gap given up had been waited for
	probation uint16
	probing   bool
}

// NewBuffer returns a buffer for a stream with the given RTP clock rate in Hz.
func NewBuffer(clockRate int) *Buffer {
	return &Buffer{delay: int64(StartDelay), report: reception{rate: int64(clockRate)}}
}

// Stats returns the counters so far.
func (b *Buffer) Stats() Stats { return b.stats }

// Held returns how many packets wait behind a gap.
func (b *Buffer) Held() int { return b.held }

// Delay returns how long a gap is waited for at present.
func (b *Buffer) Delay() time.Duration { return time.Duration(b.delay) }

// Push takes a packet that arrived at now (ns of any steady clock) and calls
// emit for every packet whose turn has come. The payload is copied if it is kept.
func (b *Buffer) Push(now int64, h Header, payload []byte, emit func(Packet)) {
	b.stats.Received++
	if len(payload) > MaxPayload {
		b.stats.Oversize++
		return
	}
	b.Tick(now, emit)
	switch {
	case !b.started || h.SSRC != b.ssrc:
		b.flush(emit)
		if b.started {
			b.stats.Sources++
		}
		b.begin(h)
	case !b.plausible(h.Seq):
		if !b.probing || h.Seq != b.probation {
			b.probing, b.probation = true, h.Seq+1
			b.stats.Stray++
			return
		}
		b.flush(emit)
		b.stats.Jumps++
		b.begin(h)
	}
	b.probing = false
	b.report.received(now, h)
	ahead := int(int16(h.Seq - b.next)) // RFC 1982 comparison
	switch {
	case ahead == 0:
		b.inOrder(now, h, payload, emit)
	case ahead < 0:
		b.behind(now, -ahead)
	case ahead >= Slots:
		// More is missing than could be put in order: none of it will come.
		b.flush(emit)
		b.emit(Packet{Header: h, Payload: payload, Arrival: now}, emit)
	default:
		b.hold(now, h, payload)
	}
}

// Tick gives up packets that have been waited for long enough.
func (b *Buffer) Tick(now int64, emit func(Packet)) {
	for b.held > 0 && now-b.since >= b.delay {
		b.gaveUp = b.since
		// A packet that never comes costs the wait each time: the wait shrinks while waiting does not help.
		b.delay -= (b.delay - int64(StartDelay)) / 16
		b.release(true, emit)
	}
}

// Reset forgets the stream: what is held is dropped, and the next packet begins
// a new sequence. The counters stay.
func (b *Buffer) Reset() {
	b.flush(func(Packet) {})
	b.started, b.probing = false, false
}

func (b *Buffer) begin(h Header) {
	b.started, b.fresh, b.ssrc, b.next, b.delivered = true, true, h.SSRC, h.Seq, 0
	b.delay, b.gaveUp = int64(StartDelay), 0
	b.report.begin(h)
}

// plausible reports whether a sequence number is near the expected one.
func (b *Buffer) plausible(seq uint16) bool {
	return seq-b.next < maxDropout || b.next-seq <= maxMisorder
}

// inOrder emits the packet that was expected, and those that waited for it.
func (b *Buffer) inOrder(now int64, h Header, payload []byte, emit func(Packet)) {
	if b.held > 0 {
		b.stats.Reordered++
		b.waited(now - b.since)
	}
	b.emit(Packet{Header: h, Payload: payload, Arrival: now}, emit)
	if b.held > 0 {
		b.release(false, emit)
	}
}

// behind counts a packet whose turn is over.
func (b *Buffer) behind(now int64, by int) {
	if by <= 64 && b.delivered>>(by-1)&1 == 0 {
		b.stats.Late++
		b.waited(now - b.gaveUp)
		return
	}
	b.stats.Duplicate++
}

// waited learns from a packet that came so long after its gap was seen.
func (b *Buffer) waited(long int64) {
	const margin = int64(5 * time.Millisecond)
	if long <= int64(MaxDelay) {
		b.delay = min(max(b.delay, long+margin), int64(MaxDelay))
	}
}

// hold keeps a packet that is ahead of its turn.
func (b *Buffer) hold(now int64, h Header, payload []byte) {
	if b.slots == nil {
		b.slots = new([Slots]slot)
	}
	s := &b.slots[h.Seq%Slots]
	if s.held { // within Slots of next, so it is the same sequence number
		b.stats.Duplicate++
		return
	}
	s.Header, s.arrival, s.held = h, now, true
	s.size = uint16(copy(s.data[:], payload))
	if b.held == 0 {
		b.since = now
	}
	b.held++
}

// release emits what is held in order, up to the next gap; with skip, it first
// gives up the gap before it.
func (b *Buffer) release(skip bool, emit func(Packet)) {
	for b.held > 0 {
		s := &b.slots[b.next%Slots]
		if !s.held {
			if !skip {
				break
			}
			s = b.first()
		}
		skip = false
		s.held = false
		b.held--
		b.emit(Packet{Header: s.Header, Payload: s.data[:s.size], Arrival: s.arrival}, emit)
	}
	if b.held > 0 {
		b.since = b.oldest()
	}
}

// flush emits everything that is held, giving up all gaps.
func (b *Buffer) flush(emit func(Packet)) {
	for b.held > 0 {
		b.release(true, emit)
	}
}

// first returns the held packet whose turn comes first; there is one.
func (b *Buffer) first() *slot {
	seq := b.next
	for !b.slots[seq%Slots].held {
		seq++
	}
	return &b.slots[seq%Slots]
}

// oldest returns the earliest arrival of the held packets.
func (b *Buffer) oldest() int64 {
	earliest := b.first().arrival
	for i := range b.slots {
		if s := &b.slots[i]; s.held {
			earliest = min(earliest, s.arrival)
		}
	}
	return earliest
}

// emit passes a packet on; whatever lies between it and the expected one is lost.
func (b *Buffer) emit(p Packet, emit func(Packet)) {
	p.Lost = int(p.Seq - b.next)
	b.delivered = b.delivered<<(p.Lost+1) | 1 // a shift by 64 or more leaves only the new bit
	b.next = p.Seq + 1
	p.Reset, b.fresh = b.fresh, false
	b.stats.Lost += uint64(p.Lost)
	b.stats.Delivered++
	emit(p)
}
