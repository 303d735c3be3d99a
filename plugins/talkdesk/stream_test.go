package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
)

// frameOf is a frame of 160 bytes that differs from its neighbors.
func frameOf(n int) []byte {
	return bytes.Repeat([]byte{byte(n), byte(n >> 8)}, frameBytes/2)
}

func mediaOf(payload []byte) string {
	return fmt.Sprintf(`{"event":"media","streamSid":"MZ1","media":{"track":"inbound","payload":%q}}`, base64.StdEncoding.EncodeToString(payload))
}

func markOf(m map[string]any) string {
	mark, _ := m["mark"].(map[string]any)
	name, _ := mark["name"].(string)
	return name
}

func TestCall(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	p, leg := g.call(t)
	want := sdk.Offer{
		Caller: "+15551234567", PlatformAccount: "td-acc", PlatformCallID: "CA1",
		Parameters: map[string]string{"interaction_id": "int-1", "caller_id": "+15551234567", "business_hours": "a::b"},
	}
	if diff := cmp.Diff(want, leg.offer); diff != "" {
		t.Errorf("offer: %s", diff)
	}
	close(leg.answered)

	// The caller speaks: every byte arrives, in order, numbered.
	const frames = 50
	for i := range frames {
		p.say(mediaOf(frameOf(i)))
	}
	for i := range frames {
		f := receive(t, leg.written, "frame")
		if f.Kind != sdk.Audio || f.Sequence != uint32(i) || f.Timestamp != uint32(i*frameBytes) || f.TalkSpurt != (i == 0) ||
			f.Discontinuity || f.Origin == 0 || !bytes.Equal(f.Payload, frameOf(i)) {
			t.Fatalf("frame %d: %+v", i, f)
		}
	}

	// The bot speaks: one message for each frame, marks and clear in their place.
	leg.audio(frameOf(7))
	leg.toPlatform(&sdk.Frame{Kind: sdk.Mark, Payload: []byte("kore-7")})
	leg.toPlatform(&sdk.Frame{Kind: sdk.Clear})
	leg.toPlatform(&sdk.Frame{Kind: sdk.DTMF, Payload: sdk.DTMFPayload(nil, '5', 0)})
	leg.toPlatform(&sdk.Frame{Kind: sdk.ComfortNoise})
	leg.audio(frameOf(8))
	leg.toPlatform(&sdk.Frame{Kind: sdk.Audio, End: true})
	for _, n := range []int{7, 8} {
		m := p.expect("media")
		media, _ := m["media"].(map[string]any)
		if diff := cmp.Diff(map[string]any{"payload": base64.StdEncoding.EncodeToString(frameOf(n))}, media); diff != "" || m["streamSid"] != "MZ1" {
			t.Errorf("%v %s", m, diff)
		}
		if n == 7 {
			if m := p.expect("mark"); markOf(m) != "kore-7" {
				t.Errorf("%v", m)
			}
			p.say(`{"event":"mark","streamSid":"MZ1","mark":{"name":"kore-7"}}`)
			p.expect("clear")
		}
	}
	if f := receive(t, leg.written, "mark"); f.Kind != sdk.Mark || string(f.Payload) != "kore-7" || f.Sequence != frames {
		t.Errorf("mark: %+v", f)
	}

	// The bot hands over: what is queued plays out, then one stop.
	leg.finish(sdk.ResultEscalate, "agents")
	name := markOf(p.expect("mark"))
	p.say(`{"event":"mark","streamSid":"MZ1","mark":{"name":"` + name + `"}}`)
	stop := p.expect("stop")
	wantStop := map[string]any{
		"event": "stop", "sequenceNumber": "1", "streamSid": "MZ1",
		"stop": map[string]any{"accountSid": "td-acc", "callSid": "CA1", "command": "escalate", "ringGroup": "agents"},
	}
	if diff := cmp.Diff(wantStop, stop); diff != "" {
		t.Error(diff)
	}
	e := leg.ending(t)
	if e.Who != sdk.Bot || e.Reason != sdk.ReasonHangup || e.Stats.FramesIn != frames || e.Stats.FramesOut != 2 {
		t.Errorf("ending: %+v", e)
	}
	if diff := cmp.Diff(map[string]uint64{"no_dtmf": 1, "comfort_noise": 1}, e.Stats.DropsOut); diff != "" {
		t.Error(diff)
	}
	leg.audio(frameOf(9)) // too late for the platform
	p.say(mediaOf(frameOf(9)), sayStop)
	p.expectClose(websocket.CloseNormalClosure)
	if diff := cmp.Diff([]string{"< start", "> stop escalate agents"}, leg.ladder()); diff != "" {
		t.Error(diff)
	}
	if n := g.measures.stops[2].Load(); n != 1 {
		t.Errorf("%d stops counted", n)
	}
}

