package rtpwire

import "time"

// DTMFEvent is one received key press and how well it was sent.
type DTMFEvent struct {
	Digit       string    `json:"digit"`
	DurationMS  float64   `json:"duration_ms"`
	Packets     int       `json:"packets"`
	EndPackets  int       `json:"end_packets"`
	MarkerOK    bool      `json:"marker_ok"`    // on the first packet and only there (RFC 4733 §2.5.1.1)
	TimestampOK bool      `json:"timestamp_ok"` // one timestamp for the whole event (RFC 4733 §2.5.1.2)
	DurationOK  bool      `json:"duration_ok"`  // never shrinking, and the same in all end packets
	At          time.Time `json:"at"`
}

// press is a key press with what is needed to judge its next packet.
type press struct {
	DTMFEvent
	timestamp uint32 // of the first packet
	latest    uint32 // of the last packet
	code      uint8
	duration  uint16
	ended     bool
}

// maxEvents bounds the events that are kept.
const maxEvents = 1024

// Tracker gathers telephone-event packets into key presses.
type Tracker struct {
	events []press
}

// Receive takes in one packet; the caller has removed duplicates.
func (t *Tracker) Receive(h Header, e Event, now time.Time) {
	cur := t.current(h, e)
	if cur == nil {
		if len(t.events) == maxEvents {
			return
		}
		digit := "?"
		if d := Digit(e.Code); d != 0 {
			digit = string(d)
		}
		t.events = append(t.events, press{
			DTMFEvent: DTMFEvent{Digit: digit, MarkerOK: h.Marker, TimestampOK: true, DurationOK: true, At: now},
			timestamp: h.Timestamp, code: e.Code,
		})
		cur = &t.events[len(t.events)-1]
	} else if h.Marker {
		cur.MarkerOK = false
	}
	if h.Timestamp != cur.timestamp {
		cur.TimestampOK = false
	}
	if e.Duration < cur.duration || cur.ended && e.Duration != cur.duration {
		cur.DurationOK = false
	}
	cur.latest = h.Timestamp
	cur.Packets++
	cur.duration = max(cur.duration, e.Duration)
	cur.DurationMS = float64(cur.duration) / 8
	if e.End {
		cur.EndPackets++
		cur.ended = true
	}
}

// current returns the event a packet belongs to, nil for a new one: the last event goes on while the timestamp stays,
// or while the same key has not ended although the timestamp moved, which is the sender's mistake.
func (t *Tracker) current(h Header, e Event) *press {
	if len(t.events) == 0 {
		return nil
	}
	last := &t.events[len(t.events)-1]
	if last.code != e.Code {
		return nil
	}
	if last.latest == h.Timestamp || !last.ended && !h.Marker {
		return last
	}
	return nil
}

// Events returns a copy of the key presses so far.
func (t *Tracker) Events() []DTMFEvent {
	out := make([]DTMFEvent, 0, len(t.events))
	for i := range t.events {
		out = append(out, t.events[i].DTMFEvent)
	}
	return out
}

// Ended reports how many events have seen an end packet, and the last one's digit.
func (t *Tracker) Ended() (n int, digit string) {
	for i := range t.events {
		if t.events[i].ended {
			n, digit = n+1, t.events[i].Digit
		}
	}
	return n, digit
}

// Ended reports how many key presses have ended, and the last one's digit.
func (r *Receiver) Ended() (n int, digit string) { return r.dtmf.Ended() }
