package main

import (
	"errors"
	"time"

	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// q850Normal is Q.850 cause 16, normal call clearing; q850Lost is 27,
// destination out of order; q850Failure is 41, temporary failure.
const (
	q850Normal  = 16
	q850Lost    = 27
	q850Failure = 41
)

// conduct leads the stream from the upgrade to its end.
func (s *stream) conduct() {
	defer s.server.forget(s)
	if s.awaitStart() {
		if s.leg == nil {
			s.log.Warn("stream failed", "reason", s.problem)
			s.admission.Withdraw()
			s.sendStop(sdk.ResultError, "")
		} else {
			ending := s.talk()
			ending.Stats = s.stats()
			s.leg.End(ending)
			s.log.Info("stream ended", "ending", ending.String())
		}
		s.closeAfterGrace()
	}
	<-s.closed
}

// awaitStart waits until the start message has been dealt with. When it reports
// false the stream is being closed and nothing is reserved any more.
func (s *stream) awaitStart() bool {
	deadline := time.NewTimer(s.set.startTimeout)
	defer deadline.Stop()
	code, reason := websocket.CloseNormalClosure, ""
	select {
	case <-s.ready:
		return true
	case <-s.peerStop:
	case <-s.closed:
	case <-deadline.C:
		code, reason = websocket.ClosePolicyViolation, "no start message"
	case <-s.server.stopping:
		code, reason = websocket.CloseGoingAway, "the gateway is shutting down"
	}
	s.mu.Lock()
	started := s.state() != waitStart && s.encReady()
	if !started {
		s.setState(max(s.state(), abandoned))
	}
	s.mu.Unlock()
	if started { // it came in the same moment
		<-s.ready
		return true
	}
	s.admission.Withdraw()
	s.log.Info("stream ended before its start message", "reason", reason)
	s.conn.Close(code, reason)
	return false
}

// encReady tells, under mu, whether begin has taken the start message.
func (s *stream) encReady() bool { return s.enc.sid != nil }

// talk lasts as long as the call and returns how the leg ended.
func (s *stream) talk() sdk.Ending {
	answered := s.leg.Answered()
	for {
		select {
		case <-answered:
			answered = nil
			s.moveFrom(dialing, talking)
		case f := <-s.leg.Finished():
			return s.finish(f)
		case <-s.peerStop:
			return s.callerLeft("stop")
		case <-s.closed:
			return s.socketEnded()
		case <-s.server.stopping:
			if s.sendStop(sdk.ResultError, "") {
				s.leg.Event(true, "stop error")
			}
			return sdk.Ending{Termination: sdk.Termination{
				Who: sdk.GatewayItself, Reason: sdk.ReasonLost, Q850: q850Failure, Detail: "the gateway is shutting down",
			}}
		}
	}
}

// finish plays out what is queued and tells the platform the result.
func (s *stream) finish(f sdk.Finish) sdk.Ending {
	if s.sendFinalMark() {
		s.awaitEcho()
	}
	switch {
	case s.sendStop(f.Result, f.Target):
		text := "stop " + s.set.command(f.Result)
		if f.Result == sdk.ResultEscalate {
			text += " " + cutRingGroup(f.Target)
		}
		s.leg.Event(true, text)
	case s.monitor:
	case s.state() == peerEnded:
		return s.callerLeft("stop or close while the last audio played")
	}
	return sdk.Ending{Termination: f.Termination}
}

// awaitEcho waits until the platform has played everything. The echo is
// undocumented, so it is never waited for longer than drainTimeout (§8 row 12).
func (s *stream) awaitEcho() {
	limit := time.NewTimer(s.set.drainTimeout)
	defer limit.Stop()
	select {
	case <-s.echoed:
	case <-s.peerStop:
	case <-s.closed:
	case <-s.server.stopping:
	case <-limit.C:
		s.log.Debug("final mark not echoed")
	}
}

func (s *stream) callerLeft(how string) sdk.Ending {
	s.leg.Event(false, how)
	return sdk.Ending{Termination: sdk.Termination{
		Who: sdk.Caller, Reason: sdk.ReasonHangup, Q850: q850Normal, Detail: "the platform ended the stream: " + how,
	}}
}

// socketEnded says what the end of the socket means. A close without stop, clean
// or not, is a caller who hung up (§8 row 17); a peer that answers no ping or
// reads nothing is lost.
func (s *stream) socketEnded() sdk.Ending {
	select {
	case <-s.peerStop: // stop came just before
		return s.callerLeft("stop")
	default:
	}
	s.log.Info("the stream ended without a stop", "error", s.closeErr)
	lost := func(q850 int, detail string) sdk.Ending {
		s.leg.Event(false, "connection lost")
		return sdk.Ending{Termination: sdk.Termination{Who: sdk.Platform, Reason: sdk.ReasonLost, Q850: q850, Detail: detail}}
	}
	switch closed, ok := asCloseError(s.closeErr); {
	case errors.Is(s.closeErr, engine.ErrPongTimeout):
		return lost(q850Lost, "the platform answers no pings")
	case errors.Is(s.closeErr, engine.ErrOverflow):
		return lost(q850Failure, "the platform does not read the stream")
	case errors.Is(s.closeErr, websocket.ErrReadLimit):
		return lost(q850Failure, "a message of the platform is over 1 MiB")
	case errors.Is(s.closeErr, engine.ErrClosed):
		return lost(q850Failure, "the stream was cut off at shutdown")
	case ok && closed.Code != websocket.CloseAbnormalClosure:
		return s.callerLeft("close without stop")
	}
	return s.callerLeft("connection lost without stop or close")
}

func asCloseError(err error) (*websocket.CloseError, bool) {
	var closed *websocket.CloseError
	ok := errors.As(err, &closed)
	return closed, ok
}

// closeAfterGrace gives the platform time to close the stream itself after our
// stop, then closes it. A reset after our stop is success (§8 row 16).
func (s *stream) closeAfterGrace() {
	code, reason := websocket.CloseNormalClosure, ""
	stopping := s.server.stopping
	grace := time.NewTimer(s.set.closeGrace)
	defer grace.Stop()
	for s.state() == stopSent {
		select {
		case <-s.peerStop:
		case <-s.closed:
		case <-grace.C:
		case <-stopping:
			stopping = nil
			code, reason = websocket.CloseGoingAway, "the gateway is shutting down"
			grace.Reset(min(s.set.shutdownGrace, s.set.closeGrace))
			continue
		}
		break
	}
	s.conn.Close(code, reason)
}

// stats are the leg's media figures for the call record.
func (s *stream) stats() sdk.LegStats {
	socket := s.conn.Stats()
	for _, d := range []struct {
		reason drop
		n      uint64
	}{{dropSendFull, socket.DroppedFull}, {dropSendOld, socket.DroppedOld}} {
		if d.n > 0 {
			s.drop(d.reason, d.n)
		}
	}
	delay := s.delay.Snapshot()
	return sdk.LegStats{
		FramesIn: s.framesIn.Load(), FramesOut: s.framesOut.Load(), Drops: s.dropped.snapshot(0, dropNoDTMF), DropsOut: s.dropped.snapshot(dropNoDTMF, dropCount),
		RoundTripMS: milliseconds(socket.RTT),
		DelayOut: sdk.Delay{
			P50MS: milliseconds(delay.Quantile(0.5)), P99MS: milliseconds(delay.Quantile(0.99)),
			MaxMS: milliseconds(delay.Max), Count: delay.Count,
		},
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