// TestEndings goes down every line of the state machine.
func TestEndings(t *testing.T) {
	caller := sdk.Termination{Who: sdk.Caller, Reason: sdk.ReasonHangup, Q850: 16}
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, g *gatewayUnderTest, p *peer, leg *fakeLeg)
		want sdk.Termination // Detail not compared
	}{
		{"peer stops", func(_ *testing.T, _ *gatewayUnderTest, p *peer, _ *fakeLeg) {
			p.say(sayStop)
			p.expectClose(websocket.CloseNormalClosure)
		}, caller},
		{"bare stop, twice", func(_ *testing.T, _ *gatewayUnderTest, p *peer, _ *fakeLeg) {
			p.say(`{"event":"stop"}`, `{"event":"stop"}`)
			p.expectClose(websocket.CloseNormalClosure)
		}, caller},
		{"peer closes", func(t *testing.T, _ *gatewayUnderTest, p *peer, _ *fakeLeg) {
			t.Helper()
			if err := p.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "")); err != nil {
				t.Fatal(err)
			}
			p.expectClose(websocket.CloseGoingAway)
		}, caller},
		{"peer vanishes", func(t *testing.T, _ *gatewayUnderTest, p *peer, _ *fakeLeg) {
			t.Helper()
			if err := p.NetConn().Close(); err != nil {
				t.Fatal(err)
			}
		}, caller},
		{"finished while dialing", func(t *testing.T, _ *gatewayUnderTest, p *peer, leg *fakeLeg) {
			t.Helper()
			leg.finish(sdk.ResultError, "")
			stop, _ := p.expect("stop")["stop"].(map[string]any)
			if _, has := stop["ringGroup"]; stop["command"] != "error" || has {
				t.Errorf("%v", stop)
			}
			p.expectClose(websocket.CloseNormalClosure) // by the grace: the peer does nothing
		}, finishOf("", "").Termination},
		{"no echo", func(_ *testing.T, _ *gatewayUnderTest, p *peer, leg *fakeLeg) {
			close(leg.answered)
			leg.audio(frameOf(1))
			leg.finish(sdk.ResultOK, "ignored")
			p.expect("media")
			p.expect("mark")
			p.expect("stop")
			_ = p.NetConn().Close() // a reset after our stop is success
		}, finishOf("", "").Termination},
		{"nothing sent lately", func(_ *testing.T, _ *gatewayUnderTest, p *peer, leg *fakeLeg) {
			leg.audio(frameOf(1))
			p.expect("media")
			leg.finish(sdk.ResultOK, "")
			p.expect("stop")
		}, finishOf("", "").Termination},
		{"peer stops during the drain", func(_ *testing.T, _ *gatewayUnderTest, p *peer, leg *fakeLeg) {
			leg.audio(frameOf(1))
			leg.finish(sdk.ResultOK, "")
			p.expect("media")
			p.expect("mark")
			p.say(sayStop)
			p.expectClose(websocket.CloseNormalClosure)
		}, caller},
		{"shutdown", func(t *testing.T, g *gatewayUnderTest, p *peer, _ *fakeLeg) {
			t.Helper()
			closed := make(chan error, 1)
			go func() { closed <- g.Close(t.Context()) }()
			stop, _ := p.expect("stop")["stop"].(map[string]any)
			if stop["command"] != "error" {
				t.Errorf("%v", stop)
			}
			p.expectClose(websocket.CloseGoingAway)
			if err := receive(t, closed, "end of Close"); err != nil {
				t.Error(err)
			}
		}, sdk.Termination{Who: sdk.GatewayItself, Reason: sdk.ReasonLost, Q850: 41}},
		{"message over the limit", func(_ *testing.T, _ *gatewayUnderTest, p *peer, _ *fakeLeg) {
			_ = p.WriteMessage(websocket.TextMessage, make([]byte, readLimit+1)) // the far end may close before all is written
		}, sdk.Termination{Who: sdk.Platform, Reason: sdk.ReasonLost, Q850: 41}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, &fakeGateway{}, "", func(s *settings) {
				s.drainTimeout = 100 * time.Millisecond
				if tt.name == "nothing sent lately" {
					s.lately = 0
				}
			})
			p, leg := g.call(t)
			tt.end(t, g, p, leg)
			e := leg.ending(t)
			if e.Detail == "" && tt.want.Who == sdk.Caller {
				t.Error("no detail")
			}
			e.Detail = ""
			if e.Termination != tt.want {
				t.Errorf("got %v, want %v", e.Termination, tt.want)
			}
		})
	}
}

