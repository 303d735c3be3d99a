package main

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const sampleToken = "eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6ImNzLWRlbW8ifQ.c2lnbmF0dXJl"

func TestParseStreamQuery(t *testing.T) {
	good := streamRequest{Token: "tok", Number: "+17345551234", Bot: "st-1", Account: "acc"}
	tests := []struct {
		name, query string
		want        streamRequest
		problems    []string
	}{
		{"platform's order", "sipuri=%2B17345551234&token=tok&botId=st-1&accountId=acc&agentassist=false", good, nil},
		{"flow's order", "accountId=acc&sipuri=%2B17345551234&agentassist=false&token=tok&botId=st-1", good, nil},
		{"bare plus", "sipuri=+17345551234&token=tok&botId=st-1&accountId=acc", good, nil},
		{"no plus", "sipuri=17345551234&token=tok&botId=st-1&accountId=acc", good, nil},
		{"written for people", "sipuri=%2B1%20(734)%20555-1234&token=tok&botId=st-1&accountId=acc", good, nil},
		{"tel", "sipuri=tel:%2B17345551234&token=tok&botId=st-1&accountId=acc", good, nil},
		{"case of keys", "SIPURI=%2B17345551234&Token=tok&botid=st-1&ACCOUNTID=acc&AgentAssist=FALSE", good, nil},
		{"first of two wins", "sipuri=%2B17345551234&sipuri=%2B1999&token=tok&TOKEN=x&botId=st-1&accountId=acc", good, nil},
		{"wrapped by copy-paste", "sipuri=%2B17345551234&token=to%0D%0A%20k&botId=%20st-1+&accountId=a%0Acc", good, nil},
		{"empty pairs", "&&sipuri=%2B17345551234&token=tok&botId=st-1&accountId=acc&", good, nil},
		{
			"unknown kept", "sipuri=%2B17345551234&token=tok&botId=st-1&accountId=acc&Lang=de&x=%26",
			streamRequest{Token: "tok", Number: "+17345551234", Bot: "st-1", Account: "acc", Parameters: map[string]string{"Lang": "de", "x": "&"}},
			nil,
		},
		{
			"monitor", "sipuri=%2B17345551234&token=tok&botId=st-1&accountId=acc&agentassist=true",
			streamRequest{Token: "tok", Number: "+17345551234", Bot: "st-1", Account: "acc", Monitor: true},
			nil,
		},
		{"nothing", "", streamRequest{}, []string{
			"!sipuri is missing: give the bot's number, + as %2B", "token is missing", "botId is missing", "accountId is missing",
		}},
		{"broken escapes", "sipuri=%2B17345551234&token=t%ZZ&botId=%&accountId=acc", streamRequest{Number: "+17345551234", Account: "acc"}, []string{
			"!token has a broken escape: write % as %25", "!botId has a broken escape: write % as %25", "token is missing", "botId is missing",
		}},
		{"not utf-8", "sipuri=%2B17345551234&token=tok&botId=st-1&accountId=%FF", streamRequest{Token: "tok", Number: "+17345551234", Bot: "st-1"}, []string{
			"!accountId is not UTF-8", "accountId is missing",
		}},
		{"sip uri", "sipuri=sip:bot@example.com&token=tok&botId=st-1&accountId=acc", streamRequest{Token: "tok", Bot: "st-1", Account: "acc"}, []string{
			"!sipuri is an address: give a telephone number, not a sip: URI",
		}},
		{"too short", "sipuri=12&token=tok&botId=st-1&accountId=acc", streamRequest{Token: "tok", Bot: "st-1", Account: "acc"}, []string{"!sipuri has fewer than 3 digits"}},
		{"too long", "sipuri=1234567890123456&token=tok&botId=st-1&accountId=acc", streamRequest{Token: "tok", Bot: "st-1", Account: "acc"}, []string{"!sipuri has more than 15 digits"}},
		{"letters", "sipuri=1800BOT&token=tok&botId=st-1&accountId=acc", streamRequest{Token: "tok", Bot: "st-1", Account: "acc"}, []string{"!sipuri holds a character that no telephone number has"}},
		{"agentassist", "sipuri=123&token=tok&botId=st-1&accountId=acc&agentassist=maybe", streamRequest{Token: "tok", Number: "+123", Bot: "st-1", Account: "acc"}, []string{"!agentassist must be true or false"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := parseStreamQuery(tt.query)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.problems, textsOf(problems)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// textsOf marks what makes a request malformed with "!".
func textsOf(problems []urlProblem) []string {
	var out []string
	for _, p := range problems {
		if p.Malformed {
			p.Text = "!" + p.Text
		}
		out = append(out, p.Text)
	}
	return out
}

func TestParseStreamQueryLimits(t *testing.T) {
	base := "sipuri=%2B17345551234&token=tok&botId=st-1&accountId=acc"
	for name, query := range map[string]string{
		"length":     base + "&x=" + strings.Repeat("a", maxURLBytes),
		"value":      base + "&x=" + strings.Repeat("a", maxValueBytes+1),
		"key":        base + "&" + strings.Repeat("k", maxKeyBytes+1) + "=1",
		"parameters": base + strings.Repeat("&x=1", maxParameters),
	} {
		_, problems := parseStreamQuery(query)
		if len(problems) == 0 || !problems[0].Malformed {
			t.Errorf("%s: not refused: %v", name, problems)
		}
	}
}

func TestBuildStreamURL(t *testing.T) {
	r := streamRequest{Token: "t.o-k_en", Number: "+17345551234", Bot: "st-1", Account: "acc", Parameters: map[string]string{"b": "2 &", "a": "+"}}
	got, err := buildStreamURL("https://voice.example.com/", defaultPath, r)
	if err != nil {
		t.Fatal(err)
	}
	want := "wss://voice.example.com/audiosocket/talkdesk/?sipuri=%2B17345551234&token=t.o-k_en&botId=st-1&accountId=acc&agentassist=false&a=%2B&b=2+%26"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	back, problems, _ := inspectStreamURL(got, defaultPath)
	if diff := cmp.Diff(r, back); diff != "" || len(problems) > 0 {
		t.Errorf("round trip: %s %v", diff, problems)
	}
}

func TestBuildStreamURLRefuses(t *testing.T) {
	good := streamRequest{Token: "tok", Number: "+17345551234", Bot: "st-1", Account: "acc"}
	for name, change := range map[string]func(*streamRequest, *string){
		"base":      func(_ *streamRequest, b *string) { *b = "voice.example.com" },
		"scheme":    func(_ *streamRequest, b *string) { *b = "ftp://voice.example.com" },
		"query":     func(_ *streamRequest, b *string) { *b = "wss://voice.example.com/?a=1" },
		"number":    func(r *streamRequest, _ *string) { r.Number = "bot" },
		"token":     func(r *streamRequest, _ *string) { r.Token = "a b" },
		"reserved":  func(r *streamRequest, _ *string) { r.Parameters = map[string]string{"BOTID": "x"} },
		"twice":     func(r *streamRequest, _ *string) { r.Parameters = map[string]string{"a": "1", "A": "2"} },
		"too long":  func(r *streamRequest, _ *string) { r.Token = strings.Repeat("x", maxValueBytes+1) },
		"not utf-8": func(r *streamRequest, _ *string) { r.Account = "\xff" },
	} {
		r, base := good, "wss://voice.example.com"
		change(&r, &base)
		if got, err := buildStreamURL(base, defaultPath, r); err == nil {
			t.Errorf("%s: accepted as %s", name, got)
		}
	}
}

func TestInspectStreamURL(t *testing.T) {
	raw := "\n ws://voice.example.com/audio?sipuri=+1734555\r\n1234&token=" + sampleToken + "&botId=st-1&accountId=acc#x"
	r, problems, masked := inspectStreamURL(raw, defaultPath)
	if r.Number != "+17345551234" || r.Token != sampleToken {
		t.Errorf("got %+v", r)
	}
	want := []string{
		"everything behind # is not sent: write # as %23",
		"the scheme is ws: the platform dials wss only",
		"the path does not end in /audiosocket/talkdesk",
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(masked, "eyJ") || !strings.Contains(masked, "token=***") {
		t.Errorf("masked: %s", masked)
	}
}

func TestMaskURL(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"/p/?sipuri=1&token=secret&botId=b", "/p/?sipuri=1&token=***&botId=b"},
		{"/p?TOKEN=secret", "/p?TOKEN=***"},
		{"/p?%74oken=secret", "/p?%74oken=***"},
		{"/p?+token+=secret%ZZ", "/p?+token+=***"},
		{"/p?a=b;token=secret", "/p?a=b;token=***"},
		{"/p?token?token=secret", "/p?token?token=***"},
		{"wss://user:secret@host/p?a=b", "wss://***@host/p?a=b"},
		{"/p?x=" + sampleToken + "&y=1", "/p?x=***&y=1"},
		{"/p?token%3D" + sampleToken, "/p?token%3D***"},
		{"", ""},
	} {
		if got := maskURL(tt.in); got != tt.want {
			t.Errorf("mask %s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

// FuzzStreamURL: what buildStreamURL makes, parseStreamQuery takes apart to the
// same request, and no masked form shows the token.
func FuzzStreamURL(f *testing.F) {
	f.Add("+17345551234", sampleToken, "st-1", "acc", true, "lang", "d e+%&=#?")
	f.Add("123", "t", "", "é", false, "", "")
	f.Fuzz(func(t *testing.T, number, token, bot, account string, monitor bool, key, value string) {
		r := streamRequest{Token: token, Number: number, Bot: bot, Account: account, Monitor: monitor}
		if key != "" {
			r.Parameters = map[string]string{key: value}
		}
		built, err := buildStreamURL("wss://voice.example.com", defaultPath, r)
		if err != nil {
			return
		}
		if r.Number, err = canonicalNumber(number); err != nil {
			t.Fatalf("built with the number %q: %v", number, err)
		}
		u, err := url.Parse(built)
		if err != nil {
			t.Fatalf("built no URL: %v", err)
		}
		got, problems := parseStreamQuery(u.RawQuery)
		if diff := cmp.Diff(r, got); diff != "" {
			t.Fatalf("%s: %s", built, diff)
		}
		for _, p := range problems {
			if p.Malformed {
				t.Fatalf("%s: %s", built, p.Text)
			}
		}
		masked := maskURL(built)
		if strings.Contains(masked, "token="+url.QueryEscape(token)) && token != "" && token != maskedToken {
			t.Fatalf("the token shows in %s", masked)
		}
	})
}

// FuzzStreamQuery: whatever arrives, what is handed on keeps to its limits.
func FuzzStreamQuery(f *testing.F) {
	f.Add("sipuri=+17345551234&token=tok&botId=st-1&accountId=acc&agentassist=false&x=%2")
	f.Fuzz(func(t *testing.T, raw string) {
		r, problems := parseStreamQuery(raw)
		if len(r.Parameters) > maxParameters {
			t.Fatalf("%d parameters", len(r.Parameters))
		}
		if r.Number == "" && len(problems) == 0 {
			t.Fatal("no number and no problem")
		}
		if r.Number != "" {
			again, err := canonicalNumber(r.Number)
			if err != nil || again != r.Number {
				t.Fatalf("number %q is not canonical: %q %v", r.Number, again, err)
			}
		}
		for key, value := range r.Parameters {
			if strings.EqualFold(key, parameterToken) {
				t.Fatal("the token is among the parameters")
			}
			if !utf8.ValidString(key) || !utf8.ValidString(value) {
				t.Fatalf("%q=%q is not UTF-8", key, value)
			}
		}
	})
}
