package sim

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

const (
	udp     = "UDP"
	tcp     = "TCP"
	tlsName = "TLS"

	// writeTimeout bounds a write to a stream whose peer does not read.
	writeTimeout = 5 * time.Second
	// idleTimeout closes a stream on which nothing came.
	idleTimeout = 10 * time.Minute
	// maxConns bounds the streams that are open at the same time.
	maxConns = 1024
)

// peer is where a message came from, and the way back.
type peer struct {
	transport string
	addr      netip.AddrPort
	stream    *stream // nil over UDP
}

func (p peer) reliable() bool { return p.stream != nil }

// stream is one accepted connection.
type stream struct {
	conn net.Conn
	mu   sync.Mutex // keeps messages whole
}

func (s *stream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set deadline of sip stream: %w", err)
	}
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("write to sip stream: %w", err)
	}
	return nil
}

// write sends raw bytes to a peer.
func (b *Bot) write(p peer, raw []byte) error {
	if p.stream != nil {
		return p.stream.write(raw)
	}
	if _, err := b.udp.WriteToUDPAddrPort(raw, p.addr); err != nil {
		return fmt.Errorf("send sip datagram to %s: %w", p.addr, err)
	}
	return nil
}

// listen opens UDP and TCP on one port, and TLS.
func (b *Bot) listen(ctx context.Context) error {
	var lc net.ListenConfig
	const attempts = 20 // with port 0, the port UDP got may be taken for TCP
	for try := 1; ; try++ {
		pc, err := lc.ListenPacket(ctx, "udp", b.opts.Listen)
		if err != nil {
			return fmt.Errorf("listen for sip over udp on %s: %w", b.opts.Listen, err)
		}
		conn, ok := pc.(*net.UDPConn)
		if !ok {
			return errors.Join(fmt.Errorf("listen for sip over udp on %s: no udp socket", b.opts.Listen), pc.Close())
		}
		ln, err := lc.Listen(ctx, "tcp", conn.LocalAddr().String())
		if err == nil {
			b.udp, b.tcp = conn, ln
			break
		}
		err = errors.Join(err, conn.Close())
		if _, port, _ := net.SplitHostPort(b.opts.Listen); port != "0" || try == attempts {
			return fmt.Errorf("listen for sip over tcp on %s: %w", b.opts.Listen, err)
		}
	}
	if b.opts.TLSListen == "" {
		return nil
	}
	ln, err := lc.Listen(ctx, "tcp", b.opts.TLSListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for sip over tls on %s: %w", b.opts.TLSListen, err), b.udp.Close(), b.tcp.Close())
	}
	b.tls = tls.NewListener(ln, b.opts.TLS)
	return nil
}

func (b *Bot) readUDP() {
	buf := make([]byte, sipmsg.MaxSize)
	for {
		n, from, err := b.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || len(bytes.Trim(buf[:n], "\r\n\x00")) == 0 {
			continue // an ICMP error of an earlier send, or a keep-alive (RFC 5626 §3.5.2)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		m, err := sipmsg.Parse(buf[:n])
		if err != nil {
			if buf[0]>>6 == 2 {
				b.strayMedia()
				continue
			}
			b.malformed(from, err)
			continue
		}
		b.receive(m, peer{transport: udp, addr: from}, n)
	}
}

func (b *Bot) accept(ln net.Listener, transport string) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, or a connection reset before it was taken
			select {
			case <-b.ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		s := &stream{conn: conn}
		if !b.addStream(s) {
			_ = conn.Close()
			continue
		}
		b.wg.Go(func() { b.readStream(s, transport) })
	}
}

// addStream registers a connection so that Close can end it; false when the bot closes or has too many.
func (b *Bot) addStream(s *stream) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.streams) >= maxConns {
		return false
	}
	b.streams[s] = struct{}{}
	return true
}

func (b *Bot) readStream(s *stream, transport string) {
	defer func() {
		_ = s.conn.Close()
		b.mu.Lock()
		delete(b.streams, s)
		b.mu.Unlock()
	}()
	from := addrPort(s.conn.RemoteAddr())
	r := sipmsg.NewReader(s.conn)
	r.Ping = func() { _ = s.write([]byte("\r\n")) }
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return
		}
		m, err := r.Next()
		if err != nil {
			if errors.Is(err, sipmsg.ErrMalformed) || errors.Is(err, sipmsg.ErrLength) || errors.Is(err, sipmsg.ErrTooLarge) || errors.Is(err, io.ErrUnexpectedEOF) {
				b.malformed(from, err)
			}
			return
		}
		b.receive(m, peer{transport: transport, addr: from, stream: s}, len(m.Bytes()))
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// replyTo returns where a response to a request goes: back over the stream it came by, and over UDP to the source
// address, with the source port where the Via asks for it by rport (RFC 3581 §4) and the sent-by port otherwise
// (RFC 3261 §18.2.2).
func replyTo(req *sipmsg.Message, from peer) peer {
	if from.reliable() {
		return from
	}
	via, err := topVia(req)
	if err != nil {
		return from
	}
	if _, ok := via.Params.Get("rport"); ok {
		return from
	}
	port := uint16(5060)
	if via.Port != 0 {
		port = uint16(via.Port) // parsed as 16 bits
	}
	from.addr = netip.AddrPortFrom(from.addr.Addr(), port)
	return from
}

func topVia(m *sipmsg.Message) (sipmsg.Via, error) {
	vias := m.List("Via")
	if len(vias) == 0 {
		return sipmsg.Via{}, fmt.Errorf("%w: no via", sipmsg.ErrMalformed)
	}
	return sipmsg.ParseVia(vias[0])
}

// stampVia writes received and rport into the top Via of a response (RFC 3261 §18.2.1, RFC 3581 §4).
func stampVia(res *sipmsg.Message, from peer) {
	values := res.List("Via")
	if len(values) == 0 {
		return
	}
	via, err := sipmsg.ParseVia(values[0])
	if err != nil {
		return
	}
	source := from.addr.Addr().String()
	_, asked := via.Params.Get("rport")
	params := via.Params[:0:0]
	for _, p := range via.Params {
		if p.Name != "rport" && p.Name != "received" {
			params = append(params, p)
		}
	}
	if asked {
		params = append(params, sipmsg.Param{Name: "rport", Value: strconv.Itoa(int(from.addr.Port()))})
	}
	if asked || via.Host != source {
		params = append(params, sipmsg.Param{Name: "received", Value: source})
	}
	via.Params = params
	values[0] = via.String()
	headers := res.Headers[:0:0]
	for _, v := range values {
		headers = append(headers, sipmsg.Header{Name: "Via", Value: v})
	}
	res.Del("Via")
	res.Headers = append(headers, res.Headers...)
}

// local returns the bot's address as a peer should see it, for one transport.
func (b *Bot) local(p peer) netip.AddrPort {
	at := addrPort(b.udp.LocalAddr())
	switch p.transport {
	case tcp:
		at = addrPort(b.tcp.Addr())
	case tlsName:
		at = addrPort(b.tls.Addr())
	}
	switch {
	case b.opts.Advertise.IsValid():
		return netip.AddrPortFrom(b.opts.Advertise, at.Port())
	case !at.Addr().IsUnspecified():
		return at
	case p.stream != nil:
		return netip.AddrPortFrom(addrPort(p.stream.conn.LocalAddr()).Addr(), at.Port())
	}
	// The address the system would send from; connecting a UDP socket sends nothing.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.addr))
	if err != nil {
		return at
	}
	addr := addrPort(conn.LocalAddr()).Addr()
	_ = conn.Close()
	return netip.AddrPortFrom(addr, at.Port())
}
