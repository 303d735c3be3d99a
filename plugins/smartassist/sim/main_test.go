package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

// lines is a writer that tells when a line matches.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) find(t *testing.T, re string) []string {
	t.Helper()
	for {
		if m := regexp.MustCompile(re).FindStringSubmatch(l.String()); m != nil {
			return m
		}
		select {
		case <-l.more:
		case <-time.After(patience):
			t.Fatalf("no %q in %q", re, l.String())
		}
	}
}

// runMain runs the command and places one call through it.
func runMain(t *testing.T, args []string, place func(c *caller)) (code int, stdout, stderr string) {
	t.Helper()
	out, errs := newLines(), newLines()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	codes := make(chan int, 1)
	go func() {
		codes <- Main(ctx, append([]string{"--listen", "127.0.0.1:0", "--linger", "10ms"}, args...), out, errs)
	}()
	addr := errs.find(t, `listening on 127\.0\.0\.1:(\d+) \(udp`)[1]
	if place == nil {
		cancel()
	} else {
		c := callerTo(t, netip.MustParseAddrPort("127.0.0.1:"+addr), udp)
		c.connect()
		place(c)
	}
	return <-codes, out.String(), errs.String()
}

func TestMainReportsAndRecords(t *testing.T) {
	dir := t.TempDir()
	prompt, record := filepath.Join(dir, "prompt.wav"), filepath.Join(dir, "caller.wav")
	var w bytes.Buffer
	if err := wav.WriteMuLaw(&w, speech(3)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prompt, w.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--play", prompt, "--record", record, "--calls", "1", "--json", "--expect", "rtp.lost=0", "--expect", "rtp.audio>=2", "--expect", "header.X-ExternalCallId=ext-1", "--expect", "ended=caller-bye", "--expect", "violations.count=0"}
	place := func(c *caller) {
		c.establish()
		c.hear(3)
		in := speech(2)
		c.sendRTP(rtpwire.Header{Seq: 1, Timestamp: 0, SSRC: 3}, in[:frameSize])
		c.sendRTP(rtpwire.Header{Seq: 2, Timestamp: 160, SSRC: 3}, in[frameSize:])
		c.hear(5) // two frames later both have been read
		c.bye()
	}
	code, stdout, stderr := runMain(t, args, place)
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got Call
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	if !got.Done || got.FromUser != "+15551234567" || got.RTP.Packets != 2 || len(got.Ladder) == 0 {
		t.Errorf("account %+v", got)
	}
	raw, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	f, err := wav.Read(bytes.NewReader(raw))
	if err != nil || !bytes.Equal(f.Data, speech(2)) {
		t.Errorf("recording: %v", err)
	}
}

func TestMainFindsWhatIsWrong(t *testing.T) {
	code, stdout, stderr := runMain(t, []string{"--calls", "1", "--expect", "byes=2"}, func(c *caller) {
		c.send(c.request("INVITE", c.offer, "Max-Forwards: 70\r\n", ""))
		c.expect(" 200 ", " 100 ")
		c.ack()
		c.bye()
	})
	if code != exitWrong || !strings.Contains(stderr, "INVITE: no Max-Forwards") || !strings.Contains(stderr, "expected byes=2: it is 1") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"ended ", "caller-bye", "VIOLATION", "X-ExternalCallId: ext-1", "-> INVITE sip:", "<- 200 OK"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestMainUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, exitOK, "Example:"},
		{[]string{"--nonsense"}, exitUsage, "nonsense"},
		{[]string{"extra"}, exitUsage, `unexpected "extra"`},
		{[]string{"--refuse", "200"}, exitUsage, "refuse with 200"},
		{[]string{"--codec", "opus"}, exitUsage, `codec "opus"`},
		{[]string{"--dtmf", "5"}, exitUsage, "want TIME:KEY"},
		{[]string{"--dtmf", "1s:x"}, exitUsage, "is no key"},
		{[]string{"--bye-header", "no colon"}, exitUsage, "Name: value"},
		{[]string{"--expect", "rtp.nothing=1"}, exitUsage, "no field rtp.nothing"},
		{[]string{"--expect", "byes<many"}, exitUsage, "is no number"},
		{[]string{"--play", "/does/not/exist.wav"}, exitUsage, "--play"},
		{[]string{"--tls-listen", "127.0.0.1:0"}, exitUsage, "--tls-self-signed"},
		{[]string{"--advertise", "x"}, exitUsage, "--advertise"},
		{[]string{"--reinvite", "1s", "--reinvite-kind", "odd"}, exitUsage, "re-invite"},
		{[]string{"--listen", "256.0.0.1:1"}, exitWrong, "listen for sip"},
		{[]string{"--listen", "127.0.0.1:0", "--calls", "1", "--timeout", "1ms"}, exitWrong, "0 of 1 calls"},
		{[]string{"--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--tls-self-signed", t.TempDir(), "--timeout", "1ms"}, exitOK, "(tls)"},
	} {
		var out, errs bytes.Buffer
		if code := Main(t.Context(), tc.args, &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("%q: exit %d, want %d, and %q in %q", tc.args, code, tc.code, tc.want, errs.String())
		}
	}
}

func TestMainInterrupted(t *testing.T) {
	if code, _, stderr := runMain(t, nil, nil); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestExpectations(t *testing.T) {
	c := &Call{Ended: "caller-bye", Byes: 1, Acked: true, Digits: "12", Violations: []string{"x"}}
	for s, want := range map[string]string{
		"ended=caller-bye": "", "ended!=bot-bye": "", "ended~bye": "", "byes>=1": "", "byes<1": "byes<1: it is 1", "byes>0": "", "byes<=1": "",
		"acked=true": "", "digits=12": "", "digits=13": "digits=13: it is 12", "violations.count=1": "", "refer.status=202": "refer.status=202: it is ",
	} {
		e, err := parseExpectation(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got := e.check(c); got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
	for _, s := range []string{"", "=1", "byes", "byes!1", "ladder.first=1", "ended.x=1"} {
		if _, err := parseExpectation(s); err == nil {
			t.Errorf("%q is no expectation", s)
		}
	}
}
