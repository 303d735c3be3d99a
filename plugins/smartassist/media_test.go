package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

// mediaEnd is where the call's offer wants RTP; SDP's port, with the RTCP port one up.
func mediaEnd(t *testing.T, invite message) netip.AddrPort {
	t.Helper()
	_, rest, _ := strings.Cut(invite.body, "m=audio ")
	var port uint16
	if _, err := fmt.Sscanf(rest, "%d", &port); err != nil {
		t.Fatal(err)
	}
	if port%2 != 0 {
		t.Errorf("rtp port %d is odd", port)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// rtpPacket writes a packet by hand.
func rtpPacket(pt byte, marker bool, seq uint16, ts, ssrc uint32, payload []byte) []byte {
	b := []byte{0x80, pt}
	if marker {
		b[1] |= 0x80
	}
	b = binary.BigEndian.AppendUint16(b, seq)
	b = binary.BigEndian.AppendUint32(b, ts)
	b = binary.BigEndian.AppendUint32(b, ssrc)
	return append(b, payload...)
}

type heardPacket struct {
	pt      byte
	marker  bool
	seq     uint16
	ts      uint32
	ssrc    uint32
	payload []byte
	at      time.Time
}

// hear reads the next RTP packet at the peer.
func (p *peer) hear() heardPacket {
	p.t.Helper()
	buf := make([]byte, 2000)
	_ = p.rtp.SetReadDeadline(time.Now().Add(patience))
	n, _, err := p.rtp.ReadFromUDPAddrPort(buf)
	if err != nil {
		p.t.Fatalf("peer hears nothing: %v", err)
	}
	b := buf[:n]
	if n < 12 || b[0] != 0x80 {
		p.t.Fatalf("no rtp packet: %x", b)
	}
	return heardPacket{
		pt: b[1] & 0x7f, marker: b[1]&0x80 != 0, seq: binary.BigEndian.Uint16(b[2:]), ts: binary.BigEndian.Uint32(b[4:]),
		ssrc: binary.BigEndian.Uint32(b[8:]), payload: b[12:], at: time.Now(),
	}
}

func (p *peer) say(to netip.AddrPort, packets ...[]byte) {
	p.t.Helper()
	for _, b := range packets {
		if _, err := p.rtp.WriteToUDPAddrPort(b, to); err != nil {
			p.t.Fatal(err)
		}
	}
}

// tone is a frame that is told apart from others and from silence.
func tone(n int) []byte {
	b := make([]byte, frameSamples)
	for i := range b {
		b[i] = byte(1 + (n*7+i)%100)
	}
	return b
}

func TestSilenceIsSentWithoutGap(t *testing.T) {
	t.Parallel()
	p, _, c, _ := answered(t, nil, nil)
	first := p.hear()
	if !first.marker || first.pt != 0 || len(first.payload) != frameSamples {
		t.Errorf("first packet: %+v", first)
	}
	last := first
	for range 50 {
		h := p.hear()
		if h.seq != last.seq+1 || h.ts != last.ts+frameSamples || h.ssrc != first.ssrc || h.marker {
			t.Fatalf("after %+v came %+v", last, h)
		}
		if !bytes.Equal(h.payload, bytes.Repeat([]byte{0xFF}, frameSamples)) {
			t.Fatalf("no silence: %x", h.payload)
		}
		last = h
	}
	if d := last.at.Sub(first.at); d < 950*time.Millisecond || d > 1100*time.Millisecond {
		t.Errorf("50 packets took %s, want a second", d)
	}
	c.hangup(callerGone)
	p.reply(p.want("BYE"), "200 OK", "")
	if e := c.ended(); e.Stats.FramesOut < 51 || e.Stats.Fills < 51 {
		t.Errorf("stats: %+v", e.Stats)
	}
}

// What is said arrives in order and unchanged; on a busy host some of it may be skipped, so the exact count is
// TestPlayoutIsLossless's.
func TestAudioTowardPeer(t *testing.T) {
	t.Parallel()
	const frames = 50
	p, g, c, _ := answered(t, nil, nil)
	pace := time.NewTicker(ptime)
	defer pace.Stop()
	for i := range frames {
		<-pace.C
		c.send(sdk.Frame{Kind: sdk.Audio, Sequence: uint32(i), Origin: g.provider.running.engine.Now(), Payload: tone(i)})
	}
	next, heard := 0, 0
	for silent := 0; heard == 0 || silent < 50; {
		h := p.hear()
		if bytes.Equal(h.payload, bytes.Repeat([]byte{0xFF}, frameSamples)) {
			silent++
			continue
		}
		silent = 0
		for next < frames && !bytes.Equal(h.payload, tone(next)) {
			next++
		}
		if next == frames {
			t.Fatalf("a frame after the %dth is none that was said, or out of order", heard)
		}
		next++
		heard++
	}
	c.hangup(callerGone)
	p.reply(p.want("BYE"), "200 OK", "")
	if d := c.ended().Stats.DelayOut; d.Count != uint64(heard) || d.P50MS <= 0 || heard < frames/2 {
		t.Errorf("%d heard, delay: %+v", heard, d)
	}
}

func TestALaw(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	p.reply(invite, "200 OK", strings.Replace(p.sdp(), "RTP/AVP 0 101", "RTP/AVP 8 101", 1))
	p.want("ACK")
	c.want(t, "answer")
	if h := p.hear(); h.pt != 8 || h.payload[0] != 0xD5 {
		t.Errorf("silence in A-law: %d %x", h.pt, h.payload[:4])
	}
	p.say(mediaEnd(t, invite), rtpPacket(8, true, 1, 160, 7, bytes.Repeat([]byte{0xD5}, frameSamples)))
	f := <-c.frames
	if len(f.Payload) != frameSamples || f.Payload[0]|1 != 0xFF { // the smallest step of A-law is µ-law's 0xFE
		t.Errorf("A-law silence became %x", f.Payload[:4])
	}
}

func TestAudioFromPeer(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	to := mediaEnd(t, invite)
	packet := func(n int, seq uint16) []byte { return rtpPacket(0, n == 0, seq, uint32(n)*frameSamples, 7, tone(n)) }
	// 1 is lost, 3 comes before 2, 4 comes twice; then 60 ms in one packet; and what is not ours.
	p.say(to,
		packet(0, 65534), packet(3, 1), packet(2, 0), packet(4, 2), packet(4, 2),
		rtpPacket(0, false, 3, 5*frameSamples, 7, bytes.Join([][]byte{tone(5), tone(6), tone(7)}, nil)),
		rtpPacket(18, false, 4, 0, 7, tone(0)), []byte("nonsense"), rtpPacket(0, false, 4, 0, 7, nil),
	)
	var got []sdk.Frame
	for len(got) < 7 {
		select {
		case f := <-c.frames:
			got = append(got, f)
		case <-time.After(patience):
			t.Fatalf("%d frames came", len(got))
		}
	}
	for i, n := range []int{0, 2, 3, 4, 5, 6, 7} {
		f := got[i]
		if !bytes.Equal(f.Payload, tone(n)) || f.Sequence != uint32(i) || f.Timestamp != uint32(n)*frameSamples || f.Origin == 0 {
			t.Errorf("frame %d: sequence %d, timestamp %d, origin %d", i, f.Sequence, f.Timestamp, f.Origin)
		}
		if f.Discontinuity != (i == 1) || f.TalkSpurt != (i == 0) {
			t.Errorf("frame %d: discontinuity %v, talk spurt %v", i, f.Discontinuity, f.TalkSpurt)
		}
	}
	p.request(invite, "BYE", "")
	s := c.ended().Stats
	if s.Lost != 1 || s.Duplicates != 1 || s.FramesIn != 7 ||
		s.Drops["rtp_wrong_payload_type"] != 1 || s.Drops["rtp_malformed"] != 2 {
		t.Errorf("stats: %+v", s)
	}
}

func TestSourceLock(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]struct {
		audible bool
		follows bool
	}{"latch": {true, true}, "strict": {false, false}} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			p, _, c, invite := answered(t, nil, map[string]any{"rtp_source": source})
			to := mediaEnd(t, invite)
			natted := testUDP(t)
			if _, err := natted.WriteToUDPAddrPort(rtpPacket(0, true, 1, 0, 7, tone(1)), to); err != nil {
				t.Fatal(err)
			}
			p.say(to, rtpPacket(0, true, 1, 0, 8, tone(2)))
			f := <-c.frames
			if heard := bytes.Equal(f.Payload, tone(1)); heard != want.audible {
				t.Errorf("the first source was heard: %v", heard)
			}
			if want.follows {
				_ = natted.SetReadDeadline(time.Now().Add(patience))
				if _, _, err := natted.ReadFromUDP(make([]byte, 2000)); err != nil {
					t.Errorf("audio does not follow the source: %v", err)
				}
			}
			p.request(invite, "BYE", "")
			if n := c.ended().Stats.Drops["rtp_foreign_source"]; n != 1 {
				t.Errorf("%d foreign packets counted", n)
			}
		})
	}
}

