package engine

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func datagram(t *testing.T, e Engine, h Handler) DatagramConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Datagram(c, func(DatagramConn) Handler { return h })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDatagram(t *testing.T) {
	e := open(t)
	ha, hb := newSink(), newSink()
	a, b := datagram(t, e, ha), datagram(t, e, hb)

	before := e.Now()
	if err := a.Send([]byte("hello"), b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	m := hb.next(t)
	if string(m.Data) != "hello" || m.From != a.LocalAddr() || m.Op != Datagram {
		t.Errorf("got %+v", m)
	}
	if m.At < before || m.At > e.Now() {
		t.Errorf("stamp %d is not between %d and now", m.At, before)
	}
	if err := b.Send(bytes.Repeat([]byte{1}, maxDatagram), m.From); err != nil {
		t.Fatal(err)
	}
	if m := ha.next(t); len(m.Data) != maxDatagram {
		t.Errorf("got %d bytes", len(m.Data))
	}
	if got, want := b.Stats(), (DatagramStats{Received: 1, ReceivedBytes: 5, Sent: 1, SentBytes: maxDatagram}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}

	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ha.end(t); !errors.Is(err, ErrClosed) {
		t.Errorf("closed with %v", err)
	}
	if err := a.Send(nil, b.LocalAddr()); !errors.Is(err, ErrClosed) {
		t.Errorf("send on closed: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	// The port is free once Closed was called.
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestDatagramOversizedIsDropped(t *testing.T) {
	e := open(t)
	ha, hb := newSink(), newSink()
	a, b := datagram(t, e, ha), datagram(t, e, hb)
	for _, size := range []int{maxDatagram + 1, 9000, 1} {
		if err := a.Send(make([]byte, size), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	if m := hb.next(t); len(m.Data) != 1 {
		t.Errorf("got %d bytes", len(m.Data))
	}
	if got := b.Stats(); got.Oversized != 2 || got.Received != 1 {
		t.Errorf("stats %+v", got)
	}
}

func TestDatagramSendError(t *testing.T) {
	e := open(t)
	a := datagram(t, e, newSink())
	if err := a.Send([]byte("x"), netip.MustParseAddrPort("[::1]:9")); err == nil {
		t.Error("an IPv6 peer on an IPv4 socket: no error")
	}
	if got := a.Stats(); got.SendErrors != 1 || got.Sent != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestDatagramCloseFromHandler(t *testing.T) {
	e := open(t)
	h := newSink()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Datagram(c, func(d DatagramConn) Handler {
		h.on = func(Message) {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		return h
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send([]byte("x"), d.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if err := h.end(t); !errors.Is(err, ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

// A media path sends and receives without allocating.
func TestDatagramAllocates(t *testing.T) {
	e := open(t)
	h := newSink()
	echoed := make(chan struct{}, 1)
	h.on = func(Message) { echoed <- struct{}{} }
	d := datagram(t, e, h)
	frame, to := make([]byte, 172), d.LocalAddr()
	n := testing.AllocsPerRun(500, func() {
		if err := d.Send(frame, to); err != nil {
			t.Error(err)
		}
		<-echoed
	})
	if n != 0 {
		t.Errorf("a datagram out and in allocates %v", n)
	}
}
