package dtmf

import "time"

// QueueSize is how many digits wait in an Encoder at most, the one being sent not counted.
const QueueSize = 64

// Packet is what an RTP packet of an event carries. It goes out with the
// stream's next sequence number and the payload type of telephone-event.
type Packet struct {
	// Payload is the event as RFC 4733 §2.3 lays it out.
	Payload [PayloadSize]byte
	// Timestamp is the RTP timestamp: the beginning of the event or of its segment.
	Timestamp uint32
	// Marker is the RTP marker bit: the first packet of an event has it.
	Marker bool
}

// Encoder turns digits into the packets of a paced sender. It belongs to one
// goroutine.
type Encoder struct {
	step uint32 // one ptime in timestamp units

	queue       [QueueSize]queued
	head, count int

	sending  bool
	event    byte
	start    uint32 // RTP timestamp of the event's current segment
	offset   uint32 // where the current segment begins in the event
	elapsed  uint32 // how much of the event has been told
	duration uint32
	ends     int // final packets sent
	gap      int // slots to wait before the next event
}

type queued struct {
	event    byte
	duration uint32
}

// NewEncoder returns an encoder for a sender that asks for a packet once per ptime.
func NewEncoder(ptime time.Duration) *Encoder {
	return &Encoder{step: max(samples(ptime), 1)}
}

// Add queues a digit (0-9, *, #, A-D, a-d). The duration is DefaultDuration when
// 0, brought within MinDuration and MaxDuration, and rounded up to whole ptimes.
func (e *Encoder) Add(digit byte, duration time.Duration) error {
	code, ok := event(digit)
	if !ok {
		return ErrDigit
	}
	if e.count == QueueSize {
		return ErrQueueFull
	}
	if duration == 0 {
		duration = DefaultDuration
	}
	length := samples(min(max(duration, MinDuration), MaxDuration))
	length = (length + e.step - 1) / e.step * e.step
	e.queue[(e.head+e.count)%QueueSize] = queued{code, length}
	e.count++
	return nil
}

// Clear forgets the digits that wait. The one being sent is told to its end.
func (e *Encoder) Clear() { e.count = 0 }

// Busy reports whether a digit is being sent, or waits.
func (e *Encoder) Busy() bool { return e.sending || e.count > 0 }

// Next is called once per ptime with the RTP timestamp that audio sent now would
// carry. When ok, the packet is to be sent instead of the audio.
func (e *Encoder) Next(timestamp uint32) (packet Packet, ok bool) {
	if !e.sending {
		if e.gap > 0 {
			e.gap--
			return Packet{}, false
		}
		if e.count == 0 {
			return Packet{}, false
		}
		next := e.queue[e.head]
		e.head, e.count = (e.head+1)%QueueSize, e.count-1
		e.sending, e.event, e.duration = true, next.event, next.duration
		e.start, e.offset, e.elapsed, e.ends = timestamp, 0, 0, 0
	}
	return e.advance(), true
}

// advance tells the event's state one ptime further on.
func (e *Encoder) advance() Packet {
	first := e.elapsed == 0
	e.elapsed = min(e.elapsed+e.step, e.duration)
	told := e.elapsed - e.offset
	packet := Packet{Timestamp: e.start, Marker: first}
	if told > maxSegment {
		// RFC 4733 §2.5.1.3: a segment is closed at the longest duration, without
		// the end bit; the next one begins where it ended, without the marker.
		packet.Payload = putPayload(e.event, false, maxSegment)
		e.start += maxSegment
		e.offset += maxSegment
		return packet
	}
	end := e.elapsed == e.duration
	packet.Payload = putPayload(e.event, end, uint16(told))
	if end {
		e.finish()
	}
	return packet
}

// finish counts the final packets (RFC 4733 §2.5.1.4: three, one ptime apart).
// The two copies fall into the gap before the next digit.
func (e *Encoder) finish() {
	e.ends++
	if e.ends == endCopies {
		e.sending = false
		slots := int((samples(Gap) + e.step - 1) / e.step)
		e.gap = max(slots-(endCopies-1), 0)
	}
}
