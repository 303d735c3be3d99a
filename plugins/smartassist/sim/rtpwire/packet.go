// Package rtpwire reads and writes RTP and RTCP packets for the SmartAssist
// simulator, and judges the stream a peer sends: loss, pacing, timestamps,
// DTMF events. It is written from RFC 3550 and RFC 4733 by hand, so that it
// shares no code with the RTP stack of the plugin under test.
package rtpwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the size of an RTP header without CSRC and extension, in bytes.
const HeaderSize = 12

// ErrMalformed marks a packet that breaks RFC 3550; every error of this package wraps it.
var ErrMalformed = errors.New("malformed rtp packet")

// Header is the fixed RTP header (RFC 3550 §5.1).
type Header struct {
	Marker      bool
	PayloadType uint8
	Seq         uint16
	Timestamp   uint32 // in samples, 8000 per second
	SSRC        uint32
}

// Parse reads the header and finds the payload, which stays part of b.
func Parse(b []byte) (Header, []byte, error) {
	if len(b) < HeaderSize {
		return Header{}, nil, fmt.Errorf("%w: %d bytes, at least %d", ErrMalformed, len(b), HeaderSize)
	}
	if b[0]>>6 != 2 {
		return Header{}, nil, fmt.Errorf("%w: version %d", ErrMalformed, b[0]>>6)
	}
	h := Header{
		Marker: b[1]&0x80 != 0, PayloadType: b[1] & 0x7f,
		Seq: binary.BigEndian.Uint16(b[2:]), Timestamp: binary.BigEndian.Uint32(b[4:]), SSRC: binary.BigEndian.Uint32(b[8:]),
	}
	start, end := HeaderSize+4*int(b[0]&0x0f), len(b)
	if b[0]&0x10 != 0 { // header extension, §5.3.1: its length counts 32-bit words after its own first
		if len(b) < start+4 {
			return Header{}, nil, fmt.Errorf("%w: extension cut off", ErrMalformed)
		}
		start += 4 + 4*int(binary.BigEndian.Uint16(b[start+2:]))
	}
	if b[0]&0x20 != 0 { // padding: the last byte counts all padding, itself included
		pad := int(b[end-1])
		if pad == 0 {
			return Header{}, nil, fmt.Errorf("%w: padding of length 0", ErrMalformed)
		}
		end -= pad
	}
	if start > end {
		return Header{}, nil, fmt.Errorf("%w: extension or padding longer than the packet", ErrMalformed)
	}
	return h, b[start:end], nil
}

// Append writes the header and the payload behind dst.
func (h Header) Append(dst, payload []byte) []byte {
	second := h.PayloadType & 0x7f
	if h.Marker {
		second |= 0x80
	}
	dst = append(dst, 0x80, second)
	dst = binary.BigEndian.AppendUint16(dst, h.Seq)
	dst = binary.BigEndian.AppendUint32(dst, h.Timestamp)
	dst = binary.BigEndian.AppendUint32(dst, h.SSRC)
	return append(dst, payload...)
}

// Event is the payload of a telephone-event packet (RFC 4733 §2.3).
type Event struct {
	Code     uint8
	End      bool
	Volume   uint8 // 0..63, in -dBm0
	Duration uint16
}

// ParseEvent reads a telephone-event payload.
func ParseEvent(b []byte) (Event, error) {
	if len(b) < 4 {
		return Event{}, fmt.Errorf("%w: telephone-event of %d bytes", ErrMalformed, len(b))
	}
	return Event{Code: b[0], End: b[1]&0x80 != 0, Volume: b[1] & 0x3f, Duration: binary.BigEndian.Uint16(b[2:])}, nil
}

// Append writes the payload behind dst.
func (e Event) Append(dst []byte) []byte {
	second := e.Volume & 0x3f
	if e.End {
		second |= 0x80
	}
	return binary.BigEndian.AppendUint16(append(dst, e.Code, second), e.Duration)
}

const digits = "0123456789*#ABCD"

// Digit returns the key of an event code, or 0 when it is no DTMF key (RFC 4733 §3.2).
func Digit(code uint8) byte {
	if int(code) >= len(digits) {
		return 0
	}
	return digits[code]
}

// Code returns the event code of a key, and whether there is one.
func Code(key byte) (uint8, bool) {
	for i := range len(digits) {
		if digits[i] == key || digits[i]|0x20 == key && key >= 'a' {
			return uint8(i), true // below 16
		}
	}
	return 0, false
}
