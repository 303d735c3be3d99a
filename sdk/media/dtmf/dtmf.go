// Package dtmf sends and receives DTMF digits as RTP telephone events (RFC
// 4733): events 0 to 15 at a clock rate of 8000 Hz. Both halves are plain state
// machines, driven by a paced sender and by received packets, without timers or
// allocation.
package dtmf

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

const (
	// PayloadSize is the length of a telephone-event payload (RFC 4733 §2.3).
	PayloadSize = 4
	// ClockRate is the RTP clock rate of the events, that of the audio beside them.
	ClockRate = 8000

	// DefaultDuration is how long a digit lasts when its sender does not say.
	DefaultDuration = 160 * time.Millisecond
	// MinDuration is the shortest digit that is sent: receivers need not take
	// tones under 40 ms (ITU-T Q.24), and detectors behind them often want more.
	MinDuration = 60 * time.Millisecond
	// MaxDuration is the longest digit that is sent.
	MaxDuration = 30 * time.Second
	// Gap is the silence between two digits.
	Gap = 80 * time.Millisecond

	// digits in the order of their event codes (RFC 4733 §3.2, table 3).
	digits = "0123456789*#ABCD"
	// eventFlash is the hook flash, an event that is no digit.
	eventFlash = 16
	// maxSegment is the longest duration that a packet can tell, in timestamp units.
	maxSegment = 0xFFFF
	// endCopies is how often the final packet is sent (RFC 4733 §2.5.1.4).
	endCopies = 3
	endBit    = 0x80
	// volume is the tone's level in -dBm0.
	volume = 10
)

// Errors of Encoder.Add; match them with errors.Is.
var (
	// ErrDigit means that the byte is not a DTMF digit: use 0-9, *, #, A-D.
	ErrDigit = errors.New("not a DTMF digit: use 0-9, *, # or A-D")
	// ErrQueueFull means that QueueSize digits are waiting; this one was not taken.
	ErrQueueFull = errors.New("too many DTMF digits are waiting to be sent")
)

// event returns the event code of a digit, or false.
func event(digit byte) (byte, bool) {
	if digit >= 'a' && digit <= 'd' {
		digit -= 'a' - 'A'
	}
	i := strings.IndexByte(digits, digit)
	return byte(i), i >= 0 // at most 15; not used when negative
}

// samples converts a duration to timestamp units.
func samples(d time.Duration) uint32 {
	return uint32(d * ClockRate / time.Second)
}

// putPayload lays out a telephone-event payload (RFC 4733 §2.3, figure 1).
func putPayload(event byte, end bool, duration uint16) (payload [PayloadSize]byte) {
	payload[0] = event
	payload[1] = volume
	if end {
		payload[1] |= endBit
	}
	binary.BigEndian.PutUint16(payload[2:], duration)
	return payload
}
