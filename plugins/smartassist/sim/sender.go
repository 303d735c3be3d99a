package sim

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/sdk/media/g711"
)

const (
	// reportEvery is the number of frames between RTCP reports: 5 s (RFC 3550 §6.2).
	reportEvery = 250
	// endPackets is how often the end of an event is sent (RFC 4733 §2.5.1.4).
	endPackets = 3
	// keyPause is the number of frames between two keys: 60 ms.
	keyPause = 3
)

// sender paces one RTP stream: every 20 ms, from absolute due times, one packet.
type sender struct {
	m       *media
	write   func(packet []byte) // an RTP packet to the caller
	control func(packet []byte) // an RTCP packet
	seq     uint16
	ts      uint32
	ssrc    uint32
	count   uint32 // packets
	octets  uint32
	marker  bool // on the next audio packet: a talk spurt begins
	playAt  int  // offset into Behaviour.Play
	frame   [frameSize]byte
	packet  []byte
	event   event
	pause   int // frames until the next key may begin
}

// event is the key being sent.
type event struct {
	left     int // packets to go; 0: none
	total    int // packets without the repetitions of the end
	sent     int
	code     uint8
	ts       uint32
	duration uint16
}

func newSender(m *media) *sender {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	s := &sender{
		m: m, marker: true, packet: make([]byte, 0, maxPacket),
		seq: binary.BigEndian.Uint16(b[:]), ts: binary.BigEndian.Uint32(b[2:]), ssrc: binary.BigEndian.Uint32(b[6:]),
	}
	n := 0
	s.write = func(p []byte) {
		if hook := m.call.bot.opts.Hooks.RTP; hook != nil {
			for _, q := range hook(m.call.id, n, p) {
				m.writeTo(m.sockets.Load().rtp, m.remote.Load(), q)
			}
			n++
			return
		}
		m.writeTo(m.sockets.Load().rtp, m.remote.Load(), p)
	}
	s.control = func(p []byte) { m.writeTo(m.sockets.Load().rtcp, m.control.Load(), p) }
	return s
}

// writeTo sends a packet; what cannot be sent is lost, as on any network.
func (m *media) writeTo(conn *net.UDPConn, to *netip.AddrPort, p []byte) {
	if to != nil && to.Port() != 0 && !to.Addr().IsUnspecified() {
		_, _ = conn.WriteToUDPAddrPort(p, *to)
	}
}

// run sends until quit is closed, then says RTCP BYE.
func (s *sender) run(quit <-chan struct{}) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * ptime)
		timer.Reset(time.Until(due))
		select {
		case <-quit:
			s.report(true)
			return
		case <-s.m.call.bot.ctx.Done():
			return
		case <-timer.C:
		}
		s.tick(time.Now(), due)
		if n%reportEvery == reportEvery-1 {
			s.report(false)
		}
	}
}

// tick sends the packet of one ptime.
func (s *sender) tick(now, due time.Time) {
	defer func() { s.ts += frameSize }()
	f := s.m.format.Load()
	key := s.prepare(f, now, due)
	if f.muted {
		s.marker = true
		return
	}
	if key != nil && s.event.left == 0 && f.eventPT != noEvents {
		code, _ := rtpwire.Code(key.Key)
		total := max(1, int(key.Duration/ptime))
		s.event = event{left: total + endPackets - 1, total: total, code: code, ts: s.ts}
		s.pause = s.event.left + keyPause
	}
	if s.event.left > 0 {
		s.sendEvent(f)
		return
	}
	h := rtpwire.Header{Marker: s.marker, PayloadType: uint8(f.audioPT), Seq: s.seq, Timestamp: s.ts, SSRC: s.ssrc} // 7 bits
	s.marker = false
	s.emit(h, s.frame[:])
}

// prepare fills the frame with what is to be heard and takes the key that is due, all under the media lock.
func (s *sender) prepare(f *format, now, due time.Time) *Digit {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent.LateMaxMS = max(m.sent.LateMaxMS, millis(now.Sub(due)))
	var key *Digit
	s.pause--
	if s.event.left == 0 && s.pause < 0 && !m.answerAt.IsZero() && !f.muted && f.eventPT != noEvents {
		for i := range m.keys {
			if !now.Before(m.answerAt.Add(m.keys[i].At)) {
				k := m.keys[i]
				m.keys = append(m.keys[:i:i], m.keys[i+1:]...)
				key = &k
				m.sent.Events++
				break
			}
		}
	}
	if f.muted || key != nil || s.event.left > 0 {
		return key // what is played waits, so that none of it is lost
	}
	s.fillFrame(f)
	m.sent.Packets++
	return nil
}

