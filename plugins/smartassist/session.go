package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
	"github.com/patchbay/patchbay/sdk/media/dtmf"
	"github.com/patchbay/patchbay/sdk/media/playout"
)

// maxDigitsOut is how many digits wait for INFO.
const maxDigitsOut = 64

// session is the RTP session of one call, RFC 3550: a pair of sockets, one stream out, one in.
//
// Three goroutines meet in it: the engine's reading side (recv), the engine's tick (both halves), and core's media
// reader (send). recvMu guards recv, sendMu guards send; neither is taken while the other is held.
type session struct {
	engine engine.Engine
	log    *slog.Logger
	rtp    engine.DatagramConn
	rtcp   engine.DatagramConn
	port   uint16
	free   func()
	pace   *engine.Pace
	start  sync.Once
	paced  bool

	rtpClosed, rtcpClosed chan struct{}

	recvMu sync.Mutex
	recv   receiver

	sendMu sync.Mutex
	send   sender

	digitByInfo bool
	digitsOut   chan dtmf.Digit

	reports   reports
	reportDue int64 // of the tick alone
}

// openSession binds a pair of ports. Nothing is sent, and nothing received is used, before describe.
func openSession(ctx context.Context, e engine.Engine, pool *portPool, leg frameWriter, c *config, log *slog.Logger) (*session, error) {
	pair, err := pool.open(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{
		engine: e, log: log, port: pair.port, free: pair.release, digitByInfo: c.dtmfByInfo,
		rtpClosed: make(chan struct{}), rtcpClosed: make(chan struct{}), digitsOut: make(chan dtmf.Digit, maxDigitsOut),
	}
	s.recv.init(leg, c.strictSource)
	s.send.digits = dtmf.NewEncoder(ptime)
	if s.send.playout, err = playout.NewBuffer(playout.Config{Law: playout.ULaw, Ptime: ptime}); err != nil {
		return nil, fmt.Errorf("make the playout buffer: %w", err)
	}
	seed := make([]byte, 10)
	_, _ = rand.Read(seed)      // never fails
	s.send.header = rtp.Header{ // RFC 3550 §5.1: all three begin at random
		Version: rtpVersion, SSRC: binary.BigEndian.Uint32(seed), Timestamp: binary.BigEndian.Uint32(seed[4:]),
		SequenceNumber: binary.BigEndian.Uint16(seed[8:]),
	}
	s.reports.init(e.Now())
	if s.rtp, err = e.Datagram(pair.rtp, func(engine.DatagramConn) engine.Handler { return rtpSocket{s} }); err != nil {
		_ = pair.rtcp.Close() // err tells more
		s.free()
		return nil, fmt.Errorf("take over the rtp socket: %w", err)
	}
	if s.rtcp, err = e.Datagram(pair.rtcp, func(engine.DatagramConn) engine.Handler { return rtcpSocket{s} }); err != nil {
		_ = s.rtp.Close() // err tells more
		<-s.rtpClosed
		s.free()
		return nil, fmt.Errorf("take over the rtcp socket: %w", err)
	}
	return s, nil
}

// describe follows the peer's description: where to send, what, and what to take. From the first one on a packet goes
// out every ptime: the far SBC latches on it.
func (s *session) describe(m mediaDescription) {
	s.recvMu.Lock()
	r := &s.recv
	r.open, r.payload, r.event, r.alaw = true, m.payload, m.event, m.alaw
	if m.rtp.IsValid() {
		r.lock.set(m.rtp)
	}
	r.replay(m.rtp.Addr(), s.engine.Now())
	to := r.lock.latched
	s.recvMu.Unlock()
	if !to.IsValid() {
		to = m.rtp
	}

	s.sendMu.Lock()
	x := &s.send
	x.open, x.hold, x.payload, x.event, x.alaw = true, m.held, m.payload, m.event, m.alaw
	if m.rtp.IsValid() {
		x.to = to
	}
	s.sendMu.Unlock()

	if m.rtcp.IsValid() {
		s.reports.mu.Lock()
		s.reports.to = m.rtcp
		s.reports.mu.Unlock()
	}
	s.start.Do(func() {
		s.reportDue = s.engine.Now() + int64(reportInterval)
		s.paced = true
		s.pace = s.engine.Every(ptime, s.tick)
	})
}

// mute stops both directions until the next describe: the target that described itself does not take the call.
func (s *session) mute() {
	s.recvMu.Lock()
	s.recv.open = false
	s.recv.early.drop(&s.recv.tally)
	s.recv.lock.set(netip.AddrPort{})
	s.recvMu.Unlock()
	s.sendMu.Lock()
	s.send.open = false
	s.sendMu.Unlock()
}

// heardDigit takes a digit that came by INFO.
func (s *session) heardDigit(digit byte, length time.Duration) {
	s.recvMu.Lock()
	s.recv.writeDigit(digit, length)
	s.recvMu.Unlock()
}

// follow sends to the address that was heard first: behind a NAT it is not the description's (symmetric RTP, RFC 4961).
func (s *session) follow(from netip.AddrPort) {
	s.sendMu.Lock()
	moved := s.send.to != from
	s.send.to = from
	s.sendMu.Unlock()
	if moved {
		s.log.Info("rtp comes from another address than described, following it", "address", from.String())
	}
}

// close says goodbye, closes both sockets and waits for them.
func (s *session) close() {
	s.start.Do(func() {}) // it cannot begin any more
	if s.pace != nil {
		s.pace.Stop()
		s.pace.Wait()
	}
	if s.paced {
		s.sendReport(s.engine.Now(), true)
	}
	_ = s.rtp.Close() // nothing to be done about it
	_ = s.rtcp.Close()
	<-s.rtpClosed
	<-s.rtcpClosed
	s.free()
}

// stats are the session's figures.
func (s *session) stats() sdk.LegStats {
	s.recvMu.Lock()
	if !s.recv.open {
		s.recv.early.drop(&s.recv.tally)
	}
	in := s.recv.jitter.Stats()
	jitterMS := float64(s.recv.jitter.Jitter()) / float64(time.Millisecond)
	events := s.recv.digits.Stats
	s.recvMu.Unlock()
	s.sendMu.Lock()
	out := s.send.playout.Stats()
	s.sendMu.Unlock()
	delay := s.send.delay.Snapshot()
	st := sdk.LegStats{
		FramesIn: s.recv.frames.Load(), FramesOut: s.send.frames.Load(),
		Lost: in.Lost, Late: in.Late, Duplicates: in.Duplicate, Reordered: in.Reordered,
		Fills: out.Fills, Drops: map[string]uint64{}, DropsOut: map[string]uint64{},
		JitterMS: jitterMS, RoundTripMS: s.reports.roundTrip().Seconds() * 1000,
		DelayOut: sdk.Delay{
			P50MS: milliseconds(delay.Quantile(0.5)), P99MS: milliseconds(delay.Quantile(0.99)),
			MaxMS: milliseconds(delay.Max), Count: delay.Count,
		},
	}
	count := func(drops map[string]uint64) func(string, uint64) {
		return func(reason string, n uint64) {
			if n > 0 {
				drops[reason] += n
			}
		}
	}
	drop, dropOut := count(st.Drops), count(st.DropsOut)
	for v := malformed; v < verdicts; v++ {
		drop("rtp_"+v.String(), s.recv.tally[v].Load())
		drop("rtcp_"+v.String(), s.reports.tally[v].Load())
	}
	drop("rtp_oversize", in.Oversize)
	drop("rtp_stray", in.Stray)
	drop("rtp_socket_oversize", s.rtp.Stats().Oversized)
	drop("event_malformed", events.Malformed)
	drop("event_no_digit", events.Ignored)
	dropOut("digit_out", s.send.lostDigits.Load())
	dropOut("send_error", s.send.sendErrors.Load())
	dropOut("by_key", s.send.byKey.Load())
	dropOut("on_hold", s.send.onHold.Load())
	dropOut("unknown_frame", s.send.odd.Load())
	dropOut("playout_overflow_frames", out.Overflow/frameSamples)
	dropOut("playout_speech_frames", out.Speech/frameSamples)
	dropOut("playout_silence_frames", out.Silence/frameSamples)
	dropOut("playout_preroll_frames", out.Preroll/frameSamples)
	dropOut("playout_cleared_frames", out.Cleared/frameSamples)
	return st
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
