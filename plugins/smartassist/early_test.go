package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk/engine"
)

// TestPacketsOvertakeTheAnswer sends packets before the answer: those of the described peer that are fresh are heard,
// in order; each of the others is counted once.
func TestPacketsOvertakeTheAnswer(t *testing.T) {
	t.Parallel()
	leg := &countingLeg{}
	s, e := handSession(t, leg, pcmu())
	s.mute()
	send := func(seq int, from netip.AddrPort, size int) {
		packet := rtpPacket(0, false, uint16(seq), uint32(seq)*frameSamples, 7, tone(seq)[:size])
		s.receivedRTP(engine.Message{Data: packet, From: from, At: e.now})
	}
	send(1, peerRTP, frameSamples) // pushed out by the later ones
	send(2, peerRTP, frameSamples) // too old by the time of the answer
	e.now += 2 * int64(earlyAge)
	send(3, netip.MustParseAddrPort("192.0.2.66:4000"), frameSamples)
	send(4, peerRTP, frameSamples)
	send(5, peerRTP, frameSamples)
	if leg.frames != 0 {
		t.Fatalf("%d frames were heard before the answer", leg.frames)
	}
	e.now += int64(time.Millisecond)
	s.describe(pcmu())
	send(6, peerRTP, frameSamples)
	if leg.frames != 3 || string(leg.last) != string(tone(6)) {
		t.Errorf("%d frames heard, want packets 4 to 6", leg.frames)
	}
	for v, want := range map[verdict]uint64{accepted: 3, foreignSource: 1, notOpen: 2} {
		if n := s.recv.tally[v].Load(); n != want {
			t.Errorf("%d packets counted as %s, want %d", n, v, want)
		}
	}
	s.mute()
	send(7, peerRTP, frameSamples)
	if s.stats(); s.recv.tally[notOpen].Load() != 3 {
		t.Error("a packet that nobody was described for is not counted at the end")
	}
}
