package sim

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// newSession is a call without a connection, for what arrives.
func newSession(tb testing.TB, o Options) *session {
	tb.Helper()
	o.URL, o.StreamSID, o.CallSID = testURL, "S", "C"
	if err := o.fill(); err != nil {
		tb.Fatal(err)
	}
	return &session{
		opt: &o, report: &Report{}, pacer: newPacer(&o), player: newPlayer(&o), gate: newGate(), started: time.Now(), writeFailed: true,
	}
}

func (s *session) rules() []Rule {
	rules := []Rule{}
	for _, v := range s.report.Violations {
		rules = append(rules, v.Rule)
	}
	return rules
}

func TestViolations(t *testing.T) {
	media := func(payload string) string {
		return `{"event":"media","streamSid":"S","media":{"payload":"` + payload + `"}}`
	}
	stop := func(inner string) string { return `{"event":"stop","streamSid":"S","stop":{` + inner + `}}` }
	ok := stop(resultOK)
	tests := map[string]struct {
		messages []string
		want     []Rule
	}{
		"none": {[]string{
			media("/////w=="), `{"event":"mark","streamSid":"S","mark":{"name":"m"}}`, `{"event":"clear","streamSid":"S"}`,
			`{"event":"media","streamSid":"S","sequenceNumber":"12","media":{"payload":"AA==","track":"outbound","chunk":"1","timestamp":"1"}}`,
			`{"event":"stop","sequenceNumber":"1","streamSid":"S","stop":{"accountSid":"` + defaultAccount + `","callSid":"C","command":"escalate","ringGroup":"` + strings.Repeat("ü", 255) + `"}}`,
		}, []Rule{}},
		"not JSON":              {[]string{"hello", "", `{"event":"media"`, "\xff"}, []Rule{RuleJSON, RuleJSON, RuleJSON, RuleJSON, RuleJSON}},
		"not an object":         {[]string{"[]", "7", `"media"`}, []Rule{RuleJSON, RuleJSON, RuleJSON}},
		"no event":              {[]string{"{}", "null", `{"event":null}`}, []Rule{RuleEvent, RuleEvent, RuleEvent}},
		"event of another type": {[]string{`{"event":7}`}, []Rule{RuleType}},
		"unknown event":         {[]string{`{"event":"dtmf","streamSid":"S"}`, `{"event":"connected"}`}, []Rule{RuleEvent, RuleEvent}},
		"keys in another case": {[]string{
			`{"Event":"clear","streamSid":"S"}`, `{"event":"clear","streamsid":"S"}`, `{"event":"media","streamSid":"S","media":{"Payload":"AA=="}}`,
			stop(`"Command":"ok"`),
		}, []Rule{RuleKey, RuleKey, RuleKey, RuleKey}},
		"no stream": {[]string{`{"event":"clear"}`, `{"event":"media","media":{"payload":"AA=="}}`, `{"event":"stop","stop":{"command":"ok"}}`}, []Rule{
			RuleStreamSID, RuleStreamSID, RuleStreamSID,
		}},
		"another stream":          {[]string{`{"event":"clear","streamSid":"T"}`}, []Rule{RuleStreamSID}},
		"stream of another type":  {[]string{`{"event":"clear","streamSid":7}`}, []Rule{RuleType}},
		"payload missing":         {[]string{`{"event":"media","streamSid":"S"}`, `{"event":"media","streamSid":"S","media":{}}`}, []Rule{RulePayload, RulePayload}},
		"payload not base64":      {[]string{media("A"), media("AA"), media("AA=!"), media("_-8="), media("AB==")}, []Rule{RulePayload, RulePayload, RulePayload, RulePayload, RulePayload}},
		"payload empty":           {[]string{media("")}, []Rule{RulePayload}},
		"payload with a header":   {[]string{media(base64.StdEncoding.EncodeToString([]byte("RIFF....WAVE")))}, []Rule{RulePayload}},
		"mark without name":       {[]string{`{"event":"mark","streamSid":"S"}`, `{"event":"mark","streamSid":"S","mark":{"name":""}}`}, []Rule{RuleMark, RuleMark}},
		"number is not a string":  {[]string{`{"event":"clear","streamSid":"S","sequenceNumber":1}`, `{"event":"clear","streamSid":"S","sequenceNumber":"x"}`}, []Rule{RuleType, RuleType}},
		"bare stop":               {[]string{`{"event":"stop","streamSid":"S"}`}, []Rule{RuleCommand}},
		"unknown command":         {[]string{stop(`"command":"OK"`)}, []Rule{RuleCommand}},
		"escalation to nobody":    {[]string{stop(`"command":"escalate"`)}, []Rule{RuleRingGroup}},
		"ring group too long":     {[]string{stop(`"command":"escalate","ringGroup":"` + strings.Repeat("x", 256) + `"`)}, []Rule{RuleRingGroup}},
		"ring group not a string": {[]string{stop(`"command":"ok","ringGroup":[]`)}, []Rule{RuleType}},
		"other call":              {[]string{stop(resultOK + `,"callSid":"D","accountSid":"E"`)}, []Rule{RuleStreamSID, RuleStreamSID}},
		"second stop":             {[]string{ok, ok}, []Rule{RuleSecondStop}},
		"after stop":              {[]string{ok, media("AA=="), `{"event":"clear","streamSid":"S"}`, "{"}, []Rule{RuleAfterStop, RuleAfterStop, RuleJSON}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, Options{})
			for _, m := range tt.messages {
				if err := s.handle(arrival{at: time.Now(), kind: websocket.TextMessage, data: []byte(m)}); err != nil && !strings.Contains(m, "clear") {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, s.rules()); diff != "" {
				t.Errorf("rules (-want +got):\n%s\n%v", diff, s.report.Violations)
			}
			if s.report.ViolationCount != len(tt.want) {
				t.Errorf("counted %d", s.report.ViolationCount)
			}
		})
	}
}

