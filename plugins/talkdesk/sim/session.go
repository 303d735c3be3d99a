package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

var errWriteFailed = errors.New("the connection takes no more messages")

// phase is how far the call has come.
type phase uint8

const (
	phaseTalking phase = iota // audio flows both ways
	phaseLinger               // the gateway's stop is here; reading on to see that nothing follows
	phaseClosing              // waiting for the gateway's close frame
	phaseDone                 // nothing more to wait for
)

// session is one call. All fields but ws and gate belong to the goroutine that runs Run.
type session struct {
	opt    *Options
	ws     *websocket.Conn
	gate   *gate
	report *Report

	started  time.Time // when start was sent
	stopSent time.Time
	sequence int64
	pacer    *pacer
	player   *player
	arrivals arrivals
	script   []Step // what is still to come, in order
	muted    bool
	buf      []byte

	phase       phase
	until       time.Time // when phaseLinger or phaseClosing ends
	claimed     bool      // the outcome is settled
	writeFailed bool
	control     <-chan Action
}

// Run places one call and returns when it has ended. The report is filled as far as the call came, also when an error is
// returned: one that wraps ErrOptions, one from connecting, or ctx's. A refused upgrade is an outcome, not an error. When ctx ends
// the caller hangs up, and the closing handshake is still waited for, at most CloseWait.
func Run(ctx context.Context, o Options) (Report, error) {
	report := Report{Violations: []Violation{}, Timeline: []Event{}}
	target, err := o.target()
	if err != nil {
		return report, err
	}
	report.Target = target
	if err = o.fill(); err != nil {
		return report, err
	}
	report.StreamSID = o.StreamSID
	began := time.Now()
	ws, err := dial(ctx, &o, &report)
	if ws == nil {
		report.Duration = Millis(time.Since(began))
		return report, err
	}
	s := &session{
		opt: &o, ws: ws, gate: newGate(), report: &report,
		pacer: newPacer(&o), player: newPlayer(&o), script: makeScript(&o), control: o.Control,
	}
	err = s.run(ctx)
	s.player.finish(s.since(time.Now()))
	s.arrivals.fill(&report)
	report.MaxBacklog = Millis(duration(s.player.maxAhead))
	report.Underruns, report.Pauses = s.player.underruns, s.player.pauses
	report.Cleared, report.Unplayed = Millis(duration(s.player.cleared)), Millis(duration(s.player.unplayed))
	report.Heard = s.player.heard
	report.Duration = Millis(time.Since(s.started))
	return report, err
}

// makeScript puts everything that has a time of its own into one list.
func makeScript(o *Options) []Step {
	script := slices.Clone(o.Script)
	for _, k := range o.DTMF {
		gap := cmp.Or(k.Gap, 200*time.Millisecond)
		for i, d := range k.Digits {
			script = append(script, Step{At: k.At + time.Duration(i)*gap, Do: SendDTMF(string(d))})
		}
	}
	if o.HangupAfter > 0 {
		script = append(script, Step{At: o.HangupAfter, Do: Hangup(o.Hangup)})
	}
	if o.DropAfter > 0 {
		script = append(script, Step{At: o.DropAfter, Do: Drop(o.DropReset)})
	}
	if o.Timeout > 0 {
		script = append(script, Step{At: o.Timeout, Do: Action{"timeout", func(s *session) error {
			return s.hangup(o.Hangup, OutcomeTimeout)
		}}})
	}
	slices.SortStableFunc(script, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return script
}

// run plays the call and waits for the reader.
func (s *session) run(ctx context.Context) error {
	in := make(chan arrival, 64)
	left := make(chan struct{})
	pings := s.pingHandlers()
	go read(s.ws, s.gate, in, left)
	s.started = time.Now()
	err := s.open()
	if err == nil || errors.Is(err, errWriteFailed) {
		err = s.loop(ctx, in)
	}
	close(left)
	if closed := s.ws.Close(); closed != nil && err == nil && !errors.Is(closed, net.ErrClosed) {
		err = fmt.Errorf("close the connection: %w", closed)
	}
	for range in { // the reader closes in when it goes
		continue
	}
	s.report.Pings, s.report.Pongs = int(pings.pings.Load()), int(pings.pongs.Load())
	return err
}

// loop is the call: whatever is due, then whatever comes first.
func (s *session) loop(ctx context.Context, in <-chan arrival) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := ctx.Done()
	var ctxErr error
	for {
		next, err := s.doDue()
		if err = s.survive(err); err != nil {
			return err
		}
		if s.phase == phaseDone {
			return ctxErr
		}
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
		case m := <-in:
			if m.err != nil {
				s.readEnded(m)
				return ctxErr
			}
			err = s.handle(m)
		case a := <-s.control:
			err = s.act(a)
		case <-done:
			done, ctxErr = nil, fmt.Errorf("call ended early: %w", context.Cause(ctx))
			err = s.hangup(s.opt.Hangup, OutcomeHangup)
		}
		if err = s.survive(err); err != nil {
			return err
		}
	}
}

