package e2e

import (
	"net/url"
	"strings"
	"testing"

	"github.com/patchbay/patchbay/configs/e2e/stage"
)

// change takes a stream URL apart, lets edit change it, and puts it together again.
func change(t *testing.T, raw string, edit func(u *url.URL, q url.Values)) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	edit(u, q)
	u.RawQuery = q.Encode()
	return u.String()
}

// Every refusal has its status, before the upgrade, and the bot never hears of it.
func TestRefusals(t *testing.T) {
	b := bot(t, "--hangup-on-dtmf", endKey)
	w := start(t, settings{numbers: number(0) + `", "+17349`, trunks: []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}})
	good := w.url(t, 0)
	t.Run("calls", func(t *testing.T) {
		for _, test := range []struct {
			name, outcome string
			edit          func(u *url.URL, q url.Values)
		}{
			{"no token", "refused 401", func(_ *url.URL, q url.Values) { q.Del("token") }},
			{"wrong signature", "refused 401", func(_ *url.URL, q url.Values) {
				head, _, _ := cutLast(q.Get("token"))
				q.Set("token", head+"."+strings.Repeat("A", 43))
			}},
			{"garbage for a token", "refused 401", func(_ *url.URL, q url.Values) { q.Set("token", "garbage") }},
			{"another number than the token's", "refused 403", func(_ *url.URL, q url.Values) { q.Set("sipuri", "+17349") }},
			{"another bot than the token's", "refused 403", func(_ *url.URL, q url.Values) { q.Set("botId", "st-other") }},
			{"no number", "refused 400", func(_ *url.URL, q url.Values) { q.Del("sipuri") }},
			{"impossible number", "refused 400", func(_ *url.URL, q url.Values) { q.Set("sipuri", "call me") }},
			{"wrong path", "refused 404", func(u *url.URL, _ url.Values) { u.Path = "/elsewhere" }},
			{"agent assist", "refused 501", func(_ *url.URL, q url.Values) { q.Set("agentassist", "true") }},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				expectRefusal(t, change(t, good, test.edit), test.outcome)
			})
		}
		t.Run("forbidden number", func(t *testing.T) {
			t.Parallel()
			expectRefusal(t, w.urlOf(t, "+19005550100"), "refused 403")
		})
		t.Run("no route", func(t *testing.T) {
			t.Parallel()
			expectRefusal(t, w.urlOf(t, "+17349"), "refused 404")
		})
	})
	if told := account(t, b); len(told.Calls) != 0 {
		t.Errorf("the bot got %d calls", len(told.Calls))
	}
	if n, err := w.metric(within(t), "patchbay_calls_admitted_total"); err != nil || n != 0 {
		t.Errorf("%v calls were admitted (%v)", n, err)
	}
}

func cutLast(token string) (head, tail string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

func expectRefusal(t *testing.T, url, outcome string) *stage.CallerReport {
	t.Helper()
	r := call(t, url)
	if r.Outcome != outcome {
		t.Errorf("%s (%s), want %s", r.Outcome, r.Refusal, outcome)
	}
	return r
}

// A full node says 503, an app over its share 429, both with Retry-After; the running call goes on, and its end makes
// room.
func TestFull(t *testing.T) {
	for _, test := range []struct {
		name    string
		limits  settings
		outcome string
	}{
		{"node", settings{maxCalls: 1}, "refused 503"},
		{"app", settings{appCalls: 1}, "refused 429"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := bot(t)
			test.limits.trunks = []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}
			w := start(t, test.limits)
			u := w.url(t, 0)
			first := dial(t, u)
			w.talking(t)
			if r := expectRefusal(t, u, test.outcome); r.RetryAfter == "" {
				t.Error("no Retry-After")
			}
			w.hangupAll(t)
			if r := report(t, first); r.Outcome != "error" {
				t.Errorf("the call that was hung up by the operator: %q", r.Outcome)
			}
			w.records(t, 1)
			again := dial(t, u)
			w.talking(t)
			w.hangupAll(t)
			report(t, again)
			if told := account(t, b); len(told.Calls) != 2 {
				t.Errorf("the bot got %d calls, want the two that were let in", len(told.Calls))
			}
		})
	}
}