// fillFrame takes the next frame: echo, then play, then silence.
func (s *sender) fillFrame(f *format) {
	m := s.m
	play := m.call.behave.Play
	switch {
	case m.call.behave.Echo && m.echoLen > 0:
		s.frame = m.echo[m.echoHead] // in the caller's codec already
		m.echoHead, m.echoLen = (m.echoHead+1)%maxEcho, m.echoLen-1
	case s.playAt < len(play):
		n := copy(s.frame[:], play[s.playAt:])
		s.playAt += n
		for i := n; i < frameSize; i++ {
			s.frame[i] = g711.SilenceULaw
		}
		m.sent.PlayFrames++
		m.sent.PlayDone = s.playAt == len(play)
		if f.alaw {
			g711.ULawToALaw(s.frame[:], s.frame[:])
		}
	default:
		for i := range s.frame {
			s.frame[i] = f.fill
		}
	}
}

// sendEvent sends one packet of the running event: growing duration, one timestamp, and the end three times
// (RFC 4733 §2.5.1).
func (s *sender) sendEvent(f *format) {
	e := &s.event
	e.sent++
	e.left--
	if e.sent <= e.total {
		e.duration += frameSize
	}
	h := rtpwire.Header{Marker: e.sent == 1, PayloadType: uint8(f.eventPT), Seq: s.seq, Timestamp: e.ts, SSRC: s.ssrc} // 7 bits
	ev := rtpwire.Event{Code: e.code, End: e.sent >= e.total, Volume: 10, Duration: e.duration}
	var payload [4]byte
	s.m.mu.Lock()
	s.m.sent.Packets++
	s.m.mu.Unlock()
	s.emit(h, ev.Append(payload[:0]))
}

func (s *sender) emit(h rtpwire.Header, payload []byte) {
	s.packet = h.Append(s.packet[:0], payload)
	s.seq++
	s.count++
	s.octets += uint32(len(payload)) // at most a frame
	s.write(s.packet)
}

// report sends an RTCP report on what was sent and received.
func (s *sender) report(bye bool) {
	m := s.m
	now := time.Now()
	o := rtpwire.Outgoing{SSRC: s.ssrc, Packets: s.count, Octets: s.octets, Timestamp: s.ts, CNAME: "bot@" + m.ip.String(), Bye: bye}
	m.mu.Lock()
	if block, ok := m.recv.Block(); ok {
		if m.lastSR != 0 {
			block.LastSR = m.lastSR
			block.DelaySinceSR = uint32(now.Sub(m.lastSRAt).Seconds() * 65536) // wraps after 18 hours
		}
		o.Blocks = append(o.Blocks, block)
	}
	m.sent.RTCP++
	m.mu.Unlock()
	s.control(o.Append(nil, now))
}

// readRTCP counts the caller's reports.
func (m *media) readRTCP(conn *net.UDPConn) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier send
		}
		source := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		r, err := rtpwire.ParseRTCP(buf[:n])
		m.mu.Lock()
		m.rtcp.Packets++
		if err != nil {
			m.rtcp.Malformed++
		} else {
			m.control.Store(&source)
			m.countRTCP(r)
		}
		m.mu.Unlock()
	}
}

func (m *media) countRTCP(r rtpwire.Report) {
	m.rtcp.SenderReports += r.SenderReports
	m.rtcp.ReceiverReports += r.ReceiverReports
	m.rtcp.Descriptions += r.Descriptions
	m.rtcp.Byes += r.Byes
	if r.Blocks > 0 {
		m.rtcp.FractionLost = float64(r.FractionLost) / 256
	}
	if r.SenderReports > 0 {
		m.rtcp.SenderPackets = r.SenderPackets
		m.lastSR, m.lastSRAt = uint32(r.NTP>>16), time.Now() // the middle 32 bits, RFC 3550 §6.4.1
	}
}
