package sim

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

func TestFaultsInMessages(t *testing.T) {
	tests := map[string]struct {
		faults Faults
		check  func(t *testing.T, g *gateway)
	}{
		"binary": {Faults{Binary: true}, func(t *testing.T, g *gateway) {
			t.Helper()
			for _, m := range g.messages {
				if m.kind != websocket.BinaryMessage {
					t.Errorf("%.40s came as kind %d", m.raw, m.kind)
				}
			}
		}},
		"numbers": {Faults{NumbersAsNumbers: true}, func(t *testing.T, g *gateway) {
			t.Helper()
			m := g.events("media")[3]
			if diff := cmp.Diff([]any{5., 4., 60.}, []any{m.field("sequenceNumber"), m.field("media", "chunk"), m.field("media", "timestamp")}); diff != "" {
				t.Errorf("numbers (-want +got):\n%s", diff)
			}
			if n := g.events("start")[0].field("sequenceNumber"); n != 1. {
				t.Errorf("start has the number %v", n)
			}
		}},
		"no stream id": {Faults{NoStreamSID: true}, func(t *testing.T, g *gateway) {
			t.Helper()
			for _, m := range g.messages {
				if m.field("streamSid") != nil {
					t.Errorf("streamSid in %.60s", m.raw)
				}
			}
		}},
		"no media": {Faults{NoMedia: true}, func(t *testing.T, g *gateway) {
			t.Helper()
			if n := len(g.events("media")); n > 0 {
				t.Errorf("%d frames", n)
			}
		}},
		"no pongs": {Faults{IgnorePings: true}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g gateway
				r, err := call(t, Options{Faults: tt.faults}, serve(t, &g, func(g *gateway) {
					if err := g.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil {
						t.Error(err)
					}
					until(time.Second)(g)
				}))
				if err != nil || r.Outcome != OutcomeOK || r.Pings != 1 {
					t.Errorf("outcome %q, %d pings, %v", r.Outcome, r.Pings, err)
				}
				if tt.check != nil {
					tt.check(t, &g)
				}
			})
		})
	}
}

func TestOpeningReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		opening := []string{`{"event":"start","start":{"streamSid":"only here"}}`, "not JSON"}
		_, err := call(t, Options{Faults: Faults{Opening: opening, NoMedia: true}, HangupAfter: time.Second, Hangup: HangupClose}, serve(t, &g, nil))
		if err != nil {
			t.Fatal(err)
		}
		var raw []string
		for _, m := range g.messages {
			raw = append(raw, m.raw)
		}
		if diff := cmp.Diff(opening, raw); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

// TestPings: whether a gateway's ping is answered shows at the gateway; that ours is, in the report.
func TestPings(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var g gateway
			var mu sync.Mutex
			pongs := 0
			r, err := call(t, Options{
				Faults: Faults{IgnorePings: ignore},
				Script: []Step{{At: 500 * time.Millisecond, Do: SendPing()}},
			}, serve(t, &g, func(g *gateway) {
				g.conn.SetPongHandler(func(string) error {
					mu.Lock()
					defer mu.Unlock()
					pongs++
					return nil
				})
				if err := g.conn.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second)); err != nil {
					t.Error(err)
				}
				until(time.Second)(g)
			}))
			if err != nil || r.Pings != 1 || r.Pongs != 1 || (pongs == 0) != ignore {
				t.Errorf("ignore %v: %d pings, %d pongs, the gateway had %d; %v", ignore, r.Pings, r.Pongs, pongs, err)
			}
		})
	}
}

func TestScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		control := make(chan Action, 1)
		var seen []string
		r, err := call(t, Options{
			Control: control,
			Observe: func(e Event) {
				if e.Name == "media" && !e.Sent {
					select {
					case control <- SendDTMF("9"):
					default:
					}
				}
				if e.Name != "media" {
					seen = append(seen, e.Name)
				}
			},
			Script: []Step{
				{At: 700 * time.Millisecond, Do: Unmute()},
				{At: 300 * time.Millisecond, Do: Mute()},
				{At: 350 * time.Millisecond, Do: SendText(`{"event":`)},
				{At: 360 * time.Millisecond, Do: SendBinary([]byte{0, 1})},
				{At: 370 * time.Millisecond, Do: SendMedia([]byte{1, 2, 3})},
				{At: 900 * time.Millisecond, Do: SendRaw([]byte{0xFF, 0xFF, 0xFF})},
			},
		}, serve(t, &g, func(g *gateway) {
			time.Sleep(100 * time.Millisecond)
			g.media(ramp(160))
		}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"connected", "start", "dtmf", "close"}, seen); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		var odd []string
		for _, m := range g.messages {
			if m.m == nil {
				odd = append(odd, m.raw)
			}
		}
		if diff := cmp.Diff([]string{`{"event":`, "\x00\x01"}, odd); diff != "" {
			t.Errorf("malformed messages (-want +got):\n%s", diff)
		}
		var times []time.Duration
		for _, m := range g.events("media") {
			if m.at > 280*time.Millisecond && m.at < 760*time.Millisecond {
				times = append(times, m.at/time.Millisecond)
			}
		}
		if diff := cmp.Diff([]time.Duration{370, 700, 720, 740}, times); diff != "" {
			t.Errorf("frames around the mute (-want +got):\n%s", diff)
		}
		if got := g.events("dtmf"); len(got) != 1 || got[0].at != 100*time.Millisecond {
			t.Errorf("digits %v", got)
		}
		if closed := new(websocket.CloseError); g.ended == nil || errors.As(g.ended, &closed) {
			t.Errorf("three broken bytes ended the gateway's reading with %v", g.ended)
		}
		if want := (ending{OutcomeClosed, SideGateway, websocket.CloseProtocolError, true}); endingOf(&r) != want {
			t.Errorf("ending %+v, want %+v", endingOf(&r), want)
		}
	})
}

