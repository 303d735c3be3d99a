package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

func TestCallOverEachTransport(t *testing.T) {
	for _, transport := range []string{udp, tcp, tlsName} {
		t.Run(transport, func(t *testing.T) {
			dir := t.TempDir()
			cfg, err := SelfSigned(dir)
			if err != nil {
				t.Fatal(err)
			}
			b := startBot(t, Options{TLSListen: "127.0.0.1:0", TLS: cfg, Behaviour: Behaviour{Ring: true}})
			c := newCaller(t, b, transport, dir)
			c.send(c.request("INVITE", c.offer))
			c.expect(" 100 ")
			c.expect(" 180 ")
			ok := c.expect(" 200 ")
			if via := ok.Get("Via"); !strings.Contains(via, "rport=") || !strings.Contains(via, "received=127.0.0.1") {
				t.Errorf("via of the response: %q", via)
			}
			contact, _ := contactOf(ok)
			if u, err := sipmsg.ParseURI(contact); err != nil || u.Host != "127.0.0.1" {
				t.Errorf("contact %q is no address literal", contact)
			}
			c.ack()
			c.send(c.request("OPTIONS", ""))
			c.expect("200 OK")
			c.bye()
			got := c.done()
			noViolations(t, got)
			if got.Ended != EndedCallerBye || !got.Answered || !got.Acked || got.Acks != 1 || got.Byes != 1 ||
				got.Reason != "Q.850;cause=16" || got.FromUser != "+15551234567" || got.Codec != "PCMU" || got.EventPT != 101 ||
				got.Header("x-externalcallid") != "ext-1" || got.Transport != transport || !slices.Equal(got.PayloadTypes, []int{0, 8, 101}) {
				t.Errorf("account: %+v", got)
			}
			if first, last := got.Ladder[0].Line, got.Ladder[len(got.Ladder)-1].Line; !strings.HasPrefix(first, "INVITE ") || !strings.HasPrefix(last, "200 OK (4 BYE)") && !strings.HasPrefix(last, "200 OK (3 BYE)") {
				t.Errorf("ladder from %q to %q", first, last)
			}
		})
	}
}

func TestRetransmissions(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{AnswerAfter: 50 * time.Millisecond}})
	c := newCaller(t, b, udp)
	invite := c.request("INVITE", c.offer)
	c.send(invite)
	c.expect(" 100 ")
	c.send(invite)
	c.expect(" 100 ") // from the transaction
	first := c.expect(" 200 ", " 100 ")
	begin := time.Now()
	for range 3 { // at T1, 2·T1 and 4·T1
		if again := c.expect(" 200 "); string(again.Bytes()) != string(first.Bytes()) {
			t.Error("the repeated 200 differs")
		}
	}
	if d := time.Since(begin); d < 6*testT1 {
		t.Errorf("three retransmissions within %v, want at least %v", d, 6*testT1)
	}
	c.ack()
	c.until("ack", func(c Call) bool { return c.Acked })
	c.branch-- // the same ACK again, as a second 200 draws it
	c.ack()
	c.until("second ack", func(c Call) bool { return c.Acks == 2 })
	for { // what was on its way; then it is quiet
		if m, err := c.nextWithin(8 * testT1); err == nil && m.Status == 200 {
			t.Error("200 repeated after the ACK")
		} else if isTimeout(err) {
			break
		}
	}
	bye := c.request("BYE", "")
	c.send(bye)
	c.expect("200 OK")
	c.send(bye)
	c.expect("200 OK") // from the transaction, not a second BYE
	got := c.done()
	noViolations(t, got)
	if got.Invites != 2 || got.Byes != 1 {
		t.Errorf("%d invites, %d byes", got.Invites, got.Byes)
	}
}

func TestNoAck(t *testing.T) {
	b := startBot(t, Options{T1: 4 * time.Millisecond})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	bye := c.expect("BYE", "SIP/2.0")
	c.answer(bye, 200)
	got := c.done()
	if got.Ended != EndedNoAck || !slices.Contains(got.Violations, "no ACK for the 200") {
		t.Errorf("ended %s, violations %q", got.Ended, got.Violations)
	}
}

func TestCancel(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{AnswerAfter: time.Hour}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	c.expect(" 100 ")
	c.send(c.request("CANCEL", "", "Contact: <sip:gw@"+c.localAddr()+">\r\n", "Reason: SIP;cause=487\n"))
	c.expect("200 OK 1 CANCEL")
	c.expect("487 Request Terminated")
	c.expect("487 Request Terminated") // until the ACK
	c.ackFailure()
	got := c.done()
	noViolations(t, got)
	if got.Ended != EndedCancelled || got.Status != 487 || got.Reason != "SIP;cause=487" || !got.Cancelled || !got.Acked {
		t.Errorf("account %+v", got)
	}
}

