package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim"
	"github.com/patchbay/patchbay/sdk"
)

// The simulated bot is written from the protocol alone, and complains of every rule that is broken.
func TestAgainstTheSimulator(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args   []string
		reason sdk.Reason
		target string
	}{
		"hangup":   {[]string{"--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"transfer": {[]string{"--hangup-after", "900ms", "--bye-header", "kore-reason: TransferToAgent"}, sdk.ReasonTransfer, ""},
		"early":    {[]string{"--early-media", "--answer-after", "300ms", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"refer":    {[]string{"--refer", "sip:agents@127.0.0.1", "--refer-after", "600ms"}, sdk.ReasonTransfer, "agents"},
		"routed":   {[]string{"--record-route", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"offered":  {[]string{"--reinvite", "300ms", "--reinvite-kind", "nosdp", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"moved":    {[]string{"--reinvite", "300ms", "--reinvite-kind", "move", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"held":     {[]string{"--reinvite", "300ms", "--reinvite-kind", "hold", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
		"a-law":    {[]string{"--codec", "pcma", "--hangup-after", "900ms"}, sdk.ReasonHangup, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out bytes.Buffer
			errs := &startLine{first: make(chan string, 1)}
			code := make(chan int, 1)
			args := append([]string{"--listen", "127.0.0.1:0", "--calls", "1", "--echo", "--ping", "300ms"}, tt.args...)
			go func() { code <- sim.Main(ctx, args, &out, errs) }()
			g := open(t, []string{"sip:" + errs.address(t)}, nil, nil)
			c := g.place()
			for e := range c.events {
				if e == "answer" {
					break
				}
			}
			c.send(sdk.Frame{Kind: sdk.DTMF, Payload: sdk.DTMFPayload(nil, '5', 0)})
			e := c.ended()
			if e.Reason != tt.reason || e.Target != tt.target || e.Stats.FramesIn == 0 {
				t.Errorf("ended: %+v", e)
			}
			if n := <-code; n != 0 {
				t.Errorf("the simulator exits %d\n%s%s", n, out.String(), errs.text.String())
			}
		})
	}
}

// startLine keeps what the simulator says to stderr, and tells the first line.
type startLine struct {
	mu    sync.Mutex
	text  strings.Builder
	told  bool
	first chan string
}

// Write implements io.Writer.
func (l *startLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if line, _, whole := strings.Cut(l.text.String(), "\n"); whole && !l.told {
		l.told = true
		l.first <- line
	}
	return len(b), nil
}

// address is where the simulator listens.
func (l *startLine) address(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l.first:
		_, rest, _ := strings.Cut(line, "listening on ")
		address, _, _ := strings.Cut(rest, " ")
		return address
	case <-time.After(patience):
		t.Fatal("the simulator does not come up")
		return ""
	}
}
