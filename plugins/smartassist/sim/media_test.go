package sim

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
	"github.com/patchbay/patchbay/sdk/media/g711"
)

// speech is n different frames, none of them fill.
func speech(n int) []byte {
	out := make([]byte, n*frameSize)
	for i := range out {
		out[i] = byte(i/frameSize)%100 + 1
	}
	return out
}

func TestPlayRecordAndKeys(t *testing.T) {
	play := speech(5)
	b := startBot(t, Options{KeepPackets: true, Behaviour: Behaviour{Play: play[:5*frameSize-10], HangupOnDTMF: "9#", ByeHeaders: []sipmsg.Header{{Name: "X-Queue-Name", Value: "agents"}}}})
	c := newCaller(t, b, udp)
	c.establish()
	heard := c.hear(7)
	var payload []byte
	for i, p := range heard {
		payload = append(payload, p.Payload...)
		if i > 0 && (p.Seq != heard[i-1].Seq+1 || p.Timestamp != heard[i-1].Timestamp+frameSize || p.SSRC != heard[0].SSRC) {
			t.Errorf("packet %d: %+v after %+v", i, p, heard[i-1])
		}
		if p.Marker != (i == 0) || p.PayloadType != 0 {
			t.Errorf("packet %d: marker %v, payload type %d", i, p.Marker, p.PayloadType)
		}
	}
	want := append(bytes.Clone(play[:5*frameSize-10]), bytes.Repeat([]byte{g711.SilenceULaw}, 2*frameSize+10)...)
	if !bytes.Equal(payload, want) {
		t.Error("what was heard is not the file and silence")
	}
	in := speech(4)
	order := []int{0, 2, 1, 3} // two packets change places
	for _, i := range order {
		c.sendRTP(rtpwire.Header{Marker: i == 0, Seq: uint16(65534 + i), Timestamp: uint32(i * frameSize), SSRC: 7}, in[i*frameSize:(i+1)*frameSize]) // wraps
	}
	for i := range 6 {
		e := rtpwire.Event{Code: 9, End: i > 2, Duration: uint16(160 * min(i+1, 4))}                                            // small
		c.sendRTP(rtpwire.Header{Marker: i == 0, PayloadType: 101, Seq: uint16(2 + i), Timestamp: 640, SSRC: 7}, e.Append(nil)) // small
	}
	bye := c.expect("BYE ")
	if got := bye.Get("X-Queue-Name"); got != "agents" {
		t.Errorf("header on BYE: %q", got)
	}
	c.answer(bye, 200)
	got := c.done()
	noViolations(t, got)
	if !bytes.Equal(b.Recording(got.ID), in) {
		t.Error("the recording is not what was sent, in order")
	}
	if n := len(b.Packets(got.ID)); n != 10 {
		t.Errorf("%d packets kept, want 10", n)
	}
	if got.Ended != EndedBotBye || got.Digits != "9" || got.RTP.Reordered != 1 || got.RTP.Lost != 0 || !got.Sent.PlayDone || got.Sent.PlayFrames != 5 {
		t.Errorf("account %+v", got)
	}
	wantKey := rtpwire.DTMFEvent{Digit: "9", DurationMS: 80, Packets: 6, EndPackets: 3, MarkerOK: true, TimestampOK: true, DurationOK: true}
	key := got.DTMF[0]
	key.At = time.Time{}
	if d := cmp.Diff(wantKey, key); d != "" {
		t.Errorf("key (-want +got):\n%s", d)
	}
}

