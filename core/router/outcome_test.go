package router

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/sdk"
)

func template(t *testing.T, text string) *config.Template {
	t.Helper()
	tm, err := config.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

// route is one with outcomes of its own, in an order that matters.
func route(t *testing.T) *config.Route {
	t.Helper()
	return &config.Route{
		DefaultTarget: "desk", DefaultResult: "ok",
		Outcomes: []config.Outcome{
			{
				When:   config.When{Header: &config.HeaderMatch{Name: "X-Verdict", Value: "bad"}, Reason: "hangup"},
				Result: "error",
			},
			{
				When:   config.When{Header: &config.HeaderMatch{Name: "X-Queue-Name"}},
				Result: "escalate", Target: template(t, "{{.header}}"),
				Variables: map[string]*config.Template{
					"summary": template(t, "{{.headers.X-Summary}}"),
					"id":      template(t, "{{.interaction_id}}"),
				},
			},
			{When: config.When{Reason: "transfer", Header: &config.HeaderMatch{Name: "X-Fixed"}}, Result: "escalate", Target: template(t, "fixed")},
		},
	}
}

func TestOutcome(t *testing.T) {
	h := func(pairs ...string) (hs []sdk.Header) {
		for pair := range slices.Chunk(pairs, 2) {
			hs = append(hs, sdk.Header{Name: pair[0], Value: pair[1]})
		}
		return hs
	}
	params := map[string]string{"interaction_id": "i-1"}
	id := map[string]string{"id": "i-1"}
	for _, tc := range []struct {
		name    string
		reason  sdk.Reason
		headers []sdk.Header
		target  string
		want    sdk.Finish
	}{
		{"plain hangup", sdk.ReasonHangup, nil, "", sdk.Finish{Result: "ok"}},
		{"hangup with another header", sdk.ReasonHangup, h("X-Other", "1"), "", sdk.Finish{Result: "ok"}},
		{"failed", sdk.ReasonFailed, nil, "", sdk.Finish{Result: "error"}},
		{"lost", sdk.ReasonLost, nil, "", sdk.Finish{Result: "error"}},
		{"unknown", sdk.ReasonUnknown, nil, "", sdk.Finish{Result: "error"}},
		{"a reason of a later version", 99, nil, "", sdk.Finish{Result: "error"}},
		{"transfer", sdk.ReasonTransfer, nil, "sales", sdk.Finish{Result: "escalate", Target: "sales"}},
		{"transfer to nobody", sdk.ReasonTransfer, nil, "", sdk.Finish{Result: "escalate", Target: "desk"}},
		{"a hangup's target counts for nothing", sdk.ReasonHangup, nil, "sales", sdk.Finish{Result: "ok"}},

		{"header present", sdk.ReasonHangup, h("X-Queue-Name", "vip"), "", sdk.Finish{Result: "escalate", Target: "vip", Variables: id}},
		{"header without case", sdk.ReasonLost, h("x-qUEUE-name", "vip"), "", sdk.Finish{Result: "escalate", Target: "vip", Variables: id}},
		{
			"variables of other headers", sdk.ReasonHangup, h("X-Queue-Name", "vip", "x-summary", "angry"), "",
			sdk.Finish{Result: "escalate", Target: "vip", Variables: map[string]string{"id": "i-1", "summary": "angry"}},
		},
		{"own target over the transfer's", sdk.ReasonTransfer, h("X-Queue-Name", "vip"), "sales", sdk.Finish{Result: "escalate", Target: "vip", Variables: id}},
		{"empty header, transfer's target", sdk.ReasonTransfer, h("X-Queue-Name", ""), "sales", sdk.Finish{Result: "escalate", Target: "sales", Variables: id}},
		{"empty header, default target", sdk.ReasonHangup, h("X-Queue-Name", ""), "", sdk.Finish{Result: "escalate", Target: "desk", Variables: id}},

		{"value equal", sdk.ReasonHangup, h("x-verdict", "bad"), "", sdk.Finish{Result: "error"}},
		{"value in another case", sdk.ReasonHangup, h("x-verdict", "BAD"), "", sdk.Finish{Result: "error"}},
		{"value unequal", sdk.ReasonHangup, h("x-verdict", "bad one"), "", sdk.Finish{Result: "ok"}},
		{"second of two headers", sdk.ReasonHangup, h("X-Verdict", "good", "X-Verdict", "bad"), "", sdk.Finish{Result: "error"}},
		{"several keys must all hold", sdk.ReasonTransfer, h("X-Verdict", "bad"), "sales", sdk.Finish{Result: "escalate", Target: "sales"}},
		{"first match wins", sdk.ReasonHangup, h("X-Queue-Name", "vip", "X-Verdict", "bad"), "", sdk.Finish{Result: "error"}},
		{"fixed target", sdk.ReasonTransfer, h("X-Fixed", ""), "sales", sdk.Finish{Result: "escalate", Target: "fixed"}},

		{"target of 255 characters", sdk.ReasonTransfer, nil, strings.Repeat("ü", 255), sdk.Finish{Result: "escalate", Target: strings.Repeat("ü", 255)}},
		{"target over 255 characters", sdk.ReasonTransfer, nil, strings.Repeat("x", 256), sdk.Finish{Result: "escalate", Target: "desk"}},
		{"header over 255 characters", sdk.ReasonHangup, h("X-Queue-Name", strings.Repeat("x", 256)), "", sdk.Finish{Result: "escalate", Target: "desk", Variables: id}},
		{"control characters", sdk.ReasonTransfer, nil, " sa\r\nl\x00e\x7fs\t", sdk.Finish{Result: "escalate", Target: "sales"}},
		{"nothing but control characters", sdk.ReasonTransfer, nil, "\r\n ", sdk.Finish{Result: "escalate", Target: "desk"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			end := &sdk.Ending{Termination: sdk.Termination{Who: sdk.Bot, Reason: tc.reason, Q850: 16}, Headers: tc.headers, Target: tc.target}
			tc.want.Termination = end.Termination
			if diff := cmp.Diff(tc.want, outcome(route(t), end, params)); diff != "" {
				t.Errorf("finish (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOutcomeDefaults(t *testing.T) {
	end := &sdk.Ending{Termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup}}
	got := outcome(&config.Route{DefaultResult: "escalate", DefaultTarget: "agents"}, end, nil)
	if got.Result != sdk.ResultEscalate || got.Target != "agents" {
		t.Errorf("a plain end that means escalation gives %+v", got)
	}
}

func TestCaller(t *testing.T) {
	for in, want := range map[string]string{
		"+17345550100": "+17345550100", "17345550100": "17345550100", "123": "123", "+123456789012345": "+123456789012345",
		"": "", "+": "", "12": "", "1234567890123456": "", "anonymous": "", "+1734x": "", "++1734": "", "+1 734": "", "１２３４": "",
		"+1734\r\nX: y": "",
	} {
		if got := caller(in); got != want {
			t.Errorf("caller(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	stream, request := map[string]string{"a": "stream", "b": "stream"}, map[string]string{"b": "request", "c": "request"}
	got := merge(stream, request)
	if diff := cmp.Diff(map[string]string{"a": "stream", "b": "request", "c": "request"}, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	got["d"] = "x"
	if len(stream) != 2 || len(request) != 2 {
		t.Error("merge writes to its arguments")
	}
	if got := merge(nil, nil); got == nil || len(got) != 0 {
		t.Errorf("nothing merged is %v", got)
	}
}
