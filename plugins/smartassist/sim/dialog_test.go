package sim

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

func TestRefer(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{Refer: "sip:agents@host"}})
	c := newCaller(t, b, udp)
	c.establish()
	refer := c.expect("REFER ")
	if refer.Get("Refer-To") != "<sip:agents@host>" || refer.Get("Referred-By") == "" || refer.Get("Max-Forwards") == "" {
		t.Errorf("REFER: %v", refer.Headers)
	}
	c.answer(refer, 202, "Contact", "<sip:gw@"+c.localAddr()+">")
	for _, n := range [][2]string{{"active;expires=60", "SIP/2.0 100 Trying"}, {"terminated;reason=noresource", "SIP/2.0 200 OK"}} {
		text := c.request("NOTIFY", n[1], "application/sdp", "message/sipfrag;version=2.0", "Max-Forwards", "Event: refer\nSubscription-State: "+n[0]+"\nMax-Forwards")
		c.send(text)
		c.expect("200 OK")
	}
	c.bye()
	got := c.done()
	noViolations(t, got)
	want := &Refer{Status: 202, Notify: []string{"SIP/2.0 100 Trying", "SIP/2.0 200 OK"}, Final: true}
	if d := cmp.Diff(want, got.Refer); d != "" || got.Ended != EndedCallerBye {
		t.Errorf("ended %s, refer (-want +got):\n%s", got.Ended, d)
	}
}

