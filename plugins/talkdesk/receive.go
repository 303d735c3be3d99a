package main

import (
	"strings"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// lane is one track on its way to the other side.
type lane struct {
	reframer
	sequence  uint32
	timestamp uint32 // in samples of 8000 Hz, one byte each
	gap       bool   // frames were dropped before the next one
	begun     bool
}

// maxNoted bounds how many kinds of oddity are logged in one call.
const maxNoted = 16

// Received implements engine.Handler. Text and binary messages are read alike.
func (s *stream) Received(m engine.Message) {
	if s.state() != waitStart {
		if media, ok := s.reader.scanner.scan(m.Data); ok {
			s.measures.in[eventMedia].Add(1)
			s.media(&media, m.At)
			return
		}
	}
	msg, err := parseMessage(m.Data)
	if err != nil {
		s.measures.malformed.Add(1)
		s.note("malformed message ignored", "malformed", "bytes", len(m.Data), "error", err)
		return
	}
	s.measures.in[msg.Event].Add(1)
	switch msg.Event {
	case eventConnected:
	case eventStart:
		s.started(msg)
	case eventMedia:
		if p := s.reader.pending; p != nil && msg.StreamSid != "" {
			s.begin(msg.StreamSid, *p)
		}
		s.media(&msg.Media, m.At)
	case eventMark:
		s.marked(msg.Mark, m.At)
	case eventDTMF:
		s.digits(&msg, m.At)
	case eventStop:
		s.stopped()
	case eventUnknown, eventClear, eventCount:
		s.note("unknown event ignored", "event "+strings.ToLower(printable(msg.Name)), "event", printable(msg.Name))
	}
}

// note logs an oddity once per call and key.
func (s *stream) note(what, key string, args ...any) {
	if _, seen := s.reader.noted[key]; seen || len(s.reader.noted) >= maxNoted {
		return
	}
	if s.reader.noted == nil {
		s.reader.noted = make(map[string]struct{})
	}
	s.reader.noted[key] = struct{}{}
	s.log.Warn("stream out of the ordinary", append(args, "what", what)...)
}

// started deals with a start message.
func (s *stream) started(msg message) {
	switch {
	case s.state() != waitStart || s.reader.pending != nil:
		s.drop(dropSecondStart, 1)
		s.note("second start ignored", "second start")
	case len(msg.StreamSid) > maxNameBytes:
		s.note("start ignored: its stream id is too long", "long sid", "bytes", len(msg.StreamSid))
	case msg.StreamSid == "":
		// Perhaps the media messages have it; the start deadline goes on.
		s.reader.pending = &msg.Start
		s.note("start without a stream id", "no sid")
	default:
		s.begin(msg.StreamSid, msg.Start)
	}
}

// begin offers the leg.
func (s *stream) begin(streamSid string, start startMessage) {
	s.mu.Lock()
	if s.state() != waitStart {
		s.mu.Unlock()
		return // too late
	}
	s.start = start
	s.enc = newEncoder(streamSid)
	s.setState(dialing)
	s.mu.Unlock()
	s.reader.pending = nil
	defer close(s.ready)
	if !start.Format.supported() {
		s.problem = "media format is not µ-law, 8000 Hz, mono: " + start.Format.String()
		return
	}
	leg, err := s.admission.Offer(offerOf(&start), s.frame)
	if err != nil {
		s.problem = err.Error()
		return
	}
	s.leg = leg
	leg.Event(false, "start")
}

// offerOf is what the start message says of the call. The token is in none of
// the parameters, even if the platform put it there.
func offerOf(start *startMessage) sdk.Offer {
	o := sdk.Offer{PlatformAccount: cutText(start.AccountSid, maxNameBytes), PlatformCallID: cutText(start.CallSid, maxNameBytes)}
	for key, value := range start.Parameters {
		switch {
		case strings.EqualFold(key, parameterToken):
			continue
		case sameName(key, "callerId"):
			o.Caller = strings.TrimSpace(cutText(value, maxNameBytes))
		case sameName(key, "accountId") && o.PlatformAccount == "":
			o.PlatformAccount = cutText(value, maxNameBytes)
		}
		if o.Parameters == nil {
			o.Parameters = make(map[string]string, len(start.Parameters))
		}
		o.Parameters[key] = value
	}
	return o
}

// passes tells whether what the platform sends still belongs to a running call,
// and counts what does not.
func (s *stream) passes(n uint64) bool {
	switch st := s.state(); {
	case st == waitStart:
		s.drop(dropBeforeStart, n)
		return false
	case st > talking || s.leg == nil:
		s.drop(dropAfterEnd, n)
		return false
	}
	return true
}

// media cuts a payload into frames and sends them to the other side.
func (s *stream) media(m *mediaMessage, at int64) {
	if !s.passes(1) {
		return
	}
	if m.BadPayload {
		s.drop(dropPayload, 1)
		s.note("media payload is no base64", "payload")
		return
	}
	index := 0
	switch {
	case m.Track == trackCaller:
	case m.Track == trackAgent && s.monitor && len(s.leg.Streams()) > 1:
		index = 1
	default:
		s.drop(dropTrack, 1)
		return
	}
	l := &s.reader.lanes[index]
	if dropped := l.push(m.Audio); dropped > 0 {
		s.drop(dropBacklog, uint64(dropped/frameBytes))
		l.timestamp += uint32(dropped)
		l.gap = true
	}
	for payload := l.next(); payload != nil; payload = l.next() {
		s.write(l, sdk.Frame{
			Kind: sdk.Audio, Stream: index, TalkSpurt: !l.begun, Discontinuity: l.gap, Origin: at, Payload: payload,
		})
		l.begun, l.gap = true, false
		l.timestamp += frameBytes
		s.framesIn.Add(1)
	}
}

// write numbers a frame and sends it to the other side.
func (s *stream) write(l *lane, f sdk.Frame) {
	f.Sequence, f.Timestamp = l.sequence, l.timestamp
	l.sequence++
	s.leg.Write(f)
}

// marked passes the echo of a mark on, or notes that the last audio has played.
func (s *stream) marked(name string, at int64) {
	if s.isFinalMark(name) {
		select {
		case <-s.echoed: // echoed twice
		default:
			close(s.echoed)
		}
		return
	}
	if s.passes(1) && name != "" {
		s.write(&s.reader.lanes[0], sdk.Frame{Kind: sdk.Mark, Origin: at, Payload: []byte(name)})
	}
}

// digits passes DTMF on, a frame for each digit. Digits may be a PIN: none is
// ever logged.
func (s *stream) digits(m *message, at int64) {
	if m.BadDigits > 0 {
		s.drop(dropDigit, uint64(m.BadDigits))
		s.note("dtmf with something that is no digit", "digit")
	}
	if m.Digits == "" || !s.passes(uint64(len(m.Digits))) {
		return
	}
	for i := range len(m.Digits) {
		payload := sdk.DTMFPayload(s.reader.digit[:0], m.Digits[i], 0)
		s.write(&s.reader.lanes[0], sdk.Frame{Kind: sdk.DTMF, Origin: at, Payload: payload})
	}
	s.leg.Event(false, "dtmf")
}

// stopped deals with the platform's stop: the caller has left, or it answers ours.
func (s *stream) stopped() {
	s.mu.Lock()
	if s.state() < stopSent {
		s.setState(peerEnded)
	}
	s.mu.Unlock()
	select {
	case <-s.peerStop: // a second stop
	default:
		close(s.peerStop)
	}
}
