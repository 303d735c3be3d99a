package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

func TestCallAnsweredAndHungUpByUs(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, transport, nil)
			g := open(t, []string{p.target()}, nil, nil)
			c := g.place(sdk.Header{Name: "X-ExternalCallId", Value: "abc"}, sdk.Header{Name: "X-Bad", Value: "a\r\nb"})
			invite := p.want("INVITE")
			checkInvite(t, g, p, invite)
			p.reply(invite, "180 Ringing", "")
			c.want(t, "progress 180 false")
			p.reply(invite, "200 OK", p.sdp(), "X-Call-Sid: s1")
			ack := p.want("ACK")
			if ack.get("CSeq") != strings.Replace(invite.get("CSeq"), "INVITE", "ACK", 1) || ack.param("To", "tag") != p.tag {
				t.Errorf("ACK has CSeq %q, To %q", ack.get("CSeq"), ack.get("To"))
			}
			if ack.param("Via", "branch") == invite.param("Via", "branch") {
				t.Error("ACK of a 2xx has the INVITE's branch")
			}
			c.want(t, "answer")
			p.reply(invite, "200 OK", p.sdp()) // lost ACK
			if again := p.want("ACK"); again.get("CSeq") != ack.get("CSeq") {
				t.Errorf("second ACK has CSeq %q", again.get("CSeq"))
			}
			c.hangup(callerGone)
			bye := p.want("BYE")
			if bye.get("Reason") != `Q.850;cause=16;text="hangup"` || !strings.HasPrefix(bye.uri(), "sip:bot@127.0.0.1") {
				t.Errorf("BYE %q with reason %q", bye.uri(), bye.get("Reason"))
			}
			p.reply(bye, "100 Trying", "")
			p.reply(bye, "200 OK", "")
			if e := c.ended(); e.Who != sdk.Caller || e.Reason != sdk.ReasonHangup {
				t.Errorf("ended: %+v", e)
			}
			p.none("BYE", 700*time.Millisecond)
			if transport == "tcp" && p.conns != 1 {
				t.Errorf("%d connections, want the INVITE's to be used for all", p.conns)
			}
		})
	}
}

func checkInvite(t *testing.T, g *testGateway, p *peer, m message) {
	t.Helper()
	if !strings.HasPrefix(m.uri(), "sip:+17345550100@127.0.0.1:") {
		t.Errorf("Request-URI %q", m.uri())
	}
	if !strings.HasPrefix(m.get("From"), "<sip:+15551234567@127.0.0.1>;tag=") {
		t.Errorf("From %q", m.get("From"))
	}
	want := fmt.Sprintf("<sip:gw@%s;transport=%s>", g.sip, p.transport)
	if m.get("Contact") != want {
		t.Errorf("Contact %q, want %q", m.get("Contact"), want)
	}
	if !strings.Contains(m.get("Via"), g.sip.String()) || !strings.Contains(m.get("Via"), ";rport") {
		t.Errorf("Via %q", m.get("Via"))
	}
	if m.get("X-ExternalCallId") != "abc" || m.get("X-Bad") != "" || m.get("b") != "" {
		t.Errorf("custom headers: %v", m.headers)
	}
	for _, name := range []string{"Allow", "Supported", "User-Agent", "Max-Forwards", "Call-ID"} {
		if m.get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if !strings.Contains(m.body, "RTP/AVP 0 8 101\r\n") || !strings.Contains(m.body, "a=ptime:20\r\n") {
		t.Errorf("offer:\n%s", m.body)
	}
	if p.udp != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.from.String() != g.sip.String() {
			t.Errorf("INVITE came from %s, not from the listening port", p.from)
		}
	}
}

func TestAnonymousCaller(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.placeTo(sdk.Placement{Destination: "17345550100", Streams: []sdk.Stream{sdk.PCMU8k()}})
	invite := p.want("INVITE")
	if !strings.HasPrefix(invite.get("From"), `"Anonymous" <sip:anonymous@anonymous.invalid>`) {
		t.Errorf("From %q", invite.get("From"))
	}
	p.reply(invite, "486 Busy Here", "")
	p.want("ACK")
	if e := c.ended(); e.SIP != 486 || e.Q850 != 17 || e.Reason != sdk.ReasonFailed {
		t.Errorf("ended: %+v", e)
	}
}

func TestByeFromPeer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		headers []string
		reason  sdk.Reason
		q850    int
	}{
		"plain":    {nil, sdk.ReasonHangup, 16},
		"transfer": {[]string{"kore-reason: TransferToAgent", "X-Queue-Name: sales"}, sdk.ReasonTransfer, 16},
		"q850":     {[]string{`Reason: Q.850;cause=31`}, sdk.ReasonHangup, 31},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, "udp", nil)
			g := open(t, []string{p.target()}, nil, nil)
			c := g.place()
			invite := p.answer()
			c.want(t, "answer")
			p.request(invite, "BYE", "", tt.headers...)
			p.want("200 OK")
			e := c.ended()
			if e.Who != sdk.Bot || e.Reason != tt.reason || e.Q850 != tt.q850 {
				t.Errorf("ended: %+v", e.Termination)
			}
			for _, h := range tt.headers {
				name, value, _ := strings.Cut(h, ": ")
				if header(e.Headers, name) != value {
					t.Errorf("%s is %q, want %q", name, header(e.Headers, name), value)
				}
			}
			if header(e.Headers, "Call-ID") != "" || header(e.Headers, "Via") != "" {
				t.Errorf("the message's own headers were passed on: %v", e.Headers)
			}
			p.none("BYE", 300*time.Millisecond)
		})
	}
}

