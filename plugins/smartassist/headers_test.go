package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/sdk"
)

func TestClassifyBye(t *testing.T) {
	t.Parallel()
	hangup := sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 16, Detail: "bye"}
	tests := map[string]struct {
		headers []sdk.Header
		want    sdk.Termination
	}{
		"nothing":     {nil, hangup},
		"documented":  {[]sdk.Header{{Name: "kore-reason", Value: "TransferToAgent"}}, sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonTransfer, Q850: 16, Detail: "bye: transfertoagent"}},
		"as a custom": {[]sdk.Header{{Name: "X-Kore-Reason", Value: " transfer"}}, sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonTransfer, Q850: 16, Detail: "bye: transfer"}},
		"underscored": {[]sdk.Header{{Name: "Kore_Reason", Value: "HangUp"}}, hangup},
		"q850":        {[]sdk.Header{{Name: "Reason", Value: `Q.850;cause=31;text="a;cause=9"`}}, sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 31, Detail: "bye"}},
		"sip failure": {[]sdk.Header{{Name: "Reason", Value: `SIP ; cause=503`}}, sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonFailed, SIP: 503, Detail: "bye"}},
		"both":        {[]sdk.Header{{Name: "Reason", Value: `SIP;cause=200, Q.850;cause=16`}}, sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 16, SIP: 200, Detail: "bye"}},
		"nonsense":    {[]sdk.Header{{Name: "Reason", Value: `;;cause=;"`}}, hangup},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, classifyBye(tt.headers)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUsableHeader(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header sdk.Header
		usable bool
	}{
		"custom":           {sdk.Header{Name: "X-ExternalCallId", Value: "1 2"}, true},
		"user to user":     {sdk.Header{Name: "User-to-User", Value: "00;encoding=hex"}, true},
		"injection":        {sdk.Header{Name: "X-A", Value: "b\r\nVia: c"}, false},
		"injected name":    {sdk.Header{Name: "X-A: b\r\nVia", Value: "c"}, false},
		"no name":          {sdk.Header{Value: "c"}, false},
		"the call's own":   {sdk.Header{Name: "call-id", Value: "c"}, false},
		"loops at the SBC": {sdk.Header{Name: "X-Application-Sid", Value: "c"}, false},
		"too long":         {sdk.Header{Name: "X-A", Value: string(make([]byte, 513))}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if why := usableHeader(tt.header); (why == "") != tt.usable {
				t.Errorf("%q", why)
			}
		})
	}
}

// FuzzParseReason: what is read is in the range of its protocol, and a header we write reads back.
func FuzzParseReason(f *testing.F) {
	f.Add(`Q.850;cause=16;text="x, SIP;cause=503"`, 16)
	f.Fuzz(func(t *testing.T, value string, cause int) {
		q850, code := parseReason(value)
		if q850 < 0 || q850 > 127 || code != 0 && (code < 200 || code > 699) {
			t.Fatalf("%d and %d", q850, code)
		}
		if cause < 1 || cause > 127 {
			return
		}
		if got, _ := parseReason(reasonHeader(sdk.Termination{Q850: cause}).Value()); got != cause {
			t.Fatalf("wrote %d, read %d", cause, got)
		}
	})
}
