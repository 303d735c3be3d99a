package sipmsg

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

const invite = "INVITE sip:+1734@127.0.0.1:5070 SIP/2.0\r\n" +
	"v: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport\r\n" +
	"f: \"A, <B>\" <sip:+1555@gw>;tag=x\r\n" +
	"t: <sip:+1734@127.0.0.1>\r\n" +
	"i: abc\r\n" +
	"CSeq: 7 INVITE\r\n" +
	"Subject: one\r\n two\r\n" +
	"l: 4\r\n\r\nbody"

func TestParse(t *testing.T) {
	got, err := Parse([]byte("\r\n" + invite + "tail"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Message{
		Method: "INVITE", URI: "sip:+1734@127.0.0.1:5070", Body: []byte("body"),
		Headers: []Header{
			{"Via", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport"},
			{"From", "\"A, <B>\" <sip:+1555@gw>;tag=x"},
			{"To", "<sip:+1734@127.0.0.1>"},
			{"Call-ID", "abc"},
			{"CSeq", "7 INVITE"},
			{"Subject", "one two"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("message (-want +got):\n%s", d)
	}
	res := NewResponse(got, 180, "")
	if res.StartLine() != "SIP/2.0 180 Ringing" || len(res.Headers) != 5 {
		t.Errorf("response %q with %d headers", res.StartLine(), len(res.Headers))
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"no end of headers":         {"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n", ErrMalformed},
		"bare line feed":            {"OPTIONS sip:a SIP/2.0\nVia: x\r\n\r\n", ErrMalformed},
		"two spaces":                {"OPTIONS  sip:a SIP/2.0\r\n\r\n", ErrMalformed},
		"other version":             {"OPTIONS sip:a SIP/3.0\r\n\r\n", ErrMalformed},
		"status out of range":       {"SIP/2.0 700 No\r\n\r\n", ErrMalformed},
		"header without colon":      {"SIP/2.0 200 OK\r\nVia\r\n\r\n", ErrMalformed},
		"header name with space":    {"SIP/2.0 200 OK\r\nVia x: y\r\n\r\n", ErrMalformed},
		"continuation first":        {"SIP/2.0 200 OK\r\n x\r\n\r\n", ErrMalformed},
		"nul in value":              {"SIP/2.0 200 OK\r\nVia: a\x00b\r\n\r\n", ErrMalformed},
		"length too long":           {"SIP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nbody", ErrLength},
		"length negative":           {"SIP/2.0 200 OK\r\nContent-Length: -1\r\n\r\n", ErrLength},
		"length given twice":        {"SIP/2.0 200 OK\r\nContent-Length: 1\r\nl: 2\r\n\r\nbody", ErrLength},
		"too many headers":          {"SIP/2.0 200 OK\r\n" + strings.Repeat("A: b\r\n", 300) + "\r\n", ErrTooLarge},
		"over the largest datagram": {strings.Repeat("x", MaxSize+1), ErrTooLarge},
	} {
		if _, err := Parse([]byte(tc.in)); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
	}
}

func TestReader(t *testing.T) {
	pings := 0
	r := NewReader(iotestOneByte{strings.NewReader("\r\n\r\n" + invite + "\r\n\r\n" + "SIP/2.0 200 OK\r\nl: 0\r\n\r\n")})
	r.Ping = func() { pings++ }
	for _, want := range []string{"INVITE sip:+1734@127.0.0.1:5070 SIP/2.0", "SIP/2.0 200 OK"} {
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if m.StartLine() != want {
			t.Errorf("got %q, want %q", m.StartLine(), want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("end of stream: %v", err)
	}
	if pings != 2 {
		t.Errorf("%d keep-alives, want 2", pings)
	}
	for in, want := range map[string]error{
		"SIP/2.0 200 OK\r\n\r\n":                               ErrLength,
		"SIP/2.0 200 OK\r\nl: 9\r\n\r\nbody":                   io.ErrUnexpectedEOF,
		"SIP/2.0 200":                                          io.ErrUnexpectedEOF,
		"SIP/2.0 200 OK\nVia: x\r\n\r\n":                       ErrMalformed,
		"SIP/2.0 200 OK\r\nl: 70000\r\n\r\n":                   ErrTooLarge,
		"SIP/2.0 200 OK\r\nA: " + strings.Repeat("x", MaxSize): ErrTooLarge,
	} {
		if _, err := NewReader(strings.NewReader(in)).Next(); !errors.Is(err, want) {
			t.Errorf("%.40q: error %v, want %v", in, err, want)
		}
	}
}

// iotestOneByte hands out one byte per read, as a slow network may.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func TestFields(t *testing.T) {
	via, err := ParseVia("SIP/2.0/UDP [::1]:5060 ;branch=z9hG4bK1;rport")
	if err != nil || via.Host != "::1" || via.Port != 5060 || via.Branch() != "z9hG4bK1" {
		t.Errorf("via %+v, %v", via, err)
	}
	if got, want := via.String(), "SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1;rport"; got != want {
		t.Errorf("via %q, want %q", got, want)
	}
	a, err := ParseNameAddr(`"x > y" <sip:u@h;lr>;tag=1`)
	if err != nil || a.URI != "sip:u@h;lr" || a.Tag() != "1" || a.Display != "x > y" {
		t.Errorf("address %+v, %v", a, err)
	}
	if a, err = ParseNameAddr("sip:u@h;tag=2"); err != nil || a.URI != "sip:u@h" || a.Tag() != "2" {
		t.Errorf("addr-spec %+v, %v", a, err)
	}
	u, err := ParseURI("sips:user:pw@[2001:db8::1]:5061;transport=tcp?X=y")
	if err != nil || u.User != "user" || u.Host != "2001:db8::1" || u.Port != 5061 {
		t.Errorf("uri %+v, %v", u, err)
	}
	for _, bad := range []string{"tel:+1", "sip:", "sip:a@b:0", "sip:a@b:x"} {
		if _, err := ParseURI(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("uri %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"x INVITE", "-1 INVITE", "2147483648 INVITE", "1", "1 IN VITE"} {
		if _, err := ParseCSeq(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("cseq %q: %v", bad, err)
		}
	}
	if got := SplitList(`<sip:a,b>, "x,\",y" <sip:c> ,`); len(got) != 2 {
		t.Errorf("list %q", got)
	}
}

func TestSetDelClone(t *testing.T) {
	m := NewRequest("BYE", "sip:a@b")
	m.Add("X-A", "1")
	m.Add("x-a", "2")
	c := m.Clone()
	m.Set("X-a", "3")
	m.Set("New", "4")
	if d := cmp.Diff([]Header{{"X-A", "3"}, {"New", "4"}}, m.Headers); d != "" {
		t.Error(d)
	}
	m.Del("NEW")
	if m.Has("New") || len(c.Headers) != 2 || c.Get("X-A") != "1" {
		t.Errorf("after del %v, clone %v", m.Headers, c.Headers)
	}
}

// TestStreamCuts: however a sequence of messages is cut, the stream reader takes off exactly those messages.
func TestStreamCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream bytes.Buffer
		bodies := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 5).Draw(t, "bodies")
		for _, b := range bodies {
			m := NewRequest("INFO", "sip:a@b")
			m.Body = b
			stream.Write(m.Bytes())
		}
		cut := rapid.IntRange(0, stream.Len()).Draw(t, "cut")
		raw := stream.Bytes()
		r := NewReader(io.MultiReader(bytes.NewReader(raw[:cut]), bytes.NewReader(raw[cut:])))
		for i, want := range bodies {
			m, err := r.Next()
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if !bytes.Equal(m.Body, want) {
				t.Fatalf("message %d: body %q, want %q", i, m.Body, want)
			}
		}
	})
}

// FuzzParse: what parses also survives being written and read again, unchanged, as a datagram and from a stream
// with another message behind it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(invite))
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK\r\n\r\n"))
	f.Add([]byte("BYE sip:a SIP/2.0\r\nA:\r\n\t\r\n b\r\nl:1\r\n\r\nxx"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Parse(in)
		if err != nil {
			return
		}
		out := m.Bytes()
		if len(out) > MaxSize {
			return
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("own output refused: %v\n%q", err, out)
		}
		if d := cmp.Diff(m, again, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("changed (-first +second):\n%s", d)
		}
		if !bytes.Equal(out, again.Bytes()) {
			t.Fatal("second writing differs")
		}
		next := NewRequest("OPTIONS", "sip:next")
		r := NewReader(io.MultiReader(bytes.NewReader(out), bytes.NewReader(next.Bytes())))
		first, err := r.Next()
		if errors.Is(err, ErrTooLarge) {
			return // a stream's header line is bounded by the read buffer
		}
		if err != nil || !bytes.Equal(first.Bytes(), out) {
			t.Fatalf("stream: %v", err)
		}
		if second, err := r.Next(); err != nil || second.URI != next.URI {
			t.Fatalf("content-length not respected: %v", err)
		}
	})
}

// FuzzFields: a Via that parses is written back to the same Via.
func FuzzFields(f *testing.F) {
	f.Add("SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1;rport")
	f.Add("SIP/2.0/TLS host ; a = b")
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseVia(s); err == nil {
			again, err := ParseVia(v.String())
			if err != nil || again.Branch() != v.Branch() || again.SentBy() != v.SentBy() {
				t.Fatalf("%q → %q: %+v, %v", s, v.String(), again, err)
			}
		}
		if a, err := ParseNameAddr(s); err == nil && strings.ContainsAny(a.URI, "<>") && !strings.Contains(s, "<") {
			t.Fatalf("address %+v", a)
		}
	})
}