// tapped keeps what is written to a connection.
type tapped struct {
	net.Conn
	mu  sync.Mutex
	raw []byte
}

func (c *tapped) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.raw = append(c.raw, b...)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func TestFragments(t *testing.T) {
	const most = 50
	var g gateway
	srv := listen(t, serve(t, &g, func(g *gateway) { g.stop(resultOK) }))
	srv.Start()
	var tap *tapped
	r, err := Run(t.Context(), Options{
		URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Faults: Faults{FragmentSize: most}, Linger: -1,
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			c, err := net.Dial(network, address) //nolint:noctx // a test's own loopback server
			tap = &tapped{Conn: c}
			return tap, err
		},
	})
	if err != nil || r.Outcome != OutcomeOK {
		t.Fatalf("outcome %q, %v", r.Outcome, err)
	}
	_, frames, _ := strings.Cut(string(tap.raw), "\r\n\r\n")
	finals, continued := 0, 0
	for len(frames) > 0 { // RFC 6455 §5.2; all are masked and under 126 bytes
		fin, opcode, n := frames[0]&0x80 != 0, frames[0]&0xF, int(frames[1]&0x7F)
		if n > most {
			t.Errorf("a frame of %d bytes", n)
		}
		if fin {
			finals++
		}
		if opcode == 0 {
			continued++
		}
		frames = frames[6+n:]
	}
	if continued < finals || finals < 3 {
		t.Errorf("%d messages with %d continuations", finals, continued)
	}
	if start := g.events("start"); len(start) != 1 {
		t.Error("start did not survive the fragments")
	}
}

// TestStoppedReaderIsFelt: over real sockets, a gateway that writes to a simulator that does not read is soon held up.
func TestStoppedReaderIsFelt(t *testing.T) {
	var g gateway
	blocked := false
	control := make(chan Action, 1)
	srv := listen(t, serve(t, &g, func(g *gateway) {
		if tcp, ok := g.conn.NetConn().(*net.TCPConn); ok {
			if err := tcp.SetWriteBuffer(8 << 10); err != nil {
				t.Error(err)
			}
		}
		frame := []byte(`{"event":"clear","streamSid":"` + g.sid + `"}`)
		for range 100_000 {
			if err := g.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			if err := g.conn.WriteMessage(websocket.TextMessage, frame); err != nil {
				var timeout net.Error
				blocked = errors.As(err, &timeout) && timeout.Timeout()
				break
			}
		}
		control <- Drop(true)
	}))
	srv.Start()
	r, err := Run(t.Context(), Options{
		URL: "ws" + strings.TrimPrefix(srv.URL, "http"), Control: control,
		Faults: Faults{ReceiveBuffer: 4 << 10}, Script: []Step{{Do: StopReading()}},
	})
	if err != nil || !blocked || r.Outcome != OutcomeDropped || r.EndedBy != SideCaller {
		t.Errorf("blocked %v, outcome %q by %s, %v", blocked, r.Outcome, r.EndedBy, err)
	}
}

func TestResumeReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		var first time.Duration
		r, err := call(t, Options{
			Script: []Step{{Do: StopReading()}, {At: time.Second, Do: ResumeReading()}},
			Observe: func(e Event) {
				if e.Name == "media" && !e.Sent && first == 0 {
					first = time.Duration(e.At)
				}
			},
		}, serve(t, &g, func(g *gateway) {
			time.Sleep(100 * time.Millisecond)
			g.clear() // a read was under way when reading stopped
			g.media(ramp(160))
			g.stop(resultOK)
		}))
		if err != nil || first != time.Second || r.Outcome != OutcomeOK {
			t.Errorf("first audio at %v, outcome %q, %v", first, r.Outcome, err)
		}
	})
}