func TestReferWithoutBye(t *testing.T) {
	b := startBot(t, Options{T1: 10 * time.Millisecond})
	c := newCaller(t, b, udp)
	c.establish()
	if err := b.Refer(c.callID, "sip:a@b"); err != nil {
		t.Fatal(err)
	}
	refer := c.expect("REFER ")
	c.answer(refer, 202)
	c.send(c.request("NOTIFY", "nonsense"))
	c.expect("481")
	bye := c.expect("BYE ")
	c.answer(bye, 200)
	got := strings.Join(c.done().Violations, "\n")
	for _, want := range []string{"no BYE after REFER", "NOTIFY: Event is not that of a REFER"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestReinvites(t *testing.T) {
	for _, kind := range []ReinviteKind{ReinviteSame, ReinviteHold, ReinviteMove, ReinviteNoSDP} {
		t.Run(string(kind), func(t *testing.T) {
			b := startBot(t, Options{Behaviour: Behaviour{Reinvite: kind, ReinviteAt: time.Millisecond}})
			c := newCaller(t, b, udp)
			c.establish()
			before := c.media
			inv := c.expect("INVITE ")
			body := string(inv.Body)
			answer := c.offer
			switch kind {
			case ReinviteNoSDP:
				if body != "" {
					t.Errorf("body %q", body)
				}
			case ReinviteHold:
				if !strings.Contains(body, "a=sendonly") {
					t.Errorf("no hold in %q", body)
				}
				answer = strings.Replace(answer, "sendrecv", "recvonly", 1)
			case ReinviteMove:
				if strings.Contains(body, "m=audio "+before.String()[len("127.0.0.1:"):]+" ") {
					t.Errorf("the port stayed: %q", body)
				}
			default:
				if !strings.Contains(body, " 1 IN IP4") {
					t.Errorf("the version changed without need: %q", body)
				}
			}
			c.answer(inv, 100)
			c.answerSDP(inv, answer)
			ack := c.expect("ACK ", "INVITE ")
			if ack.Get("CSeq") != strings.Replace(inv.Get("CSeq"), "INVITE", "ACK", 1) || (len(ack.Body) > 0) != (kind == ReinviteNoSDP) {
				t.Errorf("ACK %v with %q", ack.Headers, ack.Body)
			}
			if err := c.rtp.SetReadDeadline(time.Now()); err == nil { // what is queued from before does not count
				drain(c)
			}
			c.hear(2)
			c.bye()
			got := c.done()
			noViolations(t, got)
			if got.Reinvite == nil || got.Reinvite.Status != 200 {
				t.Errorf("re-invite %+v", got.Reinvite)
			}
		})
	}
}

// drain reads what has already arrived.
func drain(c *caller) {
	buf := make([]byte, maxPacket)
	for {
		if _, _, err := c.rtp.ReadFromUDPAddrPort(buf); err != nil {
			return
		}
	}
}

func TestCallerReinvitesAndUpdates(t *testing.T) {
	b := startBot(t, Options{})
	c := newCaller(t, b, udp)
	c.establish()
	hold := strings.Replace(strings.Replace(c.offer, "sendrecv", "sendonly", 1), " 1 1 IN", " 1 2 IN", 1)
	c.send(c.request("INVITE", hold))
	if m := c.expect(" 200 ", " 100 "); !strings.Contains(string(m.Body), "a=recvonly") {
		t.Errorf("answer to hold: %q", m.Body)
	}
	c.ack()
	c.send(c.request("INVITE", "")) // the bot has to offer
	if m := c.expect(" 200 ", " 100 "); !strings.Contains(string(m.Body), "m=audio") {
		t.Errorf("answer to re-INVITE without SDP: %q", m.Body)
	}
	c.send(c.request("ACK", c.offer))
	c.send(c.request("UPDATE", c.offer))
	if m := c.expect("UPDATE", "INVITE"); m.Status != 200 || !strings.Contains(string(m.Body), "a=sendrecv") {
		t.Errorf("answer to UPDATE: %d %q", m.Status, m.Body)
	}
	bad := strings.Replace(c.offer, "0 8 101", "18 101", 1)
	c.send(c.request("INVITE", bad))
	c.expect(" 488 ", " 100 ")
	c.ackFailure()
	c.send(c.request("INFO", ""))
	c.expect("200 OK", " 488 ")
	c.send(c.request("PUBLISH", ""))
	c.expect("501")
	c.bye()
	noViolations(t, c.done())
}

func TestLateOffer(t *testing.T) {
	b := startBot(t, Options{})
	c := newCaller(t, b, udp)
	c.send(c.request("INVITE", ""))
	if m := c.expect(" 200 ", " 100 "); !strings.Contains(string(m.Body), "RTP/AVP 0 8 101") {
		t.Errorf("offer %q", m.Body)
	}
	c.send(c.request("ACK", strings.Replace(c.offer, "0 8 101", "8 101", 1)))
	c.hear(2)
	c.bye()
	got := c.done()
	noViolations(t, got)
	if got.Codec != "PCMA" {
		t.Errorf("codec %s", got.Codec)
	}
}

func TestPingAndOtherRequests(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{Ping: 10 * time.Millisecond}})
	c := newCaller(t, b, udp)
	c.establish()
	c.answer(c.expect("OPTIONS "), 200)
	c.until("ping", func(c Call) bool { return c.Pings != nil && c.Pings.OK == 1 })
	if err := b.Send(c.callID, "INFO", []sipmsg.Header{{Name: "X-A", Value: "b"}}, "text/plain", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	info := c.expect("INFO ", "OPTIONS ")
	if info.Get("X-A") != "b" || string(info.Body) != "hello" {
		t.Errorf("INFO %v %q", info.Headers, info.Body)
	}
	c.answer(info, 200)
	if err := b.Hangup(c.callID, sipmsg.Header{Name: "kore-reason", Value: "TransferToAgent"}); err != nil {
		t.Fatal(err)
	}
	bye := c.expect("BYE ", "OPTIONS ", "INFO ")
	if bye.Get("kore-reason") != "TransferToAgent" {
		t.Errorf("BYE %v", bye.Headers)
	}
	c.answer(bye, 200)
	noViolations(t, c.done())
	if err := b.Hangup(c.callID); !errors.Is(err, ErrNoCall) {
		t.Errorf("hang up again: %v", err)
	}
}

func TestByeUnanswered(t *testing.T) {
	b := startBot(t, Options{T1: 4 * time.Millisecond, Behaviour: Behaviour{HangupAfter: time.Millisecond}})
	c := newCaller(t, b, udp)
	c.establish()
	c.expect("BYE ")
	c.expect("BYE ") // repeated
	if got := c.done(); got.Ended != EndedLost {
		t.Errorf("ended %s, violations %q", got.Ended, got.Violations)
	}
}

func TestByesCross(t *testing.T) {
	b := startBot(t, Options{Behaviour: Behaviour{HangupAfter: time.Millisecond}})
	c := newCaller(t, b, udp)
	c.establish()
	bye := c.expect("BYE ")
	c.send(c.request("BYE", ""))
	c.expect("200 OK", "BYE ")
	c.answer(bye, 200)
	got := c.done()
	noViolations(t, got)
	if got.Byes != 1 || got.Ended != EndedCallerBye {
		t.Errorf("%d byes, ended %s", got.Byes, got.Ended)
	}
}