// TestNoCall: streams that end before there is a leg.
func TestNoCall(t *testing.T) {
	for _, tt := range []struct {
		name string
		say  []string
		end  func(t *testing.T, g *gatewayUnderTest, p *peer)
	}{
		{"no start", []string{sayConnected, mediaOf(frameOf(0))}, func(_ *testing.T, _ *gatewayUnderTest, p *peer) {
			p.expectClose(websocket.ClosePolicyViolation)
		}},
		{"no stream id", []string{`{"event":"start","start":{"callSid":"CA1"}}`, sayStart}, func(_ *testing.T, _ *gatewayUnderTest, p *peer) {
			p.expectClose(websocket.ClosePolicyViolation)
		}},
		{"endless stream id", []string{`{"event":"start","streamSid":"` + strings.Repeat("x", 300) + `"}`}, func(_ *testing.T, _ *gatewayUnderTest, p *peer) {
			p.expectClose(websocket.ClosePolicyViolation)
		}},
		{"stop before start", []string{sayConnected, sayStop}, func(_ *testing.T, _ *gatewayUnderTest, p *peer) {
			p.expectClose(websocket.CloseNormalClosure)
		}},
		{"gone before start", nil, func(t *testing.T, _ *gatewayUnderTest, p *peer) {
			t.Helper()
			if err := p.NetConn().Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"shutdown before start", nil, func(t *testing.T, g *gatewayUnderTest, p *peer) {
			t.Helper()
			eventually(t, "open", func() bool { return g.measures.open.Load() == 1 })
			closed := make(chan error, 1)
			go func() { closed <- g.Close(t.Context()) }()
			p.expectClose(websocket.CloseGoingAway)
			if err := receive(t, closed, "end of Close"); err != nil {
				t.Error(err)
			}
		}},
		{"a-law", []string{strings.ReplaceAll(sayStart, "audio/x-mulaw", "audio/x-alaw")}, func(t *testing.T, _ *gatewayUnderTest, p *peer) {
			t.Helper()
			stop, _ := p.expect("stop")["stop"].(map[string]any)
			if stop["command"] != "error" {
				t.Errorf("%v", stop)
			}
			p.expectClose(websocket.CloseNormalClosure)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := open(t, &fakeGateway{}, "", func(s *settings) {
				s.startTimeout = 300 * time.Millisecond
				if strings.HasPrefix(tt.name, "shutdown") {
					s.startTimeout = time.Minute
				}
			})
			p := g.dial(t, goodQuery)
			p.say(tt.say...)
			tt.end(t, g, p)
			eventually(t, "admission withdrawn", func() bool {
				_, reserved, withdrawn := g.gw.counts()
				return reserved == 0 && withdrawn == 1
			})
			if len(g.gw.legs) > 0 {
				t.Error("a leg was offered")
			}
		})
	}
}

func TestOfferRefused(t *testing.T) {
	g := open(t, &fakeGateway{offer: func(sdk.Offer) error { return errors.New("lapsed") }}, "", nil)
	p := g.dial(t, goodQuery)
	p.say(sayStart)
	p.expect("stop")
	p.expectClose(websocket.CloseNormalClosure)
}

func TestStreamIDFromMedia(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	p := g.dial(t, goodQuery)
	p.say(`{"event":"start","start":{"callSid":"CA1"}}`, mediaOf(frameOf(1)))
	leg := receive(t, g.gw.legs, "offer")
	if f := receive(t, leg.written, "frame"); !bytes.Equal(f.Payload, frameOf(1)) {
		t.Errorf("%+v", f)
	}
	leg.finish(sdk.ResultOK, "")
	if m := p.expect("stop"); m["streamSid"] != "MZ1" {
		t.Errorf("%v", m)
	}
	leg.ending(t)
}

// TestLostPeers: a peer that answers no pings, or reads nothing, is lost.
func TestLostPeers(t *testing.T) {
	for name, lose := range map[string]func(leg *fakeLeg){
		"no pong": func(*fakeLeg) {},
		"no read": func(leg *fakeLeg) {
			mark := sdk.Frame{Kind: sdk.Mark, Payload: bytes.Repeat([]byte("m"), maxNameBytes)}
			for len(leg.ended) == 0 {
				leg.toPlatform(&mark)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, &fakeGateway{}, "", func(s *settings) {
				if name == "no pong" {
					s.pingInterval, s.pongTimeout = 20*time.Millisecond, 100*time.Millisecond
				}
			})
			_, leg := g.call(t) // it never reads, so it never answers a ping
			lose(leg)
			if e := leg.ending(t); e.Who != sdk.Platform || e.Reason != sdk.ReasonLost {
				t.Errorf("got %v", e.Termination)
			}
		})
	}
}
