package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/sdk"
)

// allowed are the methods we take inside a dialog, RFC 3261 §20.5.
const allowed = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY, REFER"

// maxHeaderValue keeps one header from filling an INVITE, which must fit a datagram (RFC 3261 §18.1.1).
const maxHeaderValue = 512

// ownHeader names what a route's templates must not set: what makes the message, and what the bot's SBC keeps for
// itself (a request that brings X-Application-Sid is answered 482).
func ownHeader(lower string) bool {
	switch lower {
	case "via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "contact", "m", "max-forwards", "route", "record-route",
		"content-length", "l", "content-type", "c", "content-encoding", "e", "allow", "supported", "k", "require", "proxy-require",
		"authorization", "proxy-authorization", "user-agent", "x-application-sid", "x-account-sid", "x-cid":
		return true
	}
	return false
}

// usableHeader says why a header may not go into a request; "" when it may.
func usableHeader(h sdk.Header) string {
	switch {
	case !isToken(h.Name):
		return "its name is no SIP token"
	case ownHeader(strings.ToLower(h.Name)):
		return "it is written by the gateway itself"
	case len(h.Value) > maxHeaderValue:
		return "its value is over " + strconv.Itoa(maxHeaderValue) + " bytes"
	}
	for _, c := range []byte(h.Value) {
		if c < 0x20 || c == 0x7f {
			return "its value holds a control character"
		}
	}
	return ""
}

// isToken checks RFC 3261 §25.1 token.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && !strings.ContainsRune("-.!%*_+`'~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// passedOn picks the headers of a BYE, REFER or answer that say something about the call, in order: all but those that
// carry the message itself.
func passedOn(headers []sip.Header) []sdk.Header {
	var out []sdk.Header
	for _, h := range headers {
		switch strings.ToLower(h.Name()) {
		case "via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "max-forwards", "content-length", "l", "route", "record-route":
			continue
		}
		out = append(out, sdk.Header{Name: h.Name(), Value: h.Value()})
	}
	return out
}

// header is the value of the first header of that name, compared without case.
func header(headers []sdk.Header, name string) string {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// normalName makes kore-reason, X-Kore-Reason and Kore_Reason one name: the spelling on the wire is not documented.
func normalName(s string) string {
	s = strings.TrimPrefix(strings.ToLower(s), "x-")
	return strings.NewReplacer("-", "", "_", "").Replace(s)
}

// classifyBye says what the bot's BYE means as far as its headers tell.
func classifyBye(headers []sdk.Header) sdk.Termination {
	t := sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 16, Detail: "bye"}
	for _, h := range headers {
		switch strings.ToLower(h.Name) {
		case "reason":
			if q850, sipCode := parseReason(h.Value); q850 > 0 || sipCode > 0 {
				t.Q850, t.SIP = q850, sipCode
			}
			continue
		}
		if normalName(h.Name) != "korereason" {
			continue
		}
		value := strings.ToLower(strings.TrimSpace(h.Value))
		if strings.HasPrefix(value, "transfer") {
			t.Reason, t.Detail = sdk.ReasonTransfer, "bye: "+value
		}
	}
	if t.Reason == sdk.ReasonHangup && t.SIP >= 400 {
		t.Reason = sdk.ReasonFailed
	}
	return t
}

// parseReason reads RFC 3326: Reason: Q.850;cause=16;text="x", SIP;cause=503. 0 where a protocol is not named.
func parseReason(value string) (q850, sipCode int) {
	for _, one := range splitUnquoted(value, ',') {
		parts := splitUnquoted(one, ';')
		protocol := strings.TrimSpace(parts[0])
		for _, p := range parts[1:] {
			name, v, _ := strings.Cut(strings.TrimSpace(p), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "cause") {
				continue
			}
			n, err := strconv.Atoi(strings.TrimSpace(v))
			switch {
			case err != nil:
			case strings.EqualFold(protocol, "Q.850") && n > 0 && n < 128:
				q850 = n
			case strings.EqualFold(protocol, "SIP") && n >= 200 && n < 700:
				sipCode = n
			}
		}
	}
	return q850, sipCode
}

// splitUnquoted splits at sep outside of quoted strings. It returns at least one part.
func splitUnquoted(s string, sep byte) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// reasonHeader writes RFC 3326's header for a leg the gateway ends.
func reasonHeader(t sdk.Termination) sip.Header {
	if t.SIP >= 400 && t.Q850 == 0 {
		return sip.NewHeader("Reason", fmt.Sprintf("SIP;cause=%d;text=%q", t.SIP, t.Reason.String()))
	}
	cause := t.Q850
	if cause == 0 {
		cause = 16 // normal call clearing
		if t.Reason == sdk.ReasonFailed || t.Reason == sdk.ReasonLost {
			cause = 41 // temporary failure
		}
	}
	return sip.NewHeader("Reason", fmt.Sprintf("Q.850;cause=%d;text=%q", cause, t.Reason.String()))
}

// q850Of maps a SIP failure to a Q.850 cause, RFC 3398 §7.2.4.1.
func q850Of(status int) int {
	switch status {
	case 401, 402, 403, 407, 603:
		return 21
	case 404, 604:
		return 1
	case 405, 501:
		return 63
	case 408:
		return 102
	case 410:
		return 22
	case 480:
		return 18
	case 482, 483:
		return 25
	case 484:
		return 28
	case 486, 600:
		return 17
	case 488, 606:
		return 88
	case 503:
		return 41
	case 504:
		return 102
	}
	return 127
}