func TestByeOvertakesAnswer(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	p.request(invite, "BYE", "")
	p.want("200 OK")
	p.reply(invite, "200 OK", p.sdp())
	p.want("ACK")
	if e := c.ended(); e.Who != sdk.Bot || e.Reason != sdk.ReasonHangup {
		t.Errorf("ended: %+v", e.Termination)
	}
	p.none("BYE", 300*time.Millisecond)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	// A hop of a Record-Route must not draw the CANCEL away: it is made of the INVITE alone.
	p.reply(invite, "180 Ringing", "", "Record-Route: <sip:127.0.0.1:1;lr>")
	c.want(t, "progress 180 false")
	c.hangup(callerGone)
	cancel := p.want("CANCEL")
	if cancel.uri() != invite.uri() || cancel.get("Via") != invite.get("Via") || cancel.get("Route") != "" ||
		cancel.get("CSeq") != strings.Replace(invite.get("CSeq"), "INVITE", "CANCEL", 1) || cancel.get("Reason") == "" {
		t.Errorf("CANCEL: %+v", cancel)
	}
	p.reply(cancel, "200 OK", "")
	p.reply(invite, "487 Request Terminated", "")
	p.want("ACK")
	if e := c.ended(); e.Who != sdk.Caller {
		t.Errorf("ended: %+v", e.Termination)
	}
}

func TestCancelWaitsForProvisional(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	c.hangup(callerGone)
	c.ended()
	p.none("CANCEL", 300*time.Millisecond)
	p.reply(invite, "100 Trying", "")
	cancel := p.want("CANCEL")
	p.reply(cancel, "200 OK", "")
	p.reply(invite, "487 Request Terminated", "")
	p.want("ACK")
}

func TestAnswerCrossesCancel(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	p.reply(invite, "180 Ringing", "")
	c.want(t, "progress 180 false")
	c.hangup(callerGone)
	cancel := p.want("CANCEL")
	p.reply(invite, "200 OK", p.sdp())
	p.reply(cancel, "481 Call/Transaction Does Not Exist", "")
	p.want("ACK")
	bye := p.want("BYE")
	p.reply(bye, "200 OK", "")
	c.ended()
	if n := g.provider.running.stack.counts.crossed.Load(); n != 1 {
		t.Errorf("%d crossed answers counted", n)
	}
}

func TestForkedAnswerIsHungUp(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.answer()
	c.want(t, "answer")
	p.write(p.response(invite, "otherfork", "200 OK", p.sdp()))
	ack := p.want("ACK")
	bye := p.want("BYE")
	if ack.param("To", "tag") != "otherfork" || bye.param("To", "tag") != "otherfork" {
		t.Errorf("ACK to %q, BYE to %q", ack.get("To"), bye.get("To"))
	}
	p.reply(bye, "200 OK", "")
	select {
	case e := <-c.done:
		t.Fatalf("the call ended: %+v", e)
	default:
	}
	c.hangup(callerGone)
	if bye = p.want("BYE"); bye.param("To", "tag") != p.tag {
		t.Errorf("BYE to %q", bye.get("To"))
	}
	p.reply(bye, "481 Gone", "")
	c.ended()
}

func TestUnusableAnswerIsHungUp(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	invite := p.want("INVITE")
	p.reply(invite, "200 OK", strings.Replace(p.sdp(), "RTP/AVP 0 101", "RTP/AVP 18", 1))
	p.want("ACK")
	p.reply(p.want("BYE"), "200 OK", "")
	if e := c.ended(); e.Q850 != 88 || e.Reason != sdk.ReasonFailed {
		t.Errorf("ended: %+v", e.Termination)
	}
}

func TestDigestCredentials(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, map[string]any{"auth": map[string]string{"username": "user", "password": "secret"}}, nil)
	c := g.place()
	invite := p.want("INVITE")
	p.reply(invite, "407 Proxy Authentication Required", "", `Proxy-Authenticate: Digest realm="kore", nonce="n1", qop="auth", algorithm=MD5`)
	p.want("ACK")
	again := p.want("INVITE")
	cred := again.get("Proxy-Authorization")
	if !strings.Contains(cred, `username="user"`) || !strings.Contains(cred, `uri="`+again.uri()+`"`) || strings.Contains(cred, "secret") {
		t.Errorf("credentials %q for %q", cred, again.uri())
	}
	if again.get("CSeq") != "2 INVITE" || again.get("Call-ID") != invite.get("Call-ID") || again.param("From", "tag") != invite.param("From", "tag") {
		t.Errorf("second INVITE: %+v", again)
	}
	p.reply(again, "200 OK", p.sdp())
	ack := p.want("ACK")
	if ack.get("CSeq") != "2 ACK" || ack.get("Proxy-Authorization") != cred {
		t.Errorf("ACK: %+v", ack)
	}
	c.want(t, "answer")
}

func TestLargeInviteGoesOverTCP(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "tcp", nil)
	g := open(t, []string{fmt.Sprintf("sip:127.0.0.1:%d", p.port())}, nil, nil) // UDP is configured
	c := g.place(sdk.Header{Name: "X-A", Value: strings.Repeat("a", 500)}, sdk.Header{Name: "X-B", Value: strings.Repeat("b", 500)})
	p.answer()
	c.want(t, "answer")
}

func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	c := g.place()
	p.answer()
	c.want(t, "answer")
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed <- g.provider.Close(ctx)
	}()
	p.reply(p.want("BYE"), "200 OK", "")
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if e := c.ended(); e.Who != sdk.GatewayItself {
		t.Errorf("ended: %+v", e.Termination)
	}
	if e := g.place().ended(); e.Reason != sdk.ReasonFailed {
		t.Errorf("a call after Close ended so: %+v", e.Termination)
	}
}
