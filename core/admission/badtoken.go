package admission

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// badPerMinute is how many bad credentials an address may send before it
	// is told to slow down.
	badPerMinute = 10
	// maxSources bounds the table of addresses.
	maxSources = 4096
	// hostBits is what of an IPv6 address tells one network from another: a
	// sender has the rest of it to itself (RFC 6177).
	hostBits = 64
)

// sources counts bad credentials by address. It forgets the address that was
// bad the longest time ago when it is full: forgetting helps a sender, so no
// address can make another's requests fail.
type sources struct {
	mu     sync.Mutex
	order  *list.List // of *source, the latest in front
	byAddr map[netip.Addr]*list.Element
}

type source struct {
	addr    netip.Addr
	limiter *rate.Limiter
}

func newSources() *sources {
	return &sources{order: list.New(), byAddr: map[netip.Addr]*list.Element{}}
}

// spend counts one bad credential and returns how long to wait when it was one
// too many, else 0.
func (s *sources) spend(now time.Time, remote netip.Addr) time.Duration {
	addr := network(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	element, known := s.byAddr[addr]
	if known {
		s.order.MoveToFront(element)
	} else {
		if s.order.Len() >= maxSources {
			s.forget(s.order.Back())
		}
		element = s.order.PushFront(&source{addr: addr, limiter: rate.NewLimiter(rate.Every(time.Minute/badPerMinute), badPerMinute)})
		s.byAddr[addr] = element
	}
	entry, ok := element.Value.(*source)
	if !ok || entry.limiter.AllowN(now, 1) {
		return 0
	}
	missing := 1 - entry.limiter.TokensAt(now)
	return time.Duration(missing * float64(time.Minute/badPerMinute))
}

func (s *sources) forget(element *list.Element) {
	if entry, ok := element.Value.(*source); ok {
		delete(s.byAddr, entry.addr)
	}
	s.order.Remove(element)
}

// network is what of an address counts: all of an IPv4 address, the /64 of an
// IPv6 one.
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if prefix, err := addr.Prefix(hostBits); err == nil {
			return prefix.Addr()
		}
	}
	return addr
}
