package sdk

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// The numbers of the Go enums are the proto's.
func TestEnumsAgree(t *testing.T) {
	for got, want := range map[string]string{
		Caller.String():        pluginv1.Who(Caller).String(),
		Bot.String():           pluginv1.Who(Bot).String(),
		Platform.String():      pluginv1.Who(Platform).String(),
		Plugin.String():        pluginv1.Who(Plugin).String(),
		GatewayItself.String(): pluginv1.Who(GatewayItself).String(),
	} {
		if "WHO_"+upper(got) != want {
			t.Errorf("%s is the proto's %s", got, want)
		}
	}
	for r := ReasonUnknown + 1; r <= ReasonLost; r++ {
		if want := pluginv1.Reason(r).String(); "REASON_"+upper(r.String()) != want {
			t.Errorf("%s is the proto's %s", r, want)
		}
	}
	for r := RefusedMalformed; r <= RefusedDraining; r++ {
		if want := pluginv1.RefusedReason(r).String(); "REFUSED_REASON_"+upper(r.String()) != want {
			t.Errorf("%s is the proto's %s", r, want)
		}
	}
	if Who(99).String() != "gateway" || Reason(99).String() != "lost" || RefusalReason(99).String() != "unknown" || RefusalReason(-1).String() != "unknown" {
		t.Error("a number out of range has no word")
	}
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 32
		}
	}
	return string(b)
}

func TestTermination(t *testing.T) {
	full := Termination{Who: Bot, Reason: ReasonHangup, Q850: 16, SIP: 200, Detail: "bye"}
	if got := full.String(); got != "bot hangup q850=16 sip=200: bye" {
		t.Errorf("reads %q", got)
	}
	if got := (Termination{}).String(); got != "unknown unknown" {
		t.Errorf("reads %q", got)
	}
	if got := TerminationFromProto(full.ToProto()); got != full {
		t.Errorf("there and back: %v", got)
	}
	if got := TerminationFromProto(&pluginv1.Termination{Who: 99, Reason: -1, Q850: 3}); got != (Termination{Q850: 3}) {
		t.Errorf("a newer version's words: %v", got)
	}
	if got := (Termination{Q850: -1, SIP: -1}).ToProto(); got.GetQ850() != 0 || got.GetSip() != 0 {
		t.Errorf("negative codes: %v", got)
	}
}

func TestHangupCauseOfContexts(t *testing.T) {
	why := Termination{Who: Caller, Reason: ReasonHangup}
	ctx, hangup := WithHangup(t.Context())
	hangup(why)
	if got := HangupCause(ctx); got != why {
		t.Errorf("cause %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := HangupCause(ctx); got.Who != GatewayItself || got.Reason != ReasonLost {
		t.Errorf("cause of a bare context %v", got)
	}
}

func TestStreamThereAndBack(t *testing.T) {
	want := Stream{Role: RoleAgent, Direction: RecvOnly, Codec: "PCMA", ClockRate: 8000, Ptime: 20 * time.Millisecond}
	if diff := cmp.Diff(want, StreamFromProto(want.ToProto(5))); diff != "" {
		t.Errorf("there and back:\n%s", diff)
	}
}

func TestDigit(t *testing.T) {
	for _, tc := range []struct {
		f      Frame
		digit  byte
		length time.Duration
		ok     bool
	}{
		{Frame{Kind: DTMF, Payload: DTMFPayload(nil, '#', 250*time.Millisecond)}, '#', 250 * time.Millisecond, true},
		{Frame{Kind: DTMF, Payload: DTMFPayload(nil, 'D', time.Hour)}, 'D', 65535 * time.Millisecond, true},
		{Frame{Kind: DTMF, Payload: DTMFPayload(nil, '0', -time.Second)}, '0', 0, true},
		{Frame{Kind: DTMF, Payload: []byte("7")}, '7', 0, true},
		{Frame{Kind: DTMF, Payload: []byte("7x")}, '7', 0, true},
		{Frame{Kind: DTMF, Payload: []byte("E12")}, 0, 0, false},
		{Frame{Kind: DTMF}, 0, 0, false},
		{Frame{Kind: Audio, Payload: []byte("712")}, 0, 0, false},
	} {
		if digit, length, ok := tc.f.Digit(); digit != tc.digit || length != tc.length || ok != tc.ok {
			t.Errorf("%+v: %q, %v, %v", tc.f, digit, length, ok)
		}
	}
}
