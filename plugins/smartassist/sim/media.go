package sim

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
)

const (
	// frameSize is one ptime of G.711 in bytes and in timestamp units.
	frameSize = 160
	ptime     = 20 * time.Millisecond
	// maxPacket is the largest RTP or RTCP packet that is read whole.
	maxPacket = 2048
	// maxKept bounds the payload one call keeps, in bytes: some two hours of G.711.
	maxKept = 64 << 20
	// arena is how much payload memory is taken at a time.
	arena = 64 << 10
	// maxEcho bounds the frames that wait to be echoed: 200 ms.
	maxEcho = 10
)

// format is what the negotiation says of the RTP stream. It is never changed, only replaced.
type format struct {
	audioPT int
	eventPT int // noEvents when not agreed on
	fill    byte
	alaw    bool
	muted   bool // the caller does not want to hear
}

// sockets is the RTP and RTCP pair, on an even port and the next (RFC 3550 §11).
type sockets struct{ rtp, rtcp *net.UDPConn }

func (s *sockets) close() error { return errors.Join(s.rtp.Close(), s.rtcp.Close()) }

// media is the RTP side of one call: a reader per socket and one paced sender.
type media struct {
	call *call
	ip   netip.Addr
	quit chan struct{} // closed when the call has ended: the sender stops

	sockets   atomic.Pointer[sockets]
	format    atomic.Pointer[format]
	remote    atomic.Pointer[netip.AddrPort] // where RTP goes
	control   atomic.Pointer[netip.AddrPort] // where RTCP goes
	described atomic.Pointer[netip.AddrPort] // what the caller's SDP said last
	latched   atomic.Pointer[netip.AddrPort] // the first source heard; others are not believed

	mu        sync.Mutex // guards what follows, never held across I/O
	recv      *rtpwire.Receiver
	kept      []rtpwire.Packet
	free      []byte // rest of the current arena block
	keptBytes int
	firstAt   time.Time
	wasOpen   bool // answered
	wasClosed bool // ended
	started   bool
	closed    bool
	rtcp      RTCP
	sent      Sent
	lastSR    uint32
	lastSRAt  time.Time
	echo      [maxEcho][frameSize]byte
	echoHead  int
	echoLen   int
	keys      []Digit // to send; At is relative to the answer
	answerAt  time.Time
}

func newMedia(c *call, ip netip.Addr) (*media, error) {
	s, err := openSockets(ip)
	if err != nil {
		return nil, err
	}
	m := &media{call: c, ip: ip, quit: make(chan struct{}), recv: rtpwire.NewReceiver(), keys: c.behave.DTMF}
	m.sockets.Store(s)
	m.format.Store(&format{audioPT: noEvents, eventPT: noEvents, muted: true})
	return m, nil
}

// openSockets finds an even port whose odd neighbour is free too.
func openSockets(ip netip.Addr) (*sockets, error) {
	const attempts = 100
	var last error
	for range attempts {
		probe, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			return nil, fmt.Errorf("open rtp socket on %s: %w", ip, err)
		}
		at := addrPort(probe.LocalAddr())
		if at.Port()%2 == 1 {
			last = probe.Close()
			continue
		}
		rtcp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, at.Port()+1)))
		if err == nil {
			return &sockets{rtp: probe, rtcp: rtcp}, nil
		}
		last = errors.Join(err, probe.Close())
	}
	return nil, fmt.Errorf("open rtp socket pair on %s: no even and odd port free in %d attempts: %w", ip, attempts, last)
}

func (m *media) addr() netip.AddrPort {
	return netip.AddrPortFrom(m.ip, addrPort(m.sockets.Load().rtp.LocalAddr()).Port())
}

// configure applies a negotiation. The latched source stays while the caller's description names the same address,
// and is forgotten when the caller moves.
func (m *media) configure(f format, rtp, rtcp netip.AddrPort) {
	m.format.Store(&f)
	if before := m.described.Swap(&rtp); before != nil && *before != rtp {
		m.latched.Store(nil)
	}
	if m.latched.Load() == nil {
		m.remote.Store(&rtp)
		m.control.Store(&rtcp)
	}
}

// move opens another pair of ports and forgets the latched source, as a media re-anchor does.
func (m *media) move() error {
	s, err := openSockets(m.ip)
	if err != nil {
		return err
	}
	m.latched.Store(nil)
	old := m.sockets.Swap(s)
	m.listen()
	if err := old.close(); err != nil {
		return fmt.Errorf("close rtp sockets: %w", err)
	}
	return nil
}