func TestCrossCancel(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{AnswerAfter: time.Hour, CrossCancel: true}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	c.expect(" 100 ")
	c.send(c.request("CANCEL", ""))
	c.expect("200 OK 1 INVITE")
	c.expect("200 OK 1 CANCEL", "INVITE")
	c.ack()
	c.bye()
	got := c.done()
	noViolations(t, got)
	if got.Ended != EndedCallerBye || !got.Cancelled || got.Status != 200 {
		t.Errorf("account %+v", got)
	}
}

func TestRefusals(t *testing.T) {
	header := []sipmsg.Header{{Name: "X-Reason", Value: "busy"}}
	for name, tc := range map[string]struct {
		behave Behaviour
		swap   []string
		offer  func(string) string
		status string
	}{
		"told to":         {behave: Behaviour{Refuse: 486, RefuseHeaders: header}, status: "486 Busy Here"},
		"no common codec": {behave: Behaviour{Codecs: []string{"pcma"}}, offer: func(s string) string { return strings.Replace(s, "0 8 101", "0 101", 1) }, status: "488"},
		"srtp":            {offer: func(s string) string { return strings.Replace(s, "RTP/AVP", "RTP/SAVP", 1) }, status: "488"},
		"bad sdp":         {offer: func(s string) string { return strings.Replace(s, "c=IN", "c=OUT", 1) }, status: "400"},
		"require":         {swap: []string{"Max-Forwards", "Require: 100rel\nMax-Forwards"}, status: "420"},
		"other body":      {swap: []string{"application/sdp", "text/plain"}, status: "415"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBot(t, Options{Behaviour: tc.behave})
			c := newCaller(t, b, udp)
			offer := c.offer
			if tc.offer != nil {
				offer = tc.offer(offer)
			}
			text := c.request("INVITE", offer)
			for i := 0; i+1 < len(tc.swap); i += 2 {
				text = strings.Replace(text, tc.swap[i], strings.ReplaceAll(tc.swap[i+1], "\n", "\r\n"), 1)
			}
			c.send(text)
			res := c.expect(tc.status, " 100 ")
			c.ackFailure()
			got := c.done()
			if got.Ended != EndedRefused || !got.Acked || got.Answered {
				t.Errorf("account %+v", got)
			}
			if tc.behave.Refuse != 0 && res.Get("X-Reason") != "busy" {
				t.Errorf("no header on the refusal: %v", res.Headers)
			}
		})
	}
}

func TestBusyBot(t *testing.T) {
	b := startBot(t, Options{MaxCalls: 1})
	c := newCaller(t, b, udp)
	c.establish()
	other := newCaller(t, b, udp)
	other.callID = "other"
	other.send(other.request("INVITE", other.offer))
	if res := other.expect(" 503 ", " 100 "); res.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	other.ackFailure()
	c.done()
	c.bye()
}

func TestSilent(t *testing.T) {
	b := startBot(t, Options{T1: time.Millisecond, Behaviour: Behaviour{Silent: true}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	if m, err := c.nextWithin(30 * time.Millisecond); err == nil {
		t.Errorf("a silent bot said %q", m.StartLine())
	}
	if got := c.done(); got.Ended != EndedUnanswered {
		t.Errorf("ended %s", got.Ended)
	}
}

func TestViolations(t *testing.T) {
	swap := func(pairs ...string) []string { return pairs }
	for name, tc := range map[string]struct {
		invite, ack, bye []string
		offer            func(string) string
		want             string
	}{
		"no max-forwards":    {invite: swap("Max-Forwards: 70\r\n", ""), want: "INVITE: no Max-Forwards"},
		"no contact":         {invite: swap("Contact: ", "X-Contact: "), want: "INVITE: 0 Contact values, want 1"},
		"no cookie":          {invite: swap("branch=z9hG4bK", "branch="), want: "INVITE: Via branch without z9hG4bK"},
		"other transport":    {invite: swap("SIP/2.0/UDP", "SIP/2.0/TCP"), want: "INVITE: Via says TCP, it came over UDP"},
		"too long for udp":   {invite: swap("Max-Forwards", "X-Pad: "+strings.Repeat("x", 1300)+"\nMax-Forwards"), want: "over UDP, at most 1300"},
		"ack with cseq":      {ack: swap("CSeq: 1 ACK", "CSeq: 2 ACK"), want: "ACK: CSeq 2, the INVITE had 1"},
		"ack without hops":   {ack: swap("Max-Forwards: 70\r\n", ""), want: "ACK: no Max-Forwards"},
		"ack to another uri": {ack: swap("ACK sip:bot@", "ACK sip:other@"), want: "is not the Contact"},
		"bye with wrong tag": {bye: swap("tag=ours", "tag=theirs"), want: "BYE with wrong tags"},
		"bye with old cseq":  {bye: swap("CSeq: 2 BYE", "CSeq: 1 BYE"), want: "BYE: CSeq 1 after 1"},
		"bye with a route":   {bye: swap("Max-Forwards", "Route: <sip:10.0.0.1;lr>\nMax-Forwards"), want: "BYE: Route"},
		"sdp line ends":      {offer: func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }, want: "SDP offer: line end without CR"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBot(t, Options{T1: 8 * time.Millisecond})
			c := newCaller(t, b, udp)
			if tc.offer != nil {
				c.offer = tc.offer(c.offer)
			}
			c.send(c.request("INVITE", c.offer, tc.invite...))
			c.expect(" 200 ", " 100 ")
			c.ack(tc.ack...)
			c.send(c.request("BYE", "", tc.bye...))
			got := c.until(tc.want, func(c Call) bool { return strings.Contains(strings.Join(c.Violations, "\n"), tc.want) })
			if len(got.Violations) == 0 {
				t.Error("no violation")
			}
		})
	}
}

