package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

func TestFailover(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status string
		header string
		next   bool
	}{
		"503":               {"503 Service Unavailable", "X-Reason: Maximum Calls In Progress", true},
		"500":               {"500 Server Error", "", true},
		"408":               {"408 Timeout", "", true},
		"480":               {"480 Unavailable", "", true},
		"480 with a reason": {"480 Unavailable", "X-Reason: no configured application", false},
		"404":               {"404 Number Not Provisioned", "", false},
		"403":               {"403 Forbidden", "", false},
		"603":               {"603 Decline", "", false},
		"302":               {"302 Moved", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := newPeer(t, "udp", nil), newPeer(t, "udp", nil)
			g := open(t, []string{first.target(), second.target()}, nil, nil)
			c := g.place()
			invite := first.want("INVITE")
			var extra []string
			if tt.header != "" {
				extra = append(extra, tt.header)
			}
			first.reply(invite, tt.status, "", extra...)
			first.want("ACK")
			if !tt.next {
				if e := c.ended(); e.Reason != sdk.ReasonFailed || fmt.Sprint(e.SIP) != tt.status[:3] {
					t.Errorf("ended: %+v", e.Termination)
				}
				second.none("INVITE", 200*time.Millisecond)
				return
			}
			again := second.answer()
			if again.get("Call-ID") == invite.get("Call-ID") {
				t.Error("both attempts have one Call-ID")
			}
			c.want(t, "answer")
			if g.provider.running.health.failing() != 1 {
				t.Error("the target that failed is not remembered")
			}
		})
	}
}

func TestSilentTargetIsPassedOver(t *testing.T) {
	t.Parallel()
	first, second := newPeer(t, "udp", nil), newPeer(t, "udp", nil)
	g := open(t, []string{first.target(), second.target()}, nil, nil)
	c := g.place()
	invite := first.want("INVITE")
	start := time.Now()
	second.answer()
	if d := time.Since(start); d > firstResponse+2*time.Second {
		t.Errorf("it took %s", d)
	}
	c.want(t, "answer")
	first.reply(invite, "200 OK", first.sdp()) // it wakes up: acknowledged and hung up, the call goes on
	first.want("ACK")
	bye := first.want("BYE")
	first.reply(bye, "200 OK", "")
	c.hangup(callerGone)
	second.reply(second.want("BYE"), "200 OK", "")
	c.ended()
}

func TestRefusedConnectionIsPassedOver(t *testing.T) {
	t.Parallel()
	closed := newPeer(t, "tcp", nil)
	_ = closed.listener.Close()
	second := newPeer(t, "udp", nil)
	g := open(t, []string{closed.target(), second.target()}, nil, nil)
	c := g.place()
	second.answer()
	c.want(t, "answer")
}

func TestAnswerTimeout(t *testing.T) {
	t.Parallel()
	first, second := newPeer(t, "udp", nil), newPeer(t, "udp", nil)
	g := open(t, []string{first.target(), second.target()}, map[string]any{"answer_timeout": "1s"}, nil)
	c := g.place()
	invite := first.want("INVITE")
	first.reply(invite, "180 Ringing", "")
	cancel := first.want("CANCEL")
	first.reply(cancel, "200 OK", "")
	first.reply(invite, "487 Request Terminated", "")
	if e := c.ended(); e.Q850 != 19 || e.Reason != sdk.ReasonFailed {
		t.Errorf("ended: %+v", e.Termination)
	}
	second.none("INVITE", 200*time.Millisecond)
}