func TestALawEchoAndLatching(t *testing.T) {
	b := startBot(t, Options{KeepPackets: true, Behaviour: Behaviour{Codecs: []string{"PCMA", "PCMU"}, Echo: true}})
	c := newCaller(t, b, udp)
	c.establish()
	ulaw := speech(3)
	alaw := make([]byte, len(ulaw))
	g711.ULawToALaw(alaw, ulaw)
	// The packets come from another port than the SDP's: the bot has to answer there.
	other, err := openSockets(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	described := c.rtp
	c.rtp = other.rtp
	t.Cleanup(func() { _ = other.close() })
	for i := range 3 {
		c.sendRTP(rtpwire.Header{PayloadType: 8, Seq: uint16(i), Timestamp: uint32(i * frameSize), SSRC: 1}, alaw[i*frameSize:(i+1)*frameSize]) // small
	}
	var got []byte
	for len(got) < len(alaw) {
		if p := c.hear(1)[0]; p.Payload[0] != g711.SilenceALaw {
			got = append(got, p.Payload...)
		}
	}
	if !bytes.Equal(got, alaw) {
		t.Error("the echo is not what was sent")
	}
	c.rtp = described
	c.sendRTP(rtpwire.Header{PayloadType: 8, Seq: 9, SSRC: 2}, alaw[:frameSize]) // a stranger now
	c.rtp = other.rtp
	c.sendRTP(rtpwire.Header{PayloadType: 0, Seq: 3, Timestamp: 480, SSRC: 1}, alaw[:frameSize])
	acc := c.until("packets", func(c Call) bool { return c.RTP.ForeignSource == 1 && c.RTP.WrongPT == 1 })
	if !strings.Contains(strings.Join(acc.Violations, ""), "payload type nobody agreed on") || acc.Codec != "PCMA" {
		t.Errorf("codec %s, violations %q", acc.Codec, acc.Violations)
	}
	c.bye()
	acc = c.done()
	want := make([]byte, len(alaw))
	g711.ALawToULaw(want, alaw)
	if !bytes.Equal(b.Recording(acc.ID), want) {
		t.Error("the recording is not the received audio in µ-law")
	}
}

func TestEarlyMedia(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{EarlyMedia: true, AnswerAfter: 300 * time.Millisecond, Play: speech(2)}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	if m := c.expect(" 183 ", " 100 "); len(m.Body) == 0 || m.Get("Contact") == "" {
		t.Errorf("183 without SDP or Contact: %v", m.Headers)
	}
	c.hear(2)
	c.sendRTP(rtpwire.Header{SSRC: 1}, speech(1))
	c.until("early packet", func(c Call) bool { return c.RTP.BeforeAnswer == 1 && !c.Answered })
	c.expect(" 200 ")
	c.ack()
	c.bye()
	noViolations(t, c.done())
}

func TestBotKeysAndRTCP(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{DTMF: []Digit{{Key: '5', Duration: 60 * time.Millisecond}}}})
	c := newCaller(t, b, udp)
	c.establish()
	if err := b.SendDTMF(c.callID, "a"); err != nil {
		t.Fatal(err)
	}
	var tr rtpwire.Tracker
	for len(tr.Events()) < 2 || tr.Events()[1].EndPackets < endPackets {
		if p := c.hear(1)[0]; p.PayloadType == 101 {
			e, err := rtpwire.ParseEvent(p.Payload)
			if err != nil {
				t.Fatal(err)
			}
			tr.Receive(rtpwire.Header{Marker: p.Marker, Timestamp: p.Timestamp}, e, p.Arrived)
		}
	}
	for i, want := range []rtpwire.DTMFEvent{
		{Digit: "5", DurationMS: 60, Packets: 5, EndPackets: 3, MarkerOK: true, TimestampOK: true, DurationOK: true},
		{Digit: "A", DurationMS: 160, Packets: 10, EndPackets: 3, MarkerOK: true, TimestampOK: true, DurationOK: true},
	} {
		got := tr.Events()[i]
		got.At = time.Time{}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("key %d (-want +got):\n%s", i, d)
		}
	}
	sr := rtpwire.Outgoing{SSRC: 7, Packets: 3, Octets: 480, CNAME: "gw", Bye: true}.Append(nil, time.Now())
	to := netip.AddrPortFrom(c.media.Addr(), c.media.Port()+1)
	for _, p := range [][]byte{sr, []byte("no rtcp at all")} {
		if _, err := c.rtcp.WriteToUDPAddrPort(p, to); err != nil {
			t.Fatal(err)
		}
	}
	got := c.until("rtcp", func(c Call) bool { return c.RTCP.Packets == 2 })
	if got.RTCP.SenderReports != 1 || got.RTCP.Byes != 1 || got.RTCP.Malformed != 1 || got.RTCP.SenderPackets != 3 {
		t.Errorf("rtcp %+v", got.RTCP)
	}
	c.bye()
	buf := make([]byte, maxPacket)
	if err := c.rtcp.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, _, err := c.rtcp.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := rtpwire.ParseRTCP(buf[:n]); err != nil || r.SenderReports != 1 || r.Byes != 1 {
		t.Errorf("the bot's last report: %+v, %v", r, err)
	}
	c.done()
}

