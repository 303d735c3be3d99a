package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// TestExactlyOneStop ends calls from all sides at once: the platform hears at
// most one stop and nothing behind it, and the leg ends once.
func TestExactlyOneStop(t *testing.T) {
	g := open(t, &fakeGateway{}, "", func(s *settings) {
		s.drainTimeout, s.closeGrace = 2*time.Millisecond, 5*time.Millisecond
	})
	enders := []func(p *peer, leg *fakeLeg){
		func(_ *peer, leg *fakeLeg) { leg.finish(sdk.ResultEscalate, "agents") },
		func(p *peer, _ *fakeLeg) { _ = p.WriteMessage(websocket.TextMessage, []byte(sayStop)) },
		func(p *peer, _ *fakeLeg) {
			_ = p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
		},
		func(p *peer, _ *fakeLeg) { _ = p.NetConn().Close() },
		func(_ *peer, leg *fakeLeg) {
			for i := range 5 {
				leg.audio(frameOf(i))
				leg.toPlatform(&sdk.Frame{Kind: sdk.Mark, Payload: []byte("m")})
			}
		},
	}
	for round := range 200 {
		p, leg := g.call(t)
		if round%2 == 0 {
			leg.audio(frameOf(1))
		}
		var wg sync.WaitGroup
		chosen := rand.Perm(len(enders))[:1+rand.IntN(3)]
		finished := false
		for _, i := range chosen {
			finished = finished || i < 4
			wg.Go(func() { enders[i](p, leg) })
		}
		wg.Wait()
		if !finished {
			leg.finish(sdk.ResultOK, "")
		}
		stops := 0
		for {
			m, err := p.hear()
			if err != nil {
				break
			}
			if stops > 0 {
				t.Fatalf("round %d: after stop came %v", round, m)
			}
			if m["event"] == "stop" {
				stops++
			}
		}
		leg.ending(t)
		_ = p.Close()
	}
	eventually(t, "all streams closed", func() bool { return g.measures.open.Load() == 0 })
}

// TestShutdownRaces closes the plugin while calls come and go.
func TestShutdownRaces(t *testing.T) {
	for range 10 {
		g := open(t, &fakeGateway{}, "", func(s *settings) { s.shutdownGrace, s.closeTimeout = time.Millisecond, 50*time.Millisecond })
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+g.addr+defaultPath+"?"+goodQuery, nil)
					if err != nil {
						return
					}
					_ = conn.WriteMessage(websocket.TextMessage, []byte(sayStart)) // the far end may be closing
					for err == nil {
						_, _, err = conn.ReadMessage()
					}
					_ = conn.Close()
				}
			})
		}
		for range 4 {
			leg := receive(t, g.gw.legs, "offer")
			leg.finish(sdk.ResultOK, "")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := g.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	}
}

// fakeConn is a connection that takes everything.
type fakeConn struct{ sent int }

func (c *fakeConn) Send(engine.Op, []byte, engine.Class) error { c.sent++; return nil }
func (c *fakeConn) Close(int, string)                          {}
func (c *fakeConn) Abort()                                     {}
func (c *fakeConn) LocalAddr() netip.AddrPort                  { return netip.AddrPort{} }
func (c *fakeConn) RemoteAddr() netip.AddrPort                 { return netip.AddrPort{} }
func (c *fakeConn) Stats() engine.WebSocketStats               { return engine.WebSocketStats{} }

// silentLeg is a leg that counts what is written to it.
type silentLeg struct {
	fakeLeg
	frames int
}

func (l *silentLeg) Write(sdk.Frame) { l.frames++ }

// newTestStream is a talking stream between a fake connection and a fake leg.
func newTestStream(tb testing.TB) (*stream, *silentLeg, *fakeConn) {
	tb.Helper()
	p := new(provider)
	if err := p.Configure(tb.Context(), json.RawMessage(`{}`)); err != nil {
		tb.Fatal(err)
	}
	e, err := engine.Open(engine.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	srv := &server{measures: &p.measures, engine: e, log: slog.New(slog.DiscardHandler)}
	st := newStream(srv, p.settings.Load(), streamRequest{}, &fakeAdmission{id: "call-1"})
	conn, leg := new(fakeConn), new(silentLeg)
	leg.streams = []sdk.Stream{sdk.PCMU8k()}
	st.conn, st.leg, st.enc = conn, leg, newEncoder("MZ1")
	st.setState(talking)
	return st, leg, conn
}

func TestAudioPathAllocatesNothing(t *testing.T) {
	st, leg, conn := newTestStream(t)
	in := []byte(`{"event":"media","sequenceNumber":"4","streamSid":"MZ1","media":{"track":"inbound","chunk":"3","timestamp":"40","payload":"` +
		base64.StdEncoding.EncodeToString(frameOf(1)) + `"}}`)
	out := sdk.Frame{Kind: sdk.Audio, Payload: frameOf(2), Origin: 1}
	n := testing.AllocsPerRun(200, func() {
		st.Received(engine.Message{Data: in, At: 1, Op: engine.Text})
		st.frame(&out)
	})
	if n != 0 || leg.frames == 0 || conn.sent != leg.frames {
		t.Errorf("%v allocations per frame pair, %d in, %d out", n, leg.frames, conn.sent)
	}
}

func BenchmarkFramePair(b *testing.B) {
	st, _, _ := newTestStream(b)
	in := []byte(`{"event":"media","sequenceNumber":"4","streamSid":"MZ1","media":{"track":"inbound","chunk":"3","timestamp":"40","payload":"` +
		base64.StdEncoding.EncodeToString(frameOf(1)) + `"}}`)
	out := sdk.Frame{Kind: sdk.Audio, Payload: frameOf(2), Origin: 1}
	b.ReportAllocs()
	for b.Loop() {
		st.Received(engine.Message{Data: in, At: 1, Op: engine.Text})
		st.frame(&out)
	}
}
