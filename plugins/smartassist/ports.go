package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// portRest is how long a port is left alone after a call: packets of the old one may still come.
const portRest = 5 * time.Second

var errNoPorts = errors.New("no rtp port is free: widen rtp_ports or lower limits.max_calls")

// portPool hands out pairs of ports, even for RTP and the next for RTCP (RFC 3550 §11), each in turn.
type portPool struct {
	address netip.Addr
	first   uint16
	now     func() time.Time

	mu    sync.Mutex
	pairs []portPair
	next  int
	used  int
}

type portPair struct {
	used    bool
	resting time.Time // until when
}

func newPortPool(address netip.Addr, first, last uint16) *portPool {
	return &portPool{address: address, first: first, now: time.Now, pairs: make([]portPair, (int(last)-int(first)+1)/2)}
}

// socketPair is an RTP socket and its RTCP socket.
type socketPair struct {
	rtp, rtcp *net.UDPConn
	port      uint16
	release   func()
}

// open binds the next free pair. A port that somebody else holds is passed over.
func (p *portPool) open(ctx context.Context) (socketPair, error) {
	var last error
	for range len(p.pairs) {
		i, ok := p.take()
		if !ok {
			break
		}
		s, err := p.bind(ctx, i)
		if err == nil {
			return s, nil
		}
		last = err
		p.free(i)
	}
	if last != nil {
		return socketPair{}, fmt.Errorf("%w: %w", errNoPorts, last)
	}
	return socketPair{}, errNoPorts
}

func (p *portPool) take() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for n := range p.pairs {
		i := (p.next + n) % len(p.pairs)
		if pair := &p.pairs[i]; !pair.used && !now.Before(pair.resting) {
			pair.used = true
			p.used++
			p.next = (i + 1) % len(p.pairs)
			return i, true
		}
	}
	return 0, false
}

func (p *portPool) free(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pairs[i] = portPair{resting: p.now().Add(portRest)}
	p.used--
}

func (p *portPool) bind(ctx context.Context, i int) (socketPair, error) {
	port := p.first + uint16(2*i)
	rtp, err := listenUDP(ctx, netip.AddrPortFrom(p.address, port))
	if err != nil {
		return socketPair{}, fmt.Errorf("bind rtp port: %w", err)
	}
	rtcp, err := listenUDP(ctx, netip.AddrPortFrom(p.address, port+1))
	if err != nil {
		return socketPair{}, errors.Join(fmt.Errorf("bind rtcp port: %w", err), rtp.Close())
	}
	return socketPair{rtp: rtp, rtcp: rtcp, port: port, release: sync.OnceFunc(func() { p.free(i) })}, nil
}

func (p *portPool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

func listenUDP(ctx context.Context, a netip.AddrPort) (*net.UDPConn, error) {
	network := "udp6"
	if a.Addr().Is4() {
		network = "udp4"
	}
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, network, a.String())
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return conn.(*net.UDPConn), nil //nolint:forcetypeassert // a UDP socket
}