// TestPacing runs the sender on a clock of its own: every packet leaves at its due time, whatever the one before took,
// and a report follows each 250.
func TestPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := &call{bot: &Bot{ctx: ctx}, behave: Behaviour{Play: speech(400)}}
		m := &media{call: c, recv: rtpwire.NewReceiver(), quit: make(chan struct{})}
		m.format.Store(&format{fill: g711.SilenceULaw, eventPT: noEvents})
		s := newSender(m)
		start := time.Now()
		var at []time.Duration
		var reports []time.Duration
		s.write = func([]byte) {
			at = append(at, time.Since(start))
			if len(at) == 100 {
				time.Sleep(50 * time.Millisecond) // a stall of two and a half frames
			}
		}
		s.control = func([]byte) { reports = append(reports, time.Since(start)) }
		done := make(chan struct{})
		go func() { defer close(done); s.run(m.quit) }()
		time.Sleep(10*time.Second + time.Millisecond)
		close(m.quit)
		<-done
		if len(at) != 501 {
			t.Fatalf("%d packets in 10 s, want 501", len(at))
		}
		for i, d := range at {
			due := time.Duration(i) * ptime
			if late := d - due; late < 0 || late > 0 && (i < 100 || i > 102) {
				t.Fatalf("packet %d at %v, due at %v", i, d, due)
			}
		}
		if d := cmp.Diff([]time.Duration{4980 * time.Millisecond, 9980 * time.Millisecond, 10001 * time.Millisecond}, reports); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

// TestSenderAllocates nothing per packet.
func TestSenderAllocations(t *testing.T) {
	c := &call{bot: &Bot{ctx: t.Context()}, behave: Behaviour{Play: speech(3000)}}
	m := &media{call: c, recv: rtpwire.NewReceiver(), quit: make(chan struct{})}
	m.format.Store(&format{fill: g711.SilenceALaw, alaw: true, eventPT: noEvents})
	s := newSender(m)
	s.write = func([]byte) {}
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() { s.tick(now, now) }); n != 0 {
		t.Errorf("%v allocations per packet sent", n)
	}
	p := rtpwire.Header{SSRC: 1}.Append(nil, speech(1))
	from := netip.MustParseAddrPort("127.0.0.1:9")
	m.take(p, from, now)
	if n := testing.AllocsPerRun(1000, func() { m.take(p, from, now) }); n > 0 {
		t.Errorf("%v allocations per packet received", n)
	}
}

func TestAgenda(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgenda()
		start := time.Now()
		var log []time.Duration
		note := func() { log = append(log, time.Since(start)) }
		stop := a.backoff(time.Second, 4*time.Second, 12*time.Second, note, note)
		gone := a.after(500*time.Millisecond, func() { t.Error("a cancelled entry ran") })
		a.cancel(gone)
		a.cancel(nil)
		for len(a.entries) > 0 {
			<-a.timer.C
			a.run()
		}
		stop()
		// T1, doubled up to the limit, then given up.
		want := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 11 * time.Second, 12 * time.Second}
		if d := cmp.Diff(want, log); d != "" {
			t.Errorf("times (-want +got):\n%s", d)
		}
	})
}
