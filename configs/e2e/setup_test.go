package e2e

import (
	"net"
	"testing"
	"time"

	"github.com/patchbay/patchbay/configs/e2e/stage"
)

// What happens before the answer: the caller leaves, the bot refuses, or a target is dead or full.
func TestBeforeTheAnswer(t *testing.T) {
	said, botSays := sound(t, 3)
	heard := heardBy(t, "failover")
	ringing := bot(t, "--answer-after", "30s")
	busy := bot(t, "--refuse", "486")
	full := bot(t, "--refuse", "503")
	answering := bot(t, "--play", said, "--record", heard, "--hangup-after", "1900ms")
	second := bot(t, "--hangup-after", "300ms")
	w := start(t, settings{trunks: []trunk{
		{name: "ringing", targets: []string{"sip:" + ringing.Address}},
		{name: "busy", targets: []string{"sip:" + busy.Address}},
		{name: "full", targets: []string{"sip:" + full.Address, "sip:" + answering.Address}},
		{name: "silent", targets: []string{"sip:" + deadHost(t), "sip:" + second.Address}},
	}})
	t.Run("calls", func(t *testing.T) {
		t.Run("caller leaves", func(t *testing.T) { t.Parallel(); callerLeaves(t, w, ringing) })
		t.Run("486", func(t *testing.T) { t.Parallel(); refused(t, w, busy) })
		t.Run("503 then the second target", func(t *testing.T) {
			t.Parallel()
			callerHeard := heardBy(t, "caller")
			r := call(t, w.url(t, 2), "--record", callerHeard)
			if r.Outcome != "ok" {
				t.Errorf("the platform was told %q, want ok", r.Outcome)
			}
			first, then := account(t, full), account(t, answering)
			if len(first.Calls) != 1 || first.Calls[0].Status != 503 || len(then.Calls) != 1 || !then.Calls[0].Answered {
				t.Errorf("the first target: %+v, the second: %+v", first.Calls, then.Calls)
			}
			compare(t, toCaller, botSays, callerHeard, recordOf(t, w, number(2)))
		})
		t.Run("silence then the second target", func(t *testing.T) { t.Parallel(); pastDeadHost(t, w, second) })
	})
}

// callerLeaves: a CANCEL, no BYE, and nothing left of the call.
func callerLeaves(t *testing.T, w *world, ringing *stage.Bot) {
	t.Helper()
	r := call(t, w.url(t, 0), "--hangup-after", "700ms")
	if r.Outcome != "hangup" {
		t.Errorf("outcome %q, want hangup", r.Outcome)
	}
	if record := recordOf(t, w, number(0)); record.Result != "none" || record.Who != "caller" || record.Answered != nil {
		t.Errorf("the record: %s by %s, answered %v", record.Result, record.Who, record.Answered)
	}
	told := account(t, ringing)
	if len(told.Calls) != 1 || !told.Calls[0].Cancelled || told.Calls[0].Answered || told.Calls[0].Byes != 0 || told.Calls[0].Ended != "cancelled" {
		t.Errorf("the bot saw %+v", told.Calls)
	}
}

// refused: the flow's failure exit, and the record knows the code.
func refused(t *testing.T, w *world, busy *stage.Bot) {
	t.Helper()
	r := call(t, w.url(t, 1))
	if r.Outcome != "error" {
		t.Errorf("the platform was told %q, want error", r.Outcome)
	}
	if record := recordOf(t, w, number(1)); record.Result != "error" || record.Reason != "failed" || record.SIP != 486 {
		t.Errorf("the record: %s, %s, sip %d", record.Result, record.Reason, record.SIP)
	}
	if told := account(t, busy); len(told.Calls) != 1 || told.Calls[0].Status != 486 || !told.Calls[0].Acked {
		t.Errorf("the bot saw %+v", told.Calls)
	}
}

// pastDeadHost: the second target answers although the first one is never heard of, and soon.
func pastDeadHost(t *testing.T, w *world, second *stage.Bot) {
	t.Helper()
	r := call(t, w.url(t, 3))
	if r.Outcome != "ok" {
		t.Errorf("the platform was told %q, want ok", r.Outcome)
	}
	record := recordOf(t, w, number(3))
	// Four seconds on a machine that keeps up.
	if record.Answered == nil || record.Answered.Sub(*record.Offered) > 8*time.Second {
		t.Errorf("offered %v, answered %v", record.Offered, record.Answered)
	}
	if told := account(t, second); len(told.Calls) != 1 || !told.Calls[0].Answered {
		t.Errorf("the second target saw %+v", told.Calls)
	}
}

// deadHost is an address that takes everything and answers nothing.
func deadHost(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	c, err := lc.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}
