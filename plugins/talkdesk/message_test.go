package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestGoldenMessages reads the sample messages of the protocol reference, each
// beside what is made of it.
func TestGoldenMessages(t *testing.T) {
	samples, err := filepath.Glob("testdata/messages/*.json")
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, sample := range samples {
		t.Run(strings.TrimSuffix(filepath.Base(sample), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(sample)
			if err != nil {
				t.Fatal(err)
			}
			m, err := parseMessage(data)
			got := fmt.Sprintf("%+v\n", m)
			if err != nil {
				got = "malformed\n"
			}
			golden := strings.TrimSuffix(sample, ".json") + ".golden"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseMalformed(t *testing.T) {
	for _, data := range []string{"", "x", "[]", "null", `"start"`, `{"event":null}`, `{"event":""}`, `{}`, `{"event":"media"`, "{\"event\":\"a\nb\"}", "\xff"} {
		if _, err := parseMessage([]byte(data)); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestMediaFormat(t *testing.T) {
	for _, f := range []mediaFormat{
		{}, {"audio/x-mulaw", "8000", "1"}, {"AUDIO/PCMU", "8000.0", ""}, {"mulaw", "", "1"}, {"ulaw", "8e3", ""}, {"audio/basic", "", ""},
	} {
		if !f.supported() {
			t.Errorf("%v is refused", f)
		}
	}
	for _, f := range []mediaFormat{{"audio/x-alaw", "8000", "1"}, {"audio/l16", "", ""}, {"mulaw", "16000", ""}, {"mulaw", "8000", "2"}, {"mulaw", "fast", ""}} {
		if f.supported() {
			t.Errorf("%v is accepted", f)
		}
	}
}

func TestScanMedia(t *testing.T) {
	audio := []byte{0xff, 0xef, 0xfb, 0x00, 0x7f}
	std := base64.StdEncoding.EncodeToString(audio)
	for _, tt := range []struct {
		name, data string
		ok         bool
	}{
		{"plain", `{"event":"media","sequenceNumber":"4","streamSid":"S","media":{"track":"inbound","chunk":"3","timestamp":"40","payload":"` + std + `"}}`, true},
		{"numbers", `{"sequenceNumber":0,"streamSid":"s","media":{"payload":"` + std + `","chunk":1,"timestamp":20},"event":"media"}`, true},
		{"spaces", " {\n\"event\" : \"media\" ,\t\"media\" : { \"payload\" : \"" + std + "\" } }\r\n", true},
		{"raw", `{"event":"media","media":{"payload":"` + strings.TrimRight(std, "=") + `"}}`, true},
		{"url safe", `{"event":"media","media":{"payload":"` + base64.RawURLEncoding.EncodeToString(audio) + `"}}`, true},
		{"escaped slash", `{"event":"media","media":{"payload":"` + strings.ReplaceAll(std, "/", `\/`) + `"}}`, true},
		{"escaped line break", `{"event":"media","media":{"payload":"` + std[:4] + `\r\n` + std[4:] + `"}}`, false},
		{"line break", `{"event":"media","media":{"payload":"` + std[:4] + "\n" + std[4:] + `"}}`, false},
		{"unknown key", `{"event":"media","x":1,"media":{"payload":"` + std + `"}}`, false},
		{"payload twice", `{"event":"media","media":{"payload":"` + std + `","payload":""}}`, false},
		{"leading zero", `{"event":"media","sequenceNumber":01,"media":{"payload":"` + std + `"}}`, false},
		{"null", `{"event":"media","sequenceNumber":null,"media":{"payload":"` + std + `"}}`, false},
		{"no payload", `{"event":"media","media":{"track":"inbound"}}`, false},
		{"trailing", `{"event":"media","media":{"payload":"` + std + `"}}{}`, false},
		{"comma", `{"event":"media","media":{"payload":"` + std + `",}}`, false},
		{"other event", `{"event":"mark","media":{"payload":"` + std + `"}}`, false},
		{"cut", `{"event":"media","media":{"payload":"` + std, false},
		{"bad base64", `{"event":"media","media":{"payload":"A"}}`, false},
	} {
		var s mediaScanner
		m, ok := s.scan([]byte(tt.data))
		if ok != tt.ok || ok && !bytes.Equal(m.Audio, audio) {
			t.Errorf("%s: %v %x", tt.name, ok, m.Audio)
		}
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	data := []byte(`{"event":"media","sequenceNumber":"4","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","media":{"track":"inbound","chunk":"3","timestamp":"40","payload":"` + base64.StdEncoding.EncodeToString(make([]byte, frameBytes)) + `"}}`)
	var s mediaScanner
	var l reframer
	e := newEncoder("MZ18ad3ab5a668481ce02b83e7395059f0")
	out := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(100, func() {
		m, ok := s.scan(data)
		if !ok {
			t.Fatal("not accepted")
		}
		l.push(m.Audio)
		for f := l.next(); f != nil; f = l.next() {
			out = e.appendMedia(out[:0], f)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

// FuzzMessage: the scanner agrees with encoding/json on everything it accepts.
func FuzzMessage(f *testing.F) {
	samples, err := filepath.Glob("testdata/messages/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, sample := range samples {
		data, err := os.ReadFile(sample)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("{\"event\":\"media\",\"media\":{\"payload\":\"AAAA\nAAA=\"}}"))
	f.Add([]byte(`{"event":"media","sequenceNumber":7,"media":{"track":"outbound","chunk":"3","timestamp":40,"payload":"-_8 ="}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s mediaScanner
		fast, ok := s.scan(data)
		slow, err := parseMessage(data)
		if !ok {
			return
		}
		if err != nil || slow.Event != eventMedia || slow.Media.BadPayload {
			t.Fatalf("scanner accepts what encoding/json does not: %v %+v", err, slow)
		}
		if fast.Track != slow.Media.Track || fast.Sequence != slow.Media.Sequence || !bytes.Equal(fast.Audio, slow.Media.Audio) {
			t.Fatalf("scanner %+v, encoding/json %+v", fast, slow.Media)
		}
	})
}

// FuzzBase64: whatever the standard library takes in any flavor is decoded alike.
func FuzzBase64(f *testing.F) {
	f.Add([]byte("//79+w=="))
	f.Add([]byte("__79-w"))
	f.Fuzz(func(t *testing.T, src []byte) {
		got, ok := decodeBase64(nil, src, true)
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			want, err := e.DecodeString(string(src))
			if err == nil && (!ok || !bytes.Equal(got, want)) {
				t.Fatalf("%q: got %x %v, want %x", src, got, ok, want)
			}
		}
	})
}

func TestEncode(t *testing.T) {
	e := newEncoder("MZ1\"\\")
	audio := []byte{0, 1, 0xff}
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{e.appendMedia(nil, audio), `{"event":"media","streamSid":"MZ1\"\\","media":{"payload":"AAH/"}}`},
		{e.appendMark(nil, "kore-7\n"), `{"event":"mark","streamSid":"MZ1\"\\","mark":{"name":"kore-7\u000a"}}`},
		{e.appendClear(nil), `{"event":"clear","streamSid":"MZ1\"\\"}`},
		{
			e.appendStop(nil, stopMessage{AccountSid: "A", CallSid: "C", Command: "ok"}),
			`{"event":"stop","sequenceNumber":"1","streamSid":"MZ1\"\\","stop":{"accountSid":"A","callSid":"C","command":"ok"}}`,
		},
		{
			e.appendStop(nil, stopMessage{AccountSid: "A", CallSid: "C", Command: "escalate", RingGroup: "agents"}),
			`{"event":"stop","sequenceNumber":"1","streamSid":"MZ1\"\\","stop":{"accountSid":"A","callSid":"C","command":"escalate","ringGroup":"agents"}}`,
		},
	} {
		if string(tt.got) != tt.want {
			t.Errorf("got  %s\nwant %s", tt.got, tt.want)
		}
	}
	if got := cutRingGroup(strings.Repeat("é", 300)); utf8.RuneCountInString(got) != maxRingGroup {
		t.Errorf("ring group of %d characters", utf8.RuneCountInString(got))
	}
}

// FuzzJSONString: what is written is what encoding/json reads.
func FuzzJSONString(f *testing.F) {
	f.Add("a\"\\\x00\x7f\u2028é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestReframe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r reframer
		var in, out []byte
		next := byte(0)
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			payload := make([]byte, rapid.IntRange(0, 3*maxFIFO/2).Draw(t, "size"))
			for i := range payload {
				payload[i] = next
				next++
			}
			held := len(in) - len(out)
			in = append(in, payload...)
			dropped := r.push(payload)
			if over := held + len(payload) - maxFIFO; (over > 0) != (dropped > 0) || dropped%frameBytes != 0 || dropped >= over+frameBytes && over > 0 {
				t.Fatalf("dropped %d of %d held and %d new", dropped, held, len(payload))
			}
			// What was dropped is the oldest: take it out of what must come.
			in = append(in[:len(out)], in[len(out)+dropped:]...)
			for f := r.next(); f != nil; f = r.next() {
				if len(f) != frameBytes {
					t.Fatalf("a frame of %d bytes", len(f))
				}
				out = append(out, f...)
			}
			if len(in)-len(out) >= frameBytes || !bytes.Equal(out, in[:len(out)]) {
				t.Fatalf("out is not a prefix of in, or %d bytes are held", len(in)-len(out))
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	data := []byte(`{"event":"media","sequenceNumber":"4","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","media":{"track":"inbound","chunk":"3","timestamp":"40","payload":"` + base64.StdEncoding.EncodeToString(make([]byte, frameBytes)) + `"}}`)
	var s mediaScanner
	b.ReportAllocs()
	for b.Loop() {
		s.scan(data)
	}
}

func BenchmarkEncode(b *testing.B) {
	e := newEncoder("MZ18ad3ab5a668481ce02b83e7395059f0")
	audio := make([]byte, frameBytes)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = e.appendMedia(out[:0], audio)
	}
}