func TestEarlyMedia(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, "udp", nil)
			g := open(t, []string{p.target()}, map[string]any{"early_media": on}, nil)
			c := g.place()
			invite := p.want("INVITE")
			p.reply(invite, "183 Session Progress", p.sdp())
			c.want(t, fmt.Sprintf("progress 183 %v", on))
			if on {
				p.hear()
				p.say(mediaEnd(t, invite), rtpPacket(0, true, 1, 0, 7, tone(1)))
				<-c.frames
				p.reply(invite, "200 OK", "") // the early description stands
			} else {
				p.reply(invite, "200 OK", p.sdp())
			}
			p.want("ACK")
			c.want(t, "answer")
			p.hear()
		})
	}
}

func TestDigitTowardPeer(t *testing.T) {
	t.Parallel()
	p, _, c, _ := answered(t, nil, nil)
	c.send(sdk.Frame{Kind: sdk.DTMF, Payload: sdk.DTMFPayload(nil, '5', 100*time.Millisecond)})
	var events []heardPacket
	for len(events) < 3 || events[len(events)-1].payload[1]&0x80 == 0 {
		if h := p.hear(); h.pt == payloadEvent {
			events = append(events, h)
		}
	}
	if !events[0].marker || events[0].payload[0] != 5 {
		t.Errorf("first event: %+v", events[0])
	}
	for i, e := range events[1:] {
		if e.marker || e.ts != events[0].ts || e.seq != events[i].seq+1 {
			t.Errorf("event %d: %+v", i+1, e)
		}
	}
}

