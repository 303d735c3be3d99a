package main

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
)

// TestTolerance: whatever the platform sends, the call goes on and it is counted.
func TestTolerance(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	p := g.dial(t, goodQuery)
	p.say(mediaOf(frameOf(0)), `{"event":"hello"}`, `{"event":"mark","mark":{"name":"early"}}`)
	if err := p.WriteMessage(websocket.BinaryMessage, []byte(sayStart)); err != nil {
		t.Fatal(err)
	}
	leg := receive(t, g.gw.legs, "offer")
	malformed := []string{"", "x", "[]", "null", `{"event":7`, `{}`, "\xff\xfe", `{"event":""}`, strings.Repeat("[", 20000)}
	p.say(malformed...)
	p.say(
		sayStart, `{"event":"ping"}`, `{"event":"ping"}`, `{"event":"clear"}`, `{"event":7}`,
		`{"event":"media"}`, `{"event":"media","media":{"payload":"%%%"}}`, `{"event":"media","media":{"payload":""}}`,
		`{"event":"media","media":{"track":"outbound","payload":"AAAA"}}`,
		`{"event":"media","media":{"track":"outbound_track","payload":"AAAA"}}`,
		`{"event":"dtmf","dtmf":{"digit":"x"}}`, `{"event":"dtmf"}`, `{"event":"mark"}`, `{"event":"mark","mark":{"name":""}}`,
		`{"event":"media","media":{"payload":"`+base64.StdEncoding.EncodeToString(make([]byte, 500000))+`"}}`,
	)
	// 400 ms of the half second and more are left.
	for i := range maxFIFO / frameBytes {
		f := receive(t, leg.written, "frame")
		if f.Discontinuity != (i == 0) || f.Sequence != uint32(i) {
			t.Fatalf("frame %d: %+v", i, f)
		}
	}
	if err := p.WriteMessage(websocket.BinaryMessage, []byte(mediaOf(frameOf(3)))); err != nil {
		t.Fatal(err)
	}
	if f := receive(t, leg.written, "frame"); !bytes.Equal(f.Payload, frameOf(3)) || f.Timestamp != 500000 {
		t.Errorf("%+v", f)
	}
	for _, d := range []string{`{"digit":"1"}`, `{"track":"inbound_track","digit":2}`, `"#*"`, `{"digits":"aD"}`} {
		p.say(`{"event":"dtmf","dtmf":` + d + `}`)
	}
	var digits []byte
	for range 6 {
		f := receive(t, leg.written, "digit")
		d, _, ok := f.Digit()
		if !ok {
			t.Errorf("%+v", f)
		}
		digits = append(digits, d)
	}
	if string(digits) != "12#*AD" {
		t.Errorf("digits %s", digits)
	}
	// Other shapes of payload: odd sizes, no padding, URL-safe, line breaks.
	var sent []byte
	for i, size := range []int{1, 159, 0, 161, 80, 79, 3, 157} {
		part := bytes.Repeat([]byte{byte(0xF8 + i)}, size)
		sent = append(sent, part...)
		text := base64.StdEncoding.EncodeToString(part)
		switch i % 4 {
		case 1:
			text = base64.RawURLEncoding.EncodeToString(part)
		case 2:
			text = base64.RawStdEncoding.EncodeToString(part)
		case 3:
			text = strings.ReplaceAll(text, "A", "A\\n")
		}
		p.say(`{"event":"media","media":{"payload":"` + text + `"},"sequenceNumber":null}`)
	}
	var got []byte
	for len(got) < len(sent)/frameBytes*frameBytes {
		got = append(got, receive(t, leg.written, "frame").Payload...)
	}
	if !bytes.Equal(got, sent[:len(got)]) {
		t.Error("re-framed audio differs")
	}
	p.say(sayStop)
	p.expectClose(websocket.CloseNormalClosure)
	drops := leg.ending(t).Stats.Drops
	// The oversized message: 500000 bytes less 3200, in whole frames.
	want := map[string]uint64{"before_start": 2, "second_start": 1, "payload": 2, "track": 2, "digit": 2, "backlog": 3105}
	if diff := cmp.Diff(want, drops); diff != "" {
		t.Error(diff)
	}
	if n := g.measures.malformed.Load(); n != uint64(len(malformed)) {
		t.Errorf("%d of %d malformed messages counted", n, len(malformed))
	}
	if n := g.measures.in[eventUnknown].Load(); n != 4 {
		t.Errorf("%d unknown messages counted", n)
	}
}

func TestMonitor(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	p := g.dial(t, strings.ReplaceAll(goodQuery, "agentassist=false", "agentassist=true"))
	p.say(sayStart)
	leg := receive(t, g.gw.legs, "offer")
	p.say(
		`{"event":"media","media":{"track":"outbound","payload":"`+base64.StdEncoding.EncodeToString(frameOf(1))+`"}}`,
		mediaOf(frameOf(2)),
	)
	for i, stream := range []int{1, 0} {
		f := receive(t, leg.written, "frame")
		if f.Stream != stream || f.Sequence != 0 || !bytes.Equal(f.Payload, frameOf(i+1)) {
			t.Errorf("%+v", f)
		}
	}
	leg.audio(frameOf(3))
	leg.toPlatform(&sdk.Frame{Kind: sdk.Clear})
	leg.finish(sdk.ResultEscalate, "agents")
	p.expectClose(websocket.CloseNormalClosure) // nothing was ever sent
	if e := leg.ending(t); e.Who != sdk.Bot || e.Stats.DropsOut["monitor"] != 2 {
		t.Errorf("%+v", e)
	}
}
