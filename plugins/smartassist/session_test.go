package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// handEngine is an engine whose clock and tick are moved by hand; what is sent is kept.
type handEngine struct {
	engine.Engine
	now  int64
	tick func(int64)
}

func (e *handEngine) Now() int64 { return e.now }

func (e *handEngine) Every(_ time.Duration, fn func(int64)) *engine.Pace {
	e.tick = fn
	return nil
}

func (e *handEngine) Datagram(conn *net.UDPConn, bind func(engine.DatagramConn) engine.Handler) (engine.DatagramConn, error) {
	c := &handConn{conn: conn}
	c.handler = bind(c)
	return c, nil
}

// advance ticks once per ptime for d.
func (e *handEngine) advance(d time.Duration) {
	for range d / ptime {
		e.now += int64(ptime)
		e.tick(e.now)
	}
}

type handConn struct {
	conn    *net.UDPConn
	handler engine.Handler
	sent    int
	last    []byte
	to      netip.AddrPort
}

func (c *handConn) Send(b []byte, to netip.AddrPort) error {
	c.sent++
	c.last, c.to = append(c.last[:0], b...), to
	return nil
}

func (c *handConn) LocalAddr() netip.AddrPort { return c.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (c *handConn) Close() error {
	err := c.conn.Close()
	c.handler.Closed(engine.ErrClosed)
	return err
}

func (c *handConn) Stats() engine.DatagramStats { return engine.DatagramStats{} }

type countingLeg struct {
	frames int
	last   []byte
}

func (l *countingLeg) Write(f sdk.Frame) {
	l.frames++
	l.last = append(l.last[:0], f.Payload...)
}

var (
	peerRTP  = netip.MustParseAddrPort("192.0.2.1:4000")
	peerRTCP = netip.MustParseAddrPort("192.0.2.1:4001")
)

// handSession is a session that is up, on an engine moved by hand.
func handSession(tb testing.TB, leg frameWriter, m mediaDescription) (*session, *handEngine) {
	tb.Helper()
	e := &handEngine{now: int64(time.Hour)}
	pool := newPortPool(netip.MustParseAddr("127.0.0.1"), 42000, 42999)
	s, err := openSession(tb.Context(), e, pool, leg, &config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.close)
	s.describe(m)
	return s, e
}

func pcmu() mediaDescription {
	return mediaDescription{rtp: peerRTP, rtcp: peerRTCP, payload: 0, event: 101, direction: sendRecv}
}

func TestReports(t *testing.T) {
	t.Parallel()
	s, e := handSession(t, &countingLeg{}, pcmu())
	for i := range 100 {
		at := e.now + int64(i)*int64(ptime)
		if i != 50 {
			s.receivedRTP(engine.Message{Data: rtpPacket(0, i == 0, uint16(i), uint32(i)*frameSamples, 7, tone(i)), From: peerRTP, At: at})
		}
	}
	e.advance(reportInterval)
	conn := s.rtcp.(*handConn)
	if conn.sent != 1 || conn.to != peerRTCP {
		t.Fatalf("%d reports, the last to %s", conn.sent, conn.to)
	}
	packets, err := rtcp.Unmarshal(conn.last)
	if err != nil || len(packets) != 2 {
		t.Fatalf("compound of %d packets: %v", len(packets), err)
	}
	sr, ok := packets[0].(*rtcp.SenderReport)
	if !ok || sr.PacketCount != 250 || sr.OctetCount != 250*frameSamples || len(sr.Reports) != 1 {
		t.Fatalf("sender report: %+v", packets[0])
	}
	if r := sr.Reports[0]; r.SSRC != 7 || r.TotalLost != 1 || r.LastSequenceNumber != 99 || r.LastSenderReport != 0 {
		t.Errorf("reception report: %+v", r)
	}
	// The peer answers our report 30 ms later, having kept it for 10 ms; and again 5 s on.
	back := func(delay time.Duration) []byte {
		b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 7, NTPTime: 0x1122334455667788, Reports: []rtcp.ReceptionReport{{
			SSRC: sr.SSRC, LastSenderReport: uint32(sr.NTPTime >> 16), Delay: ntpShort(delay),
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s.receivedRTCP(engine.Message{Data: back(10 * time.Millisecond), From: peerRTCP, At: e.now + 30*int64(time.Millisecond)})
	if rtt := s.reports.roundTrip(); rtt < 19*time.Millisecond || rtt > 21*time.Millisecond {
		t.Errorf("round trip %s, want 20ms", rtt)
	}
	s.receivedRTCP(engine.Message{Data: back(time.Hour), From: peerRTCP, At: e.now}) // impossible: not believed
	if rtt := s.reports.roundTrip(); rtt > 21*time.Millisecond {
		t.Errorf("round trip %s", rtt)
	}
	e.advance(reportInterval)
	packets, _ = rtcp.Unmarshal(conn.last)
	if r := packets[0].(*rtcp.SenderReport).Reports[0]; r.LastSenderReport != 0x33445566 || r.Delay < 4*65536 {
		t.Errorf("second reception report: %+v", r)
	}
	s.sendReport(e.now, true)
	packets, _ = rtcp.Unmarshal(conn.last)
	if bye, ok := packets[len(packets)-1].(*rtcp.Goodbye); !ok || bye.Sources[0] != sr.SSRC {
		t.Errorf("the end is told by %+v", packets)
	}
}

func TestHoldStopsAudio(t *testing.T) {
	t.Parallel()
	m := pcmu()
	m.held, m.direction = true, inactive
	s, e := handSession(t, &countingLeg{}, m)
	e.advance(time.Second)
	conn := s.rtp.(*handConn)
	if conn.sent != 0 {
		t.Errorf("%d packets were sent to a peer that holds", conn.sent)
	}
	s.describe(pcmu())
	e.advance(100 * time.Millisecond)
	if conn.sent != 5 {
		t.Errorf("%d packets in 100 ms after the hold", conn.sent)
	}
}

func TestSkippedTicksAdvanceTheTimestamp(t *testing.T) {
	t.Parallel()
	s, e := handSession(t, &countingLeg{}, pcmu())
	e.advance(ptime)
	conn := s.rtp.(*handConn)
	var before, after rtp.Header
	if _, err := before.Unmarshal(conn.last); err != nil {
		t.Fatal(err)
	}
	e.now += 10 * int64(ptime)
	e.tick(e.now)
	if _, err := after.Unmarshal(conn.last); err != nil {
		t.Fatal(err)
	}
	if after.SequenceNumber != before.SequenceNumber+1 || after.Timestamp != before.Timestamp+10*frameSamples {
		t.Errorf("after a stall of 10 frames: %d and %d, before %d and %d", after.SequenceNumber, after.Timestamp, before.SequenceNumber, before.Timestamp)
	}
}

func TestMutedSessionIsDeaf(t *testing.T) {
	t.Parallel()
	leg := &countingLeg{}
	s, e := handSession(t, leg, pcmu())
	s.mute()
	e.advance(time.Second)
	s.receivedRTP(engine.Message{Data: rtpPacket(0, true, 1, 0, 7, tone(1)), From: peerRTP, At: e.now})
	s.receivedRTCP(engine.Message{Data: []byte{1}, From: peerRTCP, At: e.now})
	st := s.stats()
	if s.rtp.(*handConn).sent != 0 || leg.frames != 0 || st.Drops["rtp_not_open"] != 1 || st.Drops["rtcp_not_open"] != 1 {
		t.Errorf("sent %d, heard %d, stats %+v", s.rtp.(*handConn).sent, leg.frames, st)
	}
}

// On clean input every frame goes out, in order, within the playout buffer's delay.
func TestPlayoutIsLossless(t *testing.T) {
	t.Parallel()
	const frames = 250
	s, e := handSession(t, &countingLeg{}, pcmu())
	conn := s.rtp.(*handConn)
	heard := 0
	for i := range frames + 10 {
		e.now += 7 * int64(time.Millisecond)
		if i < frames {
			s.fromCore(&sdk.Frame{Kind: sdk.Audio, Payload: tone(i), Origin: e.now})
		}
		e.now += 13 * int64(time.Millisecond)
		e.tick(e.now)
		if payload := conn.last[12:]; !bytes.Equal(payload, bytes.Repeat([]byte{0xFF}, frameSamples)) && heard < frames {
			if !bytes.Equal(payload, tone(heard)) {
				t.Fatalf("slot %d: not frame %d", i, heard)
			}
			heard++
		}
	}
	if d := s.send.delay.Snapshot(); heard != frames || d.Max > 80*time.Millisecond {
		t.Errorf("%d of %d frames, the slowest after %s", heard, frames, d.Max)
	}
}

// The audio path allocates nothing per frame, in either direction.
func TestNoAllocationPerFrame(t *testing.T) {
	for name, alaw := range map[string]bool{"pcmu": false, "pcma": true} {
		t.Run(name, func(t *testing.T) {
			m := pcmu()
			m.alaw = alaw
			leg := &countingLeg{last: make([]byte, frameSamples)}
			s, e := handSession(t, leg, m)
			s.rtp.(*handConn).last = make([]byte, 2048)
			packet := rtpPacket(0, false, 0, 0, 7, tone(1))
			frame := &sdk.Frame{Kind: sdk.Audio, Payload: tone(2), Origin: e.now}
			seq := uint16(0)
			step := func() {
				seq++
				packet[2], packet[3] = byte(seq>>8), byte(seq)
				e.now += int64(ptime)
				s.reportDue = e.now + int64(time.Hour) // reports are not per frame
				s.receivedRTP(engine.Message{Data: packet, From: peerRTP, At: e.now})
				frame.Origin = e.now
				s.fromCore(frame)
				e.tick(e.now)
			}
			for range 100 {
				step()
			}
			before := leg.frames
			if n := testing.AllocsPerRun(200, step); n != 0 {
				t.Errorf("%v allocations per frame", n)
			}
			if leg.frames-before != 201 || s.send.frames.Load() < 301 {
				t.Errorf("%d frames in, %d out", leg.frames-before, s.send.frames.Load())
			}
		})
	}
}

// FuzzPackets: whatever a datagram holds, it is counted once, and what reaches core are whole frames out of bytes that
// the packet has.
func FuzzPackets(f *testing.F) {
	f.Add(rtpPacket(0, true, 1, 160, 7, tone(1)), false)
	f.Add(append([]byte{0xB1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0xBE, 0xDE, 0, 1, 0x10, 1, 0, 0}, tone(1)...), false)
	f.Add(append(rtpPacket(101, true, 1, 160, 7, []byte{5, 0x8A, 3, 0x20}), 0), false)
	report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 7, Reports: []rtcp.ReceptionReport{{SSRC: 1, LastSenderReport: 5}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(report, true)
	leg := &sink{}
	s, e := handSession(f, leg, pcmu())
	f.Fuzz(func(t *testing.T, data []byte, control bool) {
		e.now += int64(ptime)
		leg.err = nil
		before := sum(&s.recv.tally) + sum(&s.reports.tally)
		whole := bytes.Clone(data)
		m := engine.Message{Data: data, From: peerRTP, At: e.now}
		if control {
			m.From = peerRTCP
			s.receivedRTCP(m)
		} else {
			s.receivedRTP(m)
		}
		if got := sum(&s.recv.tally) + sum(&s.reports.tally); got != before+1 {
			t.Fatalf("counted %d times", got-before)
		}
		if !bytes.Equal(whole, data) {
			t.Fatal("the datagram was written to")
		}
		var h rtp.Header
		payload, ok := parseRTP(data, &h)
		if ok && (len(payload) == 0 || len(payload) > len(data)-12 || !bytes.Contains(data, payload)) {
			t.Fatalf("payload of %d bytes out of %d", len(payload), len(data))
		}
		if leg.err != nil {
			t.Fatal(leg.err)
		}
	})
}

func sum(t *tally) (n uint64) {
	for v := range t {
		n += t[v].Load()
	}
	return n
}

// sink checks each frame.
type sink struct{ err error }

func (l *sink) Write(f sdk.Frame) {
	if _, _, digit := f.Digit(); !digit && len(f.Payload) != frameSamples {
		l.err = errors.New("a frame that is neither a digit nor 20 ms of audio")
	}
}