func TestDigitTowardPeerByInfo(t *testing.T) {
	t.Parallel()
	p, _, c, _ := answered(t, map[string]any{"dtmf": "info"}, nil)
	for _, d := range []byte("12") {
		c.send(sdk.Frame{Kind: sdk.DTMF, Payload: sdk.DTMFPayload(nil, d, 0)})
		m := p.want("INFO")
		if m.body != fmt.Sprintf("Signal=%c\r\nDuration=160\r\n", d) || m.get("Content-Type") != "application/dtmf-relay" {
			t.Errorf("INFO: %+v", m)
		}
		p.reply(m, "200 OK", "")
	}
}

func TestDigitFromPeer(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	event := func(end byte, duration uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{11, end | 10}, duration)
	}
	p.say(mediaEnd(t, invite),
		rtpPacket(101, true, 1, 1000, 7, event(0, 160)), rtpPacket(101, false, 2, 1000, 7, event(0, 320)),
		rtpPacket(101, false, 3, 1000, 7, event(0x80, 800)), rtpPacket(101, false, 4, 1000, 7, event(0x80, 800)),
		rtpPacket(101, false, 5, 1000, 7, event(0x80, 800)), rtpPacket(0, false, 6, 1800, 7, tone(1)))
	f := <-c.frames
	if digit, length, ok := f.Digit(); !ok || digit != '#' || length != 100*time.Millisecond {
		t.Errorf("digit %q of %s", digit, length)
	}
	if f = <-c.frames; f.Kind != sdk.Audio || !bytes.Equal(f.Payload, tone(1)) {
		t.Errorf("after the digit came %+v", f)
	}
}

func TestMediaFollowsReinvite(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	old := p.hear()
	moved := testUDP(t)
	body := strings.Replace(p.sdp(), fmt.Sprintf("m=audio %d ", p.rtp.LocalAddr().(*net.UDPAddr).Port),
		fmt.Sprintf("m=audio %d ", moved.LocalAddr().(*net.UDPAddr).Port), 1)
	p.request(invite, "UPDATE", body, "Content-Type: application/sdp")
	p.want("200 OK")
	p.rtp = moved
	if h := p.hear(); h.ssrc != old.ssrc {
		t.Errorf("the source changed with the address")
	}
	p.say(mediaEnd(t, invite), rtpPacket(0, true, 1, 0, 7, tone(3)))
	<-c.frames
}

func TestPortsRest(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	pool := newPortPool(netip.MustParseAddr("127.0.0.1"), 41000, 41005)
	pool.now = func() time.Time { return now }
	var seen []uint16
	for range 3 {
		s, err := pool.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, s.port)
		_, _ = s.rtp.Close(), s.rtcp.Close()
		s.release()
		s.release()
	}
	if fmt.Sprint(seen) != "[41000 41002 41004]" || pool.inUse() != 0 {
		t.Errorf("ports %v, %d in use", seen, pool.inUse())
	}
	if _, err := pool.open(t.Context()); err == nil {
		t.Error("a port was used again at once")
	}
	now = now.Add(portRest)
	s, err := pool.open(t.Context())
	if err != nil || s.port != 41000 {
		t.Fatalf("port %d, %v", s.port, err)
	}
	_, _ = s.rtp.Close(), s.rtcp.Close()
	s.release()
}