// survive lets a failed write pass: the reader's end tells what happened, and if it does not, the wait is bounded.
func (s *session) survive(err error) error {
	if !errors.Is(err, errWriteFailed) {
		return err
	}
	if s.phase < phaseClosing {
		s.phase, s.until = phaseClosing, time.Now().Add(s.opt.CloseWait)
	}
	return nil
}

// doDue does all that is due, in the order of its times, and returns when the next thing is.
func (s *session) doDue() (time.Time, error) {
	for {
		at, do := s.nextDue()
		if s.phase == phaseDone || at.After(time.Now()) {
			return at, nil
		}
		if err := do(); err != nil {
			return at, err
		}
	}
}

// nextDue returns the earliest thing to do.
func (s *session) nextDue() (time.Time, func() error) {
	// A day is longer than any call; the deadline and the script shorten it.
	at, do := time.Now().Add(24*time.Hour), func() error { return nil }
	consider := func(t time.Time, f func() error) {
		if t.Before(at) {
			at, do = t, f
		}
	}
	if len(s.script) > 0 && s.phase <= phaseLinger {
		// First, so that it wins over a frame that is due at the same moment.
		consider(s.started.Add(s.script[0].At), func() error {
			step := s.script[0]
			s.script = s.script[1:]
			return s.act(step.Do)
		})
	}
	if s.phase != phaseTalking {
		consider(s.until, s.phaseOver)
	} else {
		if name, due, ok := s.player.nextMark(); ok {
			consider(s.started.Add(due), func() error { s.player.popMark(); return s.sendMark(name) })
		}
		if !s.opt.Faults.NoMedia {
			consider(s.started.Add(s.pacer.release), s.sendFrame)
		}
	}
	return at, do
}

// act does something scripted. After the gateway's stop only the connection may still be played with.
func (s *session) act(a Action) error {
	if a.do == nil || s.phase > phaseLinger {
		return nil
	}
	if s.phase == phaseLinger && (a.name == "dtmf" || a.name == "media" || a.name == "hangup" || a.name == "timeout") {
		return nil
	}
	return a.do(s)
}

// sendFrame sends the caller's next frame.
func (s *session) sendFrame() error {
	n := s.pacer.next
	late := s.since(time.Now()) - s.pacer.release
	s.pacer.advance()
	if s.muted {
		return nil
	}
	s.report.SendLate = max(s.report.SendLate, Millis(late))
	return s.sendMedia(n, s.pacer.audio(n))
}

// hangup ends the call from the caller's side.
func (s *session) hangup(mode HangupMode, outcome string) error {
	if s.phase != phaseTalking {
		return nil
	}
	s.claim(outcome, SideCaller)
	s.player.finish(s.since(time.Now()))
	if mode != HangupClose {
		if err := s.sendStop(); err != nil {
			return err
		}
	}
	if mode == HangupStop {
		s.enter(phaseClosing, s.opt.CloseWait)
		return nil
	}
	return s.close(websocket.CloseNormalClosure)
}

