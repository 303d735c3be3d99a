package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// The events of both legs come from two programs: they are put in the order of time, each in its lane.
func TestLadder(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	var out strings.Builder
	ladder(&out, &stage.Record{Admitted: began, Events: []stage.Event{
		{At: at(3), Leg: "egress", Outbound: true, Text: "INVITE"},
		{At: at(300), Leg: "egress", Text: "200 OK"},
		{At: at(1), Leg: "ingress", Text: "start"},
		{At: at(900), Leg: "ingress", Outbound: true, Text: "stop escalate a queue of a very long name"},
		{At: at(950), Leg: "core", Text: "ending"},
	}})
	want := `
       ms  Talkdesk                        gateway                             SmartAssist
      1.0  │ start ────────────────────────▶ │                                  │
      3.0  │                                  │ INVITE ───────────────────────▶ │
    300.0  │                                  │ ◀─────────────────────── 200 OK │
    900.0  │ ◀── stop escalate a queue of a … │                                  │
    950.0  │ ending                           │                                  │
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// good is a call in which everything arrived.
func good() *performance {
	offered := time.Now()
	answered := offered.Add(300 * time.Millisecond)
	return &performance{
		caller: &stage.CallerReport{Outcome: "escalate → agents"},
		bot:    &stage.BotReport{Calls: []stage.BotCall{{Answered: true, Acked: true, Digits: digits}}},
		record: stage.Record{
			Offered: &offered, Answered: &answered, Who: "bot", Reason: "hangup", Result: "escalate", Target: "agents",
		},
		toBot:    harness.Result{Matched: 300, MissingFront: 15, Fills: 4},
		toCaller: harness.Result{Matched: 300},
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*performance)
		want  string // part of the only reason; empty: nothing is wrong
	}{
		{"all is well", func(*performance) {}, ""},
		{"the bot's first packet overtook the answer", func(p *performance) {
			p.toCaller.MissingFront, p.record.ToIngress.Drops = 1, map[string]uint64{"from_rtp_not_open": 1}
		}, ""},
		{"the bot's first packet is gone", func(p *performance) { p.toCaller.MissingFront = 1 }, "first 20ms"},
		{"more missing than was said before the answer", func(p *performance) { p.toBot.MissingFront = 18 }, "first 360ms"},
		{"lost", func(p *performance) { p.toBot.MissingMiddle = 1 }, "did not reach the bot whole"},
		{"foreign", func(p *performance) { p.toCaller.Extra = 1 }, "did not reach the caller whole"},
		{"cut off", func(p *performance) { p.toCaller.MissingEnd = 2 }, "last 2 frames"},
		{"silence", func(p *performance) { p.toCaller = harness.Result{MissingFront: 300} }, "did not reach the caller whole"},
		{"a key too few", func(p *performance) { p.bot.Calls[0].Digits = "4271" }, `the bot got "4271"`},
		{"another outcome", func(p *performance) { p.caller.Outcome = "ok" }, `told "ok"`},
		{"another record", func(p *performance) { p.record.Target = "sales" }, "the call record says escalate → sales"},
		{"no call", func(p *performance) { p.bot.Calls = nil }, "0 calls"},
		{"a breach of SIP", func(p *performance) { p.bot.Calls[0].Violations = []string{"two BYE"} }, "two BYE"},
		{"a program left", func(p *performance) { p.fault("processes [7] are left") }, "[7]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := good()
			test.spoil(p)
			reasons := p.wrong()
			if test.want == "" && len(reasons) > 0 || test.want != "" && (len(reasons) != 1 || !strings.Contains(reasons[0], test.want)) {
				t.Errorf("reasons %q, want %q", reasons, test.want)
			}
		})
	}
}

func TestStalled(t *testing.T) {
	p := good()
	if p.stalled() {
		t.Error("a call without delay")
	}
	p.record.ToEgress.DelayToLeave.Max = 400
	if !p.stalled() {
		t.Error("a frame that was 400 ms under way")
	}
}

// Every port of the demo's file is one of those that are changed.
func TestConfiguration(t *testing.T) {
	t.Chdir("../..")
	text, err := configuration(t.Context(), "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	for _, fixed := range []string{":8443", ":8080", ":15060", ":5070"} {
		if strings.Contains(text, fixed) {
			t.Errorf("%s is still there:\n%s", fixed, text)
		}
	}
	if !strings.Contains(text, `"sip:127.0.0.1:9"`) {
		t.Error("the bot's address is not there")
	}
}
