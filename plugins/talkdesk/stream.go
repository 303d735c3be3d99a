package main

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
	"github.com/patchbay/patchbay/sdk/media/latency"
)

// state of a stream. It only ever moves down this list.
type state uint8

const (
	waitStart state = iota // upgraded, nothing known of the call yet
	dialing                // the leg is offered
	talking                // the other side has answered
	draining               // the call is over, what is queued plays out
	stopSent               // our stop is out: nothing may follow it
	peerEnded              // the platform's stop or close came first
	abandoned              // ended without a stop of ours
)

// stream is one WebSocket of the platform and, from its start message on, the
// ingress leg of one call.
//
// Three parties use it: the engine calls Received and Closed, the media reader
// calls frame, and conduct, the only goroutine of a stream, leads it from the
// upgrade to its end. state and everything sent are under mu, so that the order
// of messages is the order of states.
type stream struct {
	server    *server
	set       *settings
	measures  *measures
	log       *slog.Logger
	admission sdk.Admission
	monitor   bool
	conn      engine.WebSocketConn // set before the first Received

	reader struct { // used by Received only
		scanner mediaScanner
		lanes   [2]lane // caller, agent
		pending *startMessage
		noted   map[string]struct{}
		digit   [3]byte
	}

	leg     sdk.IngressLeg // set before ready is closed; nil: the start failed
	start   startMessage   // likewise
	problem string         // why leg is nil

	ready    chan struct{} // start has been dealt with
	peerStop chan struct{} // the platform sent stop
	echoed   chan struct{} // the final mark came back
	closed   chan struct{} // the socket is closed
	closeErr error         // why; set before closed is closed

	framesIn, framesOut atomic.Uint64
	dropped             drops
	current             atomic.Uint32 // state, written under mu

	mu        sync.Mutex
	enc       encoder
	out       []byte
	lastSent  int64 // when audio was sent last, on the engine's clock; 0: nothing is playing
	finalMark string
	delay     latency.Histogram // of audio, from its origin to our queue
}

func newStream(s *server, set *settings, req streamRequest, a sdk.Admission) *stream {
	return &stream{
		server: s, set: set, measures: s.measures, admission: a, monitor: req.Monitor,
		log:   s.log.With("call_id", a.CallID()),
		ready: make(chan struct{}), peerStop: make(chan struct{}),
		echoed: make(chan struct{}), closed: make(chan struct{}),
	}
}

func (s *stream) state() state { return state(s.current.Load()) }

// setState is called under mu.
func (s *stream) setState(to state) { s.current.Store(uint32(to)) }

// moveFrom makes the transition if the stream is still in the state from.
func (s *stream) moveFrom(from, to state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state() != from {
		return false
	}
	s.setState(to)
	return true
}

func (s *stream) drop(reason drop, n uint64) {
	s.dropped[reason].Add(n)
	s.measures.dropped[reason].Add(n)
}

// Closed implements engine.Handler.
func (s *stream) Closed(err error) {
	s.mu.Lock()
	if s.state() < stopSent {
		s.setState(peerEnded)
	}
	s.mu.Unlock()
	s.closeErr = err
	close(s.closed)
}

// frame takes one frame toward the platform. It is the leg's frames function.
func (s *stream) frame(f *sdk.Frame) {
	if f.Kind == sdk.Audio && len(f.Payload) == 0 {
		return // the end record
	}
	if s.monitor {
		s.drop(dropMonitor, 1) // a stream that only listens takes nothing (§6)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.state(); st != dialing && st != talking {
		s.drop(dropLateFrame, 1)
		return
	}
	switch f.Kind {
	case sdk.Audio:
		s.out = s.enc.appendMedia(s.out[:0], f.Payload)
		if s.send(eventMedia, engine.Media) {
			s.framesOut.Add(1)
			s.lastSent = s.server.engine.Now()
			if f.Origin > 0 {
				s.delay.Observe(time.Duration(s.lastSent - f.Origin))
			}
		}
	case sdk.Mark:
		s.out = s.enc.appendMark(s.out[:0], cutText(string(f.Payload), maxNameBytes))
		s.send(eventMark, engine.Control)
	case sdk.Clear:
		s.out = s.enc.appendClear(s.out[:0])
		s.send(eventClear, engine.Control)
		s.lastSent = 0
	case sdk.DTMF:
		s.drop(dropNoDTMF, 1) // the platform's protocol has no digits toward it
	case sdk.ComfortNoise:
		s.drop(dropComfortNoise, 1)
	}
}

// send queues the message in s.out; called under mu. The queue never blocks.
func (s *stream) send(e event, class engine.Class) bool {
	if err := s.conn.Send(engine.Text, s.out, class); err != nil {
		if class == engine.Media {
			s.drop(dropSendFull, 1)
		}
		return false // the connection is ending: Closed says why
	}
	s.measures.out[e].Add(1)
	return true
}

// sendFinalMark begins the drain. It reports false when there is nothing to wait
// for: the stream is over, or no audio was sent lately.
func (s *stream) sendFinalMark() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state()
	if s.monitor || st != dialing && st != talking {
		return false
	}
	s.setState(draining)
	if s.lastSent == 0 || s.server.engine.Now()-s.lastSent > int64(s.set.lately) {
		return false
	}
	s.finalMark = "final-" + s.admission.CallID()
	s.out = s.enc.appendMark(s.out[:0], s.finalMark)
	return s.send(eventMark, engine.Control)
}

// sendStop tells the platform the result, exactly once, and never after its own
// stop or close. It reports whether the message went out.
func (s *stream) sendStop(result, target string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.state(); s.monitor || st == waitStart || st >= stopSent {
		return false
	}
	s.setState(stopSent)
	m := stopMessage{
		AccountSid: cutText(s.start.AccountSid, maxNameBytes), CallSid: cutText(s.start.CallSid, maxNameBytes),
		Command: s.set.command(result),
	}
	if result == sdk.ResultEscalate {
		m.RingGroup = cutRingGroup(target)
	}
	s.out = s.enc.appendStop(s.out[:0], m)
	if !s.send(eventStop, engine.Control) {
		return false
	}
	s.measures.stopped(result)
	return true
}

// isFinalMark tells whether an echoed mark is ours.
func (s *stream) isFinalMark(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finalMark != "" && name == s.finalMark
}
