package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"
)

// peers knows the addresses SIP may come from: the trunk targets', and those that dialogs in progress named as theirs.
// Everybody else is a stranger, dropped before anything is parsed or kept (scanners must learn nothing, and must not
// make us grow).
type peers struct {
	strangers atomic.Uint64

	mu      sync.RWMutex
	targets map[netip.Addr]struct{}
	dialogs map[netip.Addr]int
}

func newPeers() *peers {
	return &peers{targets: map[netip.Addr]struct{}{}, dialogs: map[netip.Addr]int{}}
}

func (p *peers) known(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	p.mu.RLock()
	defer p.mu.RUnlock()
	if _, ok := p.targets[a]; ok {
		return true
	}
	return p.dialogs[a] > 0
}

// addTargets keeps addresses for good: a target's name may change its address while calls to the old one run.
func (p *peers) addTargets(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addrs {
		p.targets[a.Unmap()] = struct{}{}
	}
}

// addDialog lets the address of a dialog's remote target in until release is called.
func (p *peers) addDialog(a netip.Addr) (release func()) {
	a = a.Unmap()
	p.mu.Lock()
	p.dialogs[a]++
	p.mu.Unlock()
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.dialogs[a]--; p.dialogs[a] <= 0 {
			delete(p.dialogs, a)
		}
	})
}

// filter is sipgo's hook in front of its parser; it drops datagrams of strangers.
func (p *peers) filter(info sip.TransportReadProps, data []byte) ([]byte, error) {
	if from, ok := info.RemoteAddr.(*net.UDPAddr); ok && !p.known(from.AddrPort().Addr()) {
		p.strangers.Add(1)
		return nil, nil
	}
	return data, nil
}

// guardedListener closes connections of strangers before a byte is read.
type guardedListener struct {
	net.Listener
	peers *peers
}

// Accept implements net.Listener.
func (g guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // the listener's own error is what sipgo looks at
		}
		if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok && g.peers.known(from.AddrPort().Addr()) {
			return conn, nil
		}
		g.peers.strangers.Add(1)
		_ = conn.Close()
	}
}

// resolve finds the addresses of a host, of the IP version we listen on.
func resolve(ctx context.Context, host string, v4 bool) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	network := "ip6"
	if v4 {
		network = "ip4"
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found, nil
}

// routeAddress is the address the host's routing uses toward peer. No packet is sent.
func routeAddress(ctx context.Context, peer netip.AddrPort) (netip.Addr, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", peer.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the route to %s: %w", peer.Addr(), err)
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("find the route to %s: no address", peer.Addr())
	}
	return local.AddrPort().Addr().Unmap(), nil
}
