package main

import (
	"net/netip"
	"sync/atomic"

	"github.com/pion/rtp"
)

// rtpVersion is the only one there is, RFC 3550 §5.1.
const rtpVersion = 2

// verdict is what became of a packet on its way in: exactly one for each.
type verdict uint8

const (
	accepted      verdict = iota
	malformed             // not RTP or RTCP, or cut short
	wrongPayload          // a payload type that was not agreed on
	foreignSource         // from an address that is not the peer's
	notOpen               // before the peer's description is known
	verdicts
)

// String is the word used in records and metrics.
func (v verdict) String() string {
	switch v {
	case malformed:
		return "malformed"
	case wrongPayload:
		return "wrong_payload_type"
	case foreignSource:
		return "foreign_source"
	case notOpen:
		return "not_open"
	case accepted, verdicts:
	}
	return "accepted"
}

// tally counts packets by verdict. Any goroutine may read it.
type tally [verdicts]atomic.Uint64

// parseRTP reads a packet; h is reused. The payload lies within data, without padding. ok is false for what is no RTP
// packet, or one without payload.
func parseRTP(data []byte, h *rtp.Header) (payload []byte, ok bool) {
	if len(data) < 12 || data[0]>>6 != rtpVersion {
		return nil, false
	}
	n, err := h.Unmarshal(data)
	if err != nil || n >= len(data) {
		return nil, false
	}
	payload = data[n:]
	if h.Padding { // RFC 3550 §5.1: the last byte counts the padding, itself included
		pad := int(payload[len(payload)-1])
		if pad == 0 || pad >= len(payload) {
			return nil, false
		}
		payload = payload[:len(payload)-pad]
	}
	return payload, true
}

// sourceLock decides which address is the peer's. It belongs to the session's receiving side.
type sourceLock struct {
	strict   bool
	expected netip.AddrPort // what the description says
	latched  netip.AddrPort // what was heard first
}

// set follows a new description.
func (l *sourceLock) set(expected netip.AddrPort) {
	if l.expected != expected {
		l.expected, l.latched = expected, netip.AddrPort{}
	}
}

// admit takes a valid packet's source. latched is true when it is the first one.
func (l *sourceLock) admit(from netip.AddrPort) (ok, latched bool) {
	switch {
	case l.strict:
		return from == l.expected, false
	case l.latched.IsValid():
		return from == l.latched, false
	}
	l.latched = from
	return true, true
}

// host is the peer's IP address as far as it is known, for RTCP.
func (l *sourceLock) host() netip.Addr {
	if l.latched.IsValid() {
		return l.latched.Addr()
	}
	return l.expected.Addr()
}
