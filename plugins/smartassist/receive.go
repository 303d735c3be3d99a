package main

import (
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
	"github.com/patchbay/patchbay/sdk/media/dtmf"
	"github.com/patchbay/patchbay/sdk/media/g711"
	"github.com/patchbay/patchbay/sdk/media/jitter"
)

// rtpSocket and rtcpSocket are the session as the engine sees it through each socket.
type (
	rtpSocket  struct{ s *session }
	rtcpSocket struct{ s *session }
)

// Received implements engine.Handler.
func (r rtpSocket) Received(m engine.Message) { r.s.receivedRTP(m) }

// Closed implements engine.Handler.
func (r rtpSocket) Closed(error) { close(r.s.rtpClosed) }

// Received implements engine.Handler.
func (r rtcpSocket) Received(m engine.Message) { r.s.receivedRTCP(m) }

// Closed implements engine.Handler.
func (r rtcpSocket) Closed(error) { close(r.s.rtcpClosed) }

// receiver is the half of a session that goes from the peer to core. Its lock is held while a frame is put into core's
// queue, which copies and never blocks.
type receiver struct {
	leg    frameWriter
	tally  tally
	frames atomic.Uint64

	open    bool
	early   early // while not open
	payload uint8
	event   int
	alaw    bool
	lock    sourceLock

	header  rtp.Header
	jitter  *jitter.Buffer
	digits  dtmf.Decoder
	emit    func(jitter.Packet)
	onDigit func(dtmf.Digit)

	sequence  uint32
	timestamp uint32 // of the frame to be written next
	base      bool   // timestamp is known
	gap       bool   // frames are missing before the next
	spurt     bool
	part      [frameSamples]byte // frame under way, for packets that are not 20 ms long
	filled    int
	origin    int64 // arrival of the first byte in part

	payloadBuf []byte // of digits
}

// frameWriter is the part of a leg that takes frames.
type frameWriter interface{ Write(f sdk.Frame) }

func (r *receiver) init(leg frameWriter, strict bool) {
	r.leg = leg
	r.lock.strict = strict
	r.jitter = jitter.NewBuffer(clockRate)
	r.emit, r.onDigit = r.inOrder, r.digit
}

// receivedRTP runs on the engine's reading side: parse, check, put in order, write to core.
func (s *session) receivedRTP(m engine.Message) {
	s.recvMu.Lock()
	r := &s.recv
	if !r.open {
		if r.early.keep(m) {
			r.tally[notOpen].Add(1)
		}
		s.recvMu.Unlock()
		return
	}
	v, latched := r.take(m)
	s.recvMu.Unlock()
	r.tally[v].Add(1)
	if latched {
		s.follow(m.From)
	}
}

// take judges one packet and delivers what it completes.
func (r *receiver) take(m engine.Message) (v verdict, latched bool) {
	if !r.open {
		return notOpen, false
	}
	payload, ok := parseRTP(m.Data, &r.header)
	if !ok {
		return malformed, false
	}
	h := &r.header
	if h.PayloadType != r.payload && int(h.PayloadType) != r.event {
		return wrongPayload, false
	}
	if ok, latched = r.lock.admit(m.From); !ok {
		return foreignSource, false
	}
	r.jitter.Push(m.At, jitter.Header{
		SSRC: h.SSRC, Timestamp: h.Timestamp, Seq: h.SequenceNumber, PayloadType: h.PayloadType, Marker: h.Marker,
	}, payload, r.emit)
	return accepted, latched
}

// tick gives up what is missing for too long. Called once per ptime.
func (r *receiver) tick(now int64) {
	r.jitter.Tick(now, r.emit)
	r.digits.Tick(now, r.onDigit)
}

// inOrder takes a packet whose turn has come. Digits are decoded and not played.
func (r *receiver) inOrder(p jitter.Packet) {
	if p.Reset {
		r.digits.Reset()
		r.filled, r.base = 0, false
	}
	if p.Lost > 0 || p.Reset && r.sequence > 0 {
		r.gap = true
		r.filled = 0
	}
	if int(p.PayloadType) == r.event {
		r.digits.Push(p.Arrival, p.Payload, p.Marker, p.Timestamp, p.Seq, r.onDigit)
		return
	}
	if p.Marker || r.sequence == 0 {
		r.spurt = true
	}
	if r.filled == 0 || !r.base {
		r.timestamp, r.base = p.Timestamp, true
	}
	for audio := p.Payload; len(audio) > 0; {
		if r.filled == 0 {
			r.origin = p.Arrival
		}
		n := copy(r.part[r.filled:], audio)
		r.filled += n
		audio = audio[n:]
		if r.filled == frameSamples {
			r.write()
		}
	}
}

// write hands the frame in part to core, in µ-law.
func (r *receiver) write() {
	if r.alaw {
		g711.ALawToULaw(r.part[:], r.part[:])
	}
	r.leg.Write(sdk.Frame{
		Kind: sdk.Audio, TalkSpurt: r.spurt, Discontinuity: r.gap,
		Sequence: r.sequence, Timestamp: r.timestamp, Origin: r.origin, Payload: r.part[:],
	})
	r.frames.Add(1)
	r.sequence++
	r.timestamp += frameSamples
	r.filled, r.gap, r.spurt = 0, false, false
}

func (r *receiver) digit(d dtmf.Digit) { r.writeDigit(d.Digit, d.Duration) }

func (r *receiver) writeDigit(digit byte, length time.Duration) {
	r.payloadBuf = sdk.DTMFPayload(r.payloadBuf[:0], digit, length)
	r.leg.Write(sdk.Frame{Kind: sdk.DTMF, Sequence: r.sequence, Timestamp: r.timestamp, Payload: r.payloadBuf})
	r.sequence++
}