// listen starts the readers of the current sockets; they end when the sockets are closed.
func (m *media) listen() {
	s := m.sockets.Load()
	m.call.bot.wg.Go(func() { m.readRTP(s.rtp) })
	m.call.bot.wg.Go(func() { m.readRTCP(s.rtcp) })
}

// start starts the sender, once.
func (m *media) start() {
	m.mu.Lock()
	first := !m.started
	m.started = true
	m.mu.Unlock()
	if first {
		m.call.bot.wg.Go(func() { newSender(m).run(m.quit) })
	}
}

// answered marks the moment from which packets are in the dialog.
func (m *media) answered() {
	m.mu.Lock()
	m.wasOpen, m.answerAt = true, time.Now()
	m.mu.Unlock()
}

// hangup stops the sender; the sockets stay open to hear what still comes.
func (m *media) hangup() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wasClosed {
		m.wasClosed = true
		close(m.quit)
	}
}

// close closes the sockets, which ends the readers.
func (m *media) close() {
	m.hangup()
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.mu.Unlock()
	if !closed {
		_ = m.sockets.Load().close()
	}
}

func (m *media) readRTP(conn *net.UDPConn) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier send
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if key := m.take(buf[:n], from, time.Now()); key != "" {
			m.tell(key)
		}
	}
}

// tell has the call react to a key; it does not wait for a call that is ending.
func (m *media) tell(key string) {
	select {
	case m.call.inbox <- func() { m.call.keyPressed(key) }:
	case <-m.quit:
	case <-m.call.done:
	}
}

// take takes in one packet and returns the key whose event it ended, if any.
func (m *media) take(b []byte, from netip.AddrPort, now time.Time) (key string) {
	f := m.format.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	h, payload, err := rtpwire.Parse(b)
	if err != nil {
		m.recv.Malformed()
		return ""
	}
	switch source := m.latched.Load(); {
	case source == nil: // rtpengine's latching: the first packet decides where to send
		first := from // only here does the address need memory of its own
		m.latched.Store(&first)
		m.remote.Store(&first)
	case *source != from:
		m.recv.Foreign()
		return ""
	}
	if m.firstAt.IsZero() {
		m.firstAt = now
	}
	switch {
	case m.wasClosed:
		m.recv.AfterEnd()
	case !m.wasOpen:
		m.recv.BeforeAnswer()
	}
	before, _ := m.recv.Ended()
	kind := f.kind(h.PayloadType)
	p, isNew := m.recv.Receive(h, payload, kind, f.fill, now)
	if isNew {
		m.keep(p)
		if kind == rtpwire.Audio && m.call.behave.Echo {
			m.pushEcho(payload)
		}
	}
	if after, digit := m.recv.Ended(); after > before {
		return digit
	}
	return ""
}

// keep copies a packet for recordings and tests.
func (m *media) keep(p rtpwire.Packet) {
	if !m.call.bot.opts.KeepPackets || m.keptBytes+len(p.Payload) > maxKept {
		return
	}
	if len(m.free) < len(p.Payload) {
		m.free = make([]byte, arena)
	}
	n := copy(m.free, p.Payload)
	p.Payload, m.free = m.free[:n:n], m.free[n:]
	m.keptBytes += n
	m.kept = append(m.kept, p)
}

func (m *media) pushEcho(payload []byte) {
	if len(payload) != frameSize {
		return
	}
	if m.echoLen == maxEcho {
		m.echoHead, m.echoLen = (m.echoHead+1)%maxEcho, m.echoLen-1
		m.sent.EchoDropped++
	}
	copy(m.echo[(m.echoHead+m.echoLen)%maxEcho][:], payload)
	m.echoLen++
}

func (m *media) packets() []rtpwire.Packet {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]rtpwire.Packet(nil), m.kept...)
}

// report fills in the media part of a call's account.
func (m *media) report(c *Call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.RTP, c.RTCP, c.Sent, c.DTMF = m.recv.Stats(), m.rtcp, m.sent, m.recv.DTMF()
	if !m.firstAt.IsZero() {
		c.RTP.FirstMS = millis(m.firstAt.Sub(m.call.began))
	}
	for _, e := range c.DTMF {
		c.Digits += e.Digit
	}
}
