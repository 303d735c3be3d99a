package dtmf

import (
	"encoding/binary"
	"time"
)

const (
	// endTimeout is how late the next packet of an event may be: three frames of 20 ms.
	endTimeout = 60 * time.Millisecond
	// shortestSegment is where senders may cut a long event: at most 0xFFFF, or a
	// whole number of frames less.
	shortestSegment = 0xF000
	// restart is how far a sequence number may lie back and still be an old packet's.
	restart = 1000
	// perPacketStep bounds the timestamp's step in streams that wrongly move it with
	// every packet of an event: three frames.
	perPacketStep = 3 * 160
)

// Digit is a received DTMF digit.
type Digit struct {
	// Digit is one of 0-9, *, #, A-D.
	Digit byte
	// Duration is how long it lasted, as far as its packets arrived.
	Duration time.Duration
}

// DecoderStats counts what a Decoder met. Packets = Malformed + Ignored + Old +
// those that belonged to an event.
type DecoderStats struct {
	// Packets is every payload given to Push.
	Packets uint64
	// Digits is the events yielded.
	Digits uint64
	// Malformed is payloads shorter than four bytes.
	Malformed uint64
	// Ignored is events that are no digits; Flash is those among them that are hook flashes.
	Ignored, Flash uint64
	// Old is duplicates, copies of an end that was known, and packets overtaken by a newer event.
	Old uint64
	// LostEnds is events whose end never came.
	LostEnds uint64
}

// Decoder turns telephone-event packets into digits, each exactly once. It
// stands loss, duplicates and reordering. The zero value is ready; it belongs
// to one goroutine.
type Decoder struct {
	// Stats counts since the beginning, across Reset.
	Stats DecoderStats

	seen     bool // any packet since Reset
	active   bool // the event has begun and was not yielded
	ended    bool // the event's end packet was seen
	event    byte
	start    uint32 // RTP timestamp of the event's current segment
	offset   uint32 // length of the segments before
	duration uint32 // longest told of the current segment
	lastSeq  uint16
	lastNow  int64
}

// Reset forgets the current event: the stream has a new source.
func (d *Decoder) Reset() { *d = Decoder{Stats: d.Stats} }

// Push takes the payload, the marker bit, the timestamp and the sequence number
// of a telephone-event packet that arrived at now (ns of any steady clock), and
// calls emit for each digit that it completes: its own, and an earlier one whose
// end was lost.
func (d *Decoder) Push(now int64, payload []byte, marker bool, timestamp uint32, seq uint16, emit func(Digit)) {
	d.Stats.Packets++
	if len(payload) < PayloadSize {
		d.Stats.Malformed++
		return
	}
	code, end, duration := payload[0], payload[1]&endBit != 0, uint32(binary.BigEndian.Uint16(payload[2:]))
	if int(code) >= len(digits) {
		d.Stats.Ignored++
		if code == eventFlash {
			d.Stats.Flash++
		}
		return
	}
	if d.seen {
		behind := d.lastSeq - seq
		old := behind < restart
		if old && (behind == 0 || timestamp != d.start) {
			d.Stats.Old++
			return
		}
		if !old {
			d.lastSeq = seq
		}
	}
	if !d.seen || !d.continues(code, end, marker, timestamp, duration) {
		d.flush(emit)
		d.lastSeq = seq
		d.seen, d.active, d.ended = true, true, false
		d.event, d.start, d.offset, d.duration = code, timestamp, 0, 0
	}
	if !d.active {
		d.ended = d.ended || end
		d.Stats.Old++
		return
	}
	d.lastNow = now
	d.duration = max(d.duration, duration)
	if end {
		d.ended = true
		d.yield(emit)
	}
}

// Tick ends an event of which nothing has been heard for three frames. It is
// called about once per ptime.
func (d *Decoder) Tick(now int64, emit func(Digit)) {
	if d.active && now-d.lastNow > int64(endTimeout) {
		d.flush(emit)
	}
}

// continues reports whether a packet belongs to the current event, active or
// not, and follows it into its next segment.
func (d *Decoder) continues(code byte, end, marker bool, timestamp, duration uint32) bool {
	if timestamp == d.start {
		return true // RFC 4733 §2.5.1.2: all packets of an event, or segment, share its timestamp
	}
	if code != d.event || marker {
		return false
	}
	step := timestamp - d.start
	// RFC 4733 §2.5.1.3: the next segment of a long event.
	if !d.ended && step >= shortestSegment && step <= maxSegment {
		d.start = timestamp
		d.offset += step
		d.duration = 0
		return true
	}
	// Some senders move the timestamp with every packet. A new event is told from
	// theirs by its duration, which starts again.
	if step <= perPacketStep && (!d.ended && duration > d.duration || d.ended && end && duration >= d.duration) {
		d.start = timestamp
		return true
	}
	return false
}

// flush yields an event whose end was lost.
func (d *Decoder) flush(emit func(Digit)) {
	if d.active {
		d.Stats.LostEnds++
		d.yield(emit)
	}
}

func (d *Decoder) yield(emit func(Digit)) {
	d.active = false
	d.Stats.Digits++
	length := time.Duration(d.offset+d.duration) * time.Second / ClockRate
	emit(Digit{Digit: digits[d.event], Duration: length})
}