func TestViolationsOnTheWire(t *testing.T) {
	tests := map[string]struct {
		opt     Options
		script  func(*gateway)
		want    []Rule
		outcome string
	}{
		"binary frame": {Options{}, func(g *gateway) {
			if err := g.conn.WriteMessage(websocket.BinaryMessage, []byte(`{"event":"stop","streamSid":"`+g.sid+`","stop":{"command":"ok"}}`)); err != nil {
				g.t.Error(err)
			}
		}, []Rule{RuleBinary}, "ok"},
		"message too large": {Options{}, func(g *gateway) {
			_ = g.conn.WriteMessage(websocket.TextMessage, make([]byte, maxMessage+1))
		}, []Rule{RuleFraming}, "dropped"},
		"masked frame": {Options{}, func(g *gateway) {
			if _, err := g.conn.NetConn().Write([]byte{0x81, 0x82, 1, 2, 3, 4, 5, 6}); err != nil {
				g.t.Error(err)
			}
		}, []Rule{RuleFraming}, "dropped"},
		"media after stop": {Options{}, func(g *gateway) {
			g.stop(resultOK)
			time.Sleep(100 * time.Millisecond)
			g.media(ramp(160))
			g.mark("late")
		}, []Rule{RuleAfterStop, RuleAfterStop}, "ok"},
		"stop that crossed ours": {Options{HangupAfter: time.Second, Hangup: HangupStop, CloseWait: time.Second}, func(g *gateway) {
			time.Sleep(1200 * time.Millisecond)
			g.media(ramp(160))
			g.stop(resultOK)
		}, []Rule{}, "hangup"},
		"stop that answers ours": {Options{HangupAfter: time.Second, Hangup: HangupStop, CloseWait: time.Second}, func(g *gateway) {
			time.Sleep(1700 * time.Millisecond)
			g.stop(resultOK)
		}, []Rule{RuleSecondStop}, "hangup"},
		"more than the report holds": {Options{}, func(g *gateway) {
			for range maxViolations + 50 {
				g.send("x")
			}
			g.stop(resultOK)
		}, nil, "ok"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g gateway
				r, err := call(t, tt.opt, serve(t, &g, tt.script))
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == nil {
					if len(r.Violations) != maxViolations || r.ViolationCount != maxViolations+50 {
						t.Errorf("%d of %d violations kept", len(r.Violations), r.ViolationCount)
					}
				} else if diff := cmp.Diff(tt.want, (&session{report: &r}).rules()); diff != "" {
					t.Errorf("rules (-want +got):\n%s\n%v", diff, r.Violations)
				}
				if r.Outcome != tt.outcome || r.Failed() != (r.ViolationCount > 0 || tt.outcome == "dropped") {
					t.Errorf("outcome %q, failed %v", r.Outcome, r.Failed())
				}
			})
		})
	}
}

// FuzzHandle checks that a message is either found at fault or, judged by a second look at its JSON, one that the protocol knows,
// and that what was taken in adds up.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"event":"media","streamSid":"S","media":{"payload":"/////w=="}}`, `{"event":"mark","streamSid":"S","mark":{"name":"m"}}`,
		`{"event":"clear","streamSid":"S"}`, `{"event":"stop","streamSid":"S","stop":{"command":"escalate","ringGroup":"agents"}}`,
		`{"event":"stop"}`, `{"event":"x"}`, `[`, `{"EVENT":"clear","streamsid":"S"}`, `{"event":"media","streamSid":"S","media":{"payload":"AB=="}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := newSession(t, Options{MaxAudio: 1000})
		for range 2 {
			// The only error there is comes from the missing connection.
			_ = s.handle(arrival{at: time.Now(), kind: websocket.TextMessage, data: raw})
		}
		r := s.report
		if r.Stop != nil && r.ViolationCount == 0 {
			t.Errorf("a repeated stop passed")
		}
		if r.ViolationCount == 0 {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Fatalf("passed %q: %v", raw, err)
			}
			if r.FramesReceived+r.Marks+r.Clears != 2 {
				t.Errorf("passed %q without taking it in", raw)
			}
		}
		if int64(len(r.Received)) != min(r.BytesReceived, 1000) || s.player.end-s.player.prebuffer < int(r.BytesReceived)-1 && r.BytesReceived > 0 {
			t.Errorf("%d bytes received, %d kept, line ends at %d", r.BytesReceived, len(r.Received), s.player.end)
		}
	})
}