// close sends a close frame; the gateway's is waited for.
func (s *session) close(code int) error {
	s.enter(phaseClosing, s.opt.CloseWait)
	s.note(Event{Sent: true, Name: "close", Detail: strconv.Itoa(code)})
	err := s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(writeWait))
	if err != nil {
		s.writeFailed = true
		return fmt.Errorf("%w: %w", errWriteFailed, err)
	}
	return nil
}

// phaseOver goes on from a phase whose time is up.
func (s *session) phaseOver() error {
	if s.phase == phaseClosing { // no close frame in time
		s.claim(OutcomeDropped, SideGateway)
		s.phase = phaseDone
		return nil
	}
	switch s.opt.AfterStop {
	case AfterStopWait:
		s.enter(phaseClosing, s.opt.CloseWait)
		return nil
	case AfterStopEcho:
		if err := s.sendStop(); err != nil {
			return err
		}
	case AfterStopClose:
	}
	return s.close(websocket.CloseNormalClosure)
}

// enter begins a phase that lasts at most for; phases are never taken back.
func (s *session) enter(p phase, length time.Duration) {
	if p > s.phase {
		s.phase, s.until = p, time.Now().Add(length)
	}
}

// claim settles the outcome; the first claim counts.
func (s *session) claim(outcome string, by Side) {
	if !s.claimed {
		s.claimed = true
		s.report.Outcome, s.report.EndedBy = outcome, by
	}
}

// readEnded takes in how the connection ended.
func (s *session) readEnded(m arrival) {
	s.phase = phaseDone
	var closed *websocket.CloseError
	var netErr net.Error
	switch {
	case errors.As(m.err, &closed):
		s.report.CloseCode, s.report.CloseText = closed.Code, closed.Text
	case errors.As(m.err, &netErr), errors.Is(m.err, net.ErrClosed), errors.Is(m.err, io.EOF), errors.Is(m.err, io.ErrClosedPipe):
		s.report.CloseCode = websocket.CloseAbnormalClosure
	default:
		s.report.CloseCode = websocket.CloseAbnormalClosure
		s.violate(m.at, RuleFraming, m.err.Error())
	}
	s.note(Event{Name: "close", Detail: strconv.Itoa(s.report.CloseCode)})
	if s.report.CloseCode == websocket.CloseAbnormalClosure {
		s.claim(OutcomeDropped, SideGateway)
	} else {
		s.claim(OutcomeClosed, SideGateway)
	}
}

// since is the time of the call at which t is.
func (s *session) since(t time.Time) time.Duration { return max(0, t.Sub(s.started)) }

// violate records a breach of the protocol.
func (s *session) violate(at time.Time, rule Rule, detail string) {
	s.report.ViolationCount++
	if len(s.report.Violations) < maxViolations {
		s.report.Violations = append(s.report.Violations, Violation{At: Millis(s.since(at)), Rule: rule, Detail: detail})
	}
	s.trace("!! %s: %s", rule, detail)
}

// note puts a message into the timeline.
func (s *session) note(e Event) {
	e.At = Millis(s.since(time.Now()))
	if len(s.report.Timeline) < maxTimeline {
		s.report.Timeline = append(s.report.Timeline, e)
	}
	arrow := "<-"
	if e.Sent {
		arrow = "->"
	}
	s.trace("%s %s %s", arrow, e.Name, e.Detail)
	s.observe(e)
}

func (s *session) observe(e Event) {
	if s.opt.Observe == nil {
		return
	}
	e.At = Millis(s.since(time.Now()))
	s.opt.Observe(e)
}

func (s *session) trace(format string, args ...any) {
	if s.opt.Trace != nil {
		// The trace is for people to look at; a terminal that has gone does not end the call.
		_, _ = fmt.Fprintf(s.opt.Trace, "%10v %s\n", Millis(s.since(time.Now())), printable(fmt.Sprintf(format, args...)))
	}
}
