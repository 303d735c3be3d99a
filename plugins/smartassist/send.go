package main

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
	"github.com/patchbay/patchbay/sdk/media/dtmf"
	"github.com/patchbay/patchbay/sdk/media/g711"
	"github.com/patchbay/patchbay/sdk/media/latency"
	"github.com/patchbay/patchbay/sdk/media/playout"
)

// packetSize is a G.711 packet of one ptime without extensions.
const packetSize = 12 + frameSamples

// sender is the half of a session that goes from core to the peer. Its lock is never held while a packet is sent.
type sender struct {
	playout *playout.Buffer
	digits  *dtmf.Encoder

	open    bool // the peer's description is known
	hold    bool // the peer wants no audio
	alaw    bool
	payload uint8
	event   int
	to      netip.AddrPort

	header  rtp.Header // Timestamp is of the frame to be sent next
	lastDue int64
	buf     [packetSize]byte
	ulaw    [frameSamples]byte

	// What sender reports tell, RFC 3550 §6.4.1.
	packets, octets uint32
	sentAt          int64 // of the last packet

	frames, lostDigits, sendErrors, odd atomic.Uint64
	// Frames of sound that nobody gets: a key is sent in their place, or the peer holds.
	byKey, onHold atomic.Uint64
	delay         latency.Histogram
}

// fromCore takes a frame toward the peer. Called by the media reader, one at a time; must not block.
func (s *session) fromCore(f *sdk.Frame) {
	switch f.Kind {
	case sdk.Audio:
		if len(f.Payload) == 0 {
			return
		}
		now := s.engine.Now()
		s.sendMu.Lock()
		s.send.playout.Push(now, f.Payload, f.Origin)
		s.sendMu.Unlock()
	case sdk.DTMF:
		digit, length, ok := f.Digit()
		if !ok {
			s.send.lostDigits.Add(1)
			return
		}
		s.sendDigit(digit, length)
	case sdk.Clear:
		s.sendMu.Lock()
		s.send.playout.Clear()
		s.sendMu.Unlock()
	case sdk.ComfortNoise, sdk.Mark: // silence is filled in anyway; the peer knows no marks
	default:
		s.send.odd.Add(1)
	}
}

// sendDigit queues a digit as telephone events, or hands it to the call where the trunk wants INFO, or takes no events.
func (s *session) sendDigit(digit byte, length time.Duration) {
	s.sendMu.Lock()
	byInfo := s.digitByInfo || s.send.open && s.send.event < 0
	var err error
	if !byInfo {
		err = s.send.digits.Add(digit, length)
	}
	s.sendMu.Unlock()
	if byInfo {
		select {
		case s.digitsOut <- dtmf.Digit{Digit: digit, Duration: length}:
		default:
			s.send.lostDigits.Add(1)
		}
		return
	}
	if err != nil {
		s.send.lostDigits.Add(1)
	}
}

// tick is called once per ptime, on the engine's tick: one packet out, whatever came in.
func (s *session) tick(due int64) {
	now := s.engine.Now()
	s.recvMu.Lock()
	s.recv.tick(now)
	s.recvMu.Unlock()

	s.sendMu.Lock()
	n, origin, to := s.send.next(due)
	s.sendMu.Unlock()
	if n > 0 {
		if err := s.rtp.Send(s.send.buf[:n], to); err != nil {
			s.send.sendErrors.Add(1)
		} else {
			s.send.frames.Add(1)
			if origin > 0 {
				s.send.delay.Observe(time.Duration(s.engine.Now() - origin))
			}
		}
	}
	if due >= s.reportDue {
		s.reportDue = due + int64(reportInterval)
		s.sendReport(now, false)
	}
}

// next makes the packet of this ptime in buf; n is 0 when none is to be sent. buf belongs to the tick.
func (x *sender) next(due int64) (n int, origin int64, to netip.AddrPort) {
	if !x.open {
		return 0, 0, to
	}
	steps := int64(1)
	if x.lastDue > 0 { // slots that the engine gave up after a stall have passed for the peer too
		steps = max(1, (due-x.lastDue+int64(ptime)/2)/int64(ptime))
	}
	first := x.lastDue == 0
	x.lastDue = due
	if !first {
		x.header.Timestamp += uint32(steps) * frameSamples
	}
	origin, kind := x.playout.Pop(due, x.ulaw[:])
	if x.hold || !x.to.IsValid() {
		x.skip(kind, &x.onHold)
		return 0, 0, to
	}
	h := x.header
	h.Marker, h.PayloadType = x.packets == 0, x.payload // RFC 3551 §4.1: the one talk spurt begins
	payload := x.ulaw[:]
	if event, busy := x.digits.Next(x.header.Timestamp); busy && x.event >= 0 {
		h.Marker, h.PayloadType, h.Timestamp = event.Marker, uint8(x.event), event.Timestamp
		payload, origin = event.Payload[:], 0
		x.skip(kind, &x.byKey)
	}
	n, err := h.MarshalTo(x.buf[:])
	if err != nil {
		return 0, 0, to
	}
	if x.alaw && h.PayloadType == x.payload {
		g711.ULawToALaw(x.buf[n:], payload)
	} else {
		copy(x.buf[n:], payload)
	}
	n += len(payload)
	x.header.SequenceNumber++
	x.packets++
	x.octets += uint32(len(payload))
	x.sentAt = due
	return n, origin, x.to
}

var _ engine.Handler = rtpSocket{}

// skip counts a frame that is not sent, where it is sound.
func (x *sender) skip(kind playout.FrameKind, reason *atomic.Uint64) {
	if kind == playout.Audio {
		reason.Add(1)
	}
}
