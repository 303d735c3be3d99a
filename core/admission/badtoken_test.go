package admission

import (
	"net/netip"
	"testing"
	"time"
)

// TestSourcesAreBounded fills the table from many addresses: it keeps its
// size, and an address that was pushed out starts with a clean sheet.
func TestSourcesAreBounded(t *testing.T) {
	s := newSources()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first := netip.MustParseAddr("192.0.2.1")
	for range badPerMinute {
		s.spend(now, first)
	}
	if s.spend(now, first) <= 0 {
		t.Fatal("the eleventh bad token costs no wait")
	}
	for i := range 3 * maxSources {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if wait := s.spend(now, addr); wait != 0 {
			t.Fatalf("the first bad token of %s costs a wait of %v", addr, wait)
		}
	}
	if s.order.Len() != maxSources || len(s.byAddr) != maxSources {
		t.Errorf("the table has %d and %d entries, want %d", s.order.Len(), len(s.byAddr), maxSources)
	}
	if wait := s.spend(now, first); wait != 0 {
		t.Errorf("a forgotten address waits %v", wait)
	}
	if s.spend(now, netip.Addr{}) != 0 {
		t.Error("an unknown address is refused at once")
	}
}
