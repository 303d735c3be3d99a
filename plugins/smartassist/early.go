package main

import (
	"net/netip"
	"time"

	"github.com/patchbay/patchbay/sdk/engine"
)

const (
	// earlyPackets and earlySize bound what is kept of a peer whose first packets overtake its answer.
	earlyPackets = 4
	earlySize    = 256
	// earlyAge is how long such a packet may have waited: older ones are of ringing that nobody described.
	earlyAge = 100 * time.Millisecond
)

// early holds the last packets that came before the peer's description. An offerer must be ready to receive what it
// offered as soon as it has sent the offer (RFC 3264 §5.1), but only the answer says whose packets they may be.
type early struct {
	slots [earlyPackets]struct {
		from netip.AddrPort
		at   int64
		n    int
		data [earlySize]byte
	}
	first, count int
}

// keep copies a packet in and reports whether one goes without having been heard: the oldest, or this.
func (e *early) keep(m engine.Message) (lost bool) {
	if len(m.Data) > earlySize {
		return true
	}
	if lost = e.count == earlyPackets; lost {
		e.first, e.count = (e.first+1)%earlyPackets, e.count-1
	}
	s := &e.slots[(e.first+e.count)%earlyPackets]
	s.from, s.at, s.n = m.From, m.At, copy(s.data[:], m.Data)
	e.count++
	return lost
}

// drop forgets what is held and counts it.
func (e *early) drop(t *tally) {
	t[notOpen].Add(uint64(e.count))
	e.first, e.count = 0, 0
}

// replay takes what is held, now that the peer is known: what is fresh and came from the described address. The
// receiver's lock is held.
func (r *receiver) replay(described netip.Addr, now int64) {
	e := &r.early
	for ; e.count > 0; e.first, e.count = (e.first+1)%earlyPackets, e.count-1 {
		s := &e.slots[e.first]
		v := notOpen
		switch {
		case now-s.at > int64(earlyAge):
		case s.from.Addr() != described:
			v = foreignSource
		default:
			v, _ = r.take(engine.Message{Data: s.data[:s.n], From: s.from, At: s.at})
		}
		r.tally[v].Add(1)
	}
}
