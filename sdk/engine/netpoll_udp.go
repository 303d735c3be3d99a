package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

const (
	// maxDatagram is the largest datagram read. Media and signaling stay below a path's 1500 bytes.
	maxDatagram = 2048
	// maxReadErrors is how many reads may fail in a row before the socket counts as broken. On Linux an unconnected
	// socket reports next to none; elsewhere each ICMP error of a peer is one.
	maxReadErrors = 100
)

// udpConn is a UDP socket of the netpoll backend.
type udpConn struct {
	e     *netpoll
	conn  *net.UDPConn
	local netip.AddrPort
	h     Handler

	received, receivedBytes atomic.Uint64
	sent, sentBytes         atomic.Uint64
	sendErrors, readErrors  atomic.Uint64
	oversized               atomic.Uint64
}

func newUDPConn(e *netpoll, conn *net.UDPConn) *udpConn {
	return &udpConn{e: e, conn: conn, local: addrPort(conn.LocalAddr())}
}

// serve reads until the socket is closed.
func (u *udpConn) serve() {
	defer u.e.wg.Done()
	err := u.read()
	if !errors.Is(err, net.ErrClosed) {
		_ = u.conn.Close() // err is what ended it
	} else {
		err = ErrClosed
	}
	u.e.forgetUDP(u)
	u.h.Closed(err)
}

func (u *udpConn) read() error {
	buf := make([]byte, maxDatagram+1) // one more, to notice what was cut off
	failed := 0
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(buf)
		at := u.e.clock.Now()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			u.readErrors.Add(1)
			if failed++; failed >= maxReadErrors {
				return fmt.Errorf("read datagram: %d failures in a row: %w", failed, err)
			}
			continue
		case n > maxDatagram:
			u.oversized.Add(1)
			failed = 0
			continue
		}
		failed = 0
		u.received.Add(1)
		u.receivedBytes.Add(uint64(n))
		u.h.Received(Message{Data: buf[:n], From: unmap(from), At: at, Op: Datagram})
	}
}

func (u *udpConn) Send(data []byte, to netip.AddrPort) error {
	n, err := u.conn.WriteToUDPAddrPort(data, to)
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			return ErrClosed
		}
		u.sendErrors.Add(1)
		return fmt.Errorf("send datagram: %w", err)
	}
	u.sent.Add(1)
	u.sentBytes.Add(uint64(n))
	return nil
}

func (u *udpConn) LocalAddr() netip.AddrPort { return u.local }

func (u *udpConn) Close() error {
	if err := u.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close datagram socket: %w", err)
	}
	return nil
}

func (u *udpConn) Stats() DatagramStats {
	return DatagramStats{
		Received: u.received.Load(), ReceivedBytes: u.receivedBytes.Load(),
		Sent: u.sent.Load(), SentBytes: u.sentBytes.Load(),
		SendErrors: u.sendErrors.Load(), ReadErrors: u.readErrors.Load(),
		Oversized: u.oversized.Load(),
	}
}

// addrPort is a's address and port, or zero when it is not an IP socket's.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