func TestSecondBye(t *testing.T) {
	b := startBot(t, Options{Linger: patience})
	c := newCaller(t, b, udp)
	c.establish()
	c.bye()
	c.send(c.request("BYE", ""))
	c.expect("481")
	got := c.until("second bye", func(c Call) bool { return c.Byes == 2 })
	if !slices.Contains(got.Violations, "a second BYE") {
		t.Errorf("violations %q", got.Violations)
	}
}

func TestRecordRoute(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{RecordRoute: true}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	ok := c.expect(" 200 ", " 100 ")
	route := "Route: " + ok.Get("Record-Route") + "\nMax-Forwards"
	c.ack("Max-Forwards", route)
	c.send(c.request("BYE", "", "Max-Forwards", route))
	c.expect("200 OK")
	noViolations(t, c.done())
}

func TestStrays(t *testing.T) {
	b := startBot(t, Options{})
	c := newCaller(t, b, udp)
	c.send(c.request("OPTIONS", ""))
	if res := c.expect("200 OK"); res.Get("Allow") == "" || toTag(res) == "" {
		t.Errorf("answer to OPTIONS: %v", res.Headers)
	}
	c.send(c.request("BYE", ""))
	c.expect("481")
	c.send(c.request("REGISTER", ""))
	c.expect("405")
	c.send("SIP/2.0 200\r\nVia\r\n\r\n")
	c.send("\x80\xcb\x00\x01\x00\x00\x00\x01") // an RTCP BYE for whoever had the port before
	c.send(c.request("OPTIONS", ""))
	c.expect("200 OK")
	if got := b.Totals(); got.Options != 2 || got.Strays != 3 || got.Malformed != 1 || len(got.Violations) != 1 {
		t.Errorf("totals %+v", got)
	}
}

func TestHooks(t *testing.T) {
	lost := false
	b := startBot(t, Options{Hooks: Hooks{
		Script: func(invite *sipmsg.Message, base Behaviour) Behaviour {
			base.Ring = invite.Get("X-ExternalCallId") == "ext-1"
			return base
		},
		Incoming: func(m *sipmsg.Message) bool { // the first ACK is lost
			if m.Method == "ACK" && !lost {
				lost = true
				return false
			}
			return true
		},
		Outgoing: func(m *sipmsg.Message) []*sipmsg.Message {
			if m.Status == 180 {
				return []*sipmsg.Message{m, m}
			}
			return []*sipmsg.Message{m}
		},
	}})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", c.offer))
	c.expect(" 100 ")
	c.expect(" 180 ")
	c.expect(" 180 ")
	c.expect(" 200 ")
	c.ack()
	c.expect(" 200 ") // again, as the ACK was lost
	c.branch--
	c.ack()
	c.until("ack", func(c Call) bool { return c.Acked })
	c.bye()
	noViolations(t, c.done())
}

func TestKeepAliveOnStream(t *testing.T) {
	b := startBot(t, Options{})
	c := newCaller(t, b, tcp)
	c.send("\r\n\r\n")
	buf := make([]byte, 2)
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.conn.Read(buf); err != nil || string(buf[:n]) != "\r\n" {
		t.Errorf("pong %q, %v", buf[:n], err)
	}
}
