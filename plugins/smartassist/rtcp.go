package main

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"github.com/patchbay/patchbay/sdk/engine"
)

const (
	// reportInterval is RFC 3550 §6.2's minimum; a session of two never needs more.
	reportInterval = 5 * time.Second
	// ntpEpoch is 1970 in NTP's seconds since 1900.
	ntpEpoch = 2_208_988_800
	// maxRoundTrip is what a round trip may be; more is a peer's mistake.
	maxRoundTrip = 30 * time.Second
)

// reports is what a session tells and hears by RTCP.
type reports struct {
	tally tally
	rtt   atomic.Int64 // ns, 0: not known
	cname string
	wall  time.Time // at mono, so that a step of the wall clock does not reach the figures
	mono  int64

	mu      sync.Mutex
	to      netip.AddrPort
	lastSR  uint32 // middle 32 bits of the NTP stamp of the peer's last sender report
	arrived int64  // when it came
}

func (r *reports) init(now int64) {
	id := make([]byte, 8)
	_, _ = rand.Read(id)             // never fails
	r.cname = hex.EncodeToString(id) // RFC 7022 §4.2: short-term, says nothing about the host
	r.wall, r.mono = time.Now(), now
}

func (r *reports) roundTrip() time.Duration { return time.Duration(r.rtt.Load()) }

// ntp is a moment of the engine's clock as a 64-bit NTP stamp, RFC 3550 §4.
func (r *reports) ntp(now int64) uint64 {
	t := r.wall.Add(time.Duration(now - r.mono))
	seconds := uint64(t.Unix() + ntpEpoch)
	fraction := uint64(t.Nanosecond()) << 32 / 1_000_000_000
	return seconds<<32 | fraction
}

// sendReport sends a compound packet, RFC 3550 §6.1: sender or receiver report, CNAME, and a goodbye at the end.
func (s *session) sendReport(now int64, bye bool) {
	s.recvMu.Lock()
	seen, heard := s.recv.jitter.Report()
	latched := s.recv.lock.latched
	s.recvMu.Unlock()

	s.reports.mu.Lock()
	to, lastSR, arrived := s.reports.to, s.reports.lastSR, s.reports.arrived
	s.reports.mu.Unlock()
	if latched.IsValid() && to.IsValid() && latched.Addr() != to.Addr() { // behind a NAT: one port up is the best guess
		to = netip.AddrPortFrom(latched.Addr(), latched.Port()+1)
	}
	if !to.IsValid() {
		return
	}
	var blocks []rtcp.ReceptionReport
	if heard {
		b := rtcp.ReceptionReport{
			SSRC: seen.SSRC, FractionLost: seen.FractionLost, TotalLost: uint32(seen.CumulativeLost) & 0xFFFFFF,
			LastSequenceNumber: seen.HighestSeq, Jitter: seen.Jitter,
		}
		if lastSR != 0 {
			b.LastSenderReport, b.Delay = lastSR, ntpShort(time.Duration(now-arrived))
		}
		blocks = append(blocks, b)
	}
	s.sendMu.Lock()
	ssrc, packets, octets := s.send.header.SSRC, s.send.packets, s.send.octets
	stamp := s.send.header.Timestamp + uint32((now-s.send.lastDue)*clockRate/int64(time.Second))
	s.sendMu.Unlock()
	compound := []rtcp.Packet{&rtcp.ReceiverReport{SSRC: ssrc, Reports: blocks}}
	if packets > 0 {
		compound[0] = &rtcp.SenderReport{
			SSRC: ssrc, NTPTime: s.reports.ntp(now), RTPTime: stamp, PacketCount: packets, OctetCount: octets, Reports: blocks,
		}
	}
	compound = append(compound, rtcp.NewCNAMESourceDescription(ssrc, s.reports.cname))
	if bye {
		compound = append(compound, &rtcp.Goodbye{Sources: []uint32{ssrc}})
	}
	data, err := rtcp.Marshal(compound)
	if err == nil {
		err = s.rtcp.Send(data, to)
	}
	if err != nil {
		s.send.sendErrors.Add(1)
	}
}

// receivedRTCP runs on the engine's reading side.
func (s *session) receivedRTCP(m engine.Message) {
	s.recvMu.Lock()
	open, host := s.recv.open, s.recv.lock.host()
	s.recvMu.Unlock()
	s.sendMu.Lock()
	ssrc := s.send.header.SSRC
	s.sendMu.Unlock()
	v := accepted
	switch {
	case !open:
		v = notOpen
	case m.From.Addr() != host:
		v = foreignSource
	case !s.reports.take(m, ssrc):
		v = malformed
	}
	s.reports.tally[v].Add(1)
}

// take reads a compound packet; false when it is none.
func (r *reports) take(m engine.Message, ssrc uint32) bool {
	packets, err := rtcp.Unmarshal(m.Data)
	if err != nil || len(packets) == 0 {
		return false
	}
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.SenderReport:
			r.mu.Lock()
			r.lastSR, r.arrived = uint32(p.NTPTime>>16), m.At
			r.mu.Unlock()
			r.measure(p.Reports, ssrc, m.At)
		case *rtcp.ReceiverReport:
			r.measure(p.Reports, ssrc, m.At)
		}
	}
	return true
}

// measure computes the round trip from what the peer says about our last sender report, RFC 3550 §6.4.1.
func (r *reports) measure(blocks []rtcp.ReceptionReport, ssrc uint32, now int64) {
	for _, b := range blocks {
		if b.SSRC != ssrc || b.LastSenderReport == 0 {
			continue
		}
		units := uint32(r.ntp(now)>>16) - b.LastSenderReport - b.Delay
		rtt := time.Duration(uint64(units) * uint64(time.Second) >> 16)
		if rtt <= maxRoundTrip {
			r.rtt.Store(int64(rtt))
		}
	}
}

// ntpShort is a duration in units of 1/65536 s.
func ntpShort(d time.Duration) uint32 {
	return uint32(uint64(max(d, 0)) << 16 / uint64(time.Second))
}
