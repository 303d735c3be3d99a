package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

// testLeg is a leg that remembers.
type testLeg struct {
	frames chan sdk.Frame
	events chan string // progress, answer, hold, resumed, transfer

	mu      sync.Mutex
	onFrame func(*sdk.Frame)
	ladder  []string
	headers []sdk.Header
}

func newTestLeg() *testLeg {
	return &testLeg{frames: make(chan sdk.Frame, 1000), events: make(chan string, 100)}
}

func (l *testLeg) CallID() string        { return "call-1" }
func (l *testLeg) Streams() []sdk.Stream { return []sdk.Stream{sdk.PCMU8k()} }
func (l *testLeg) Checkpoint([]byte)     {}
func (l *testLeg) Hold()                 { l.events <- "hold" }
func (l *testLeg) Resumed()              { l.events <- "resumed" }

func (l *testLeg) Write(f sdk.Frame) {
	f.Payload = append([]byte(nil), f.Payload...)
	select {
	case l.frames <- f:
	default:
	}
}

func (l *testLeg) Event(outbound bool, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	arrow := "< "
	if outbound {
		arrow = "> "
	}
	l.ladder = append(l.ladder, arrow+text)
}

func (l *testLeg) OnFrame(fn func(*sdk.Frame)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onFrame = fn
}

func (l *testLeg) send(f sdk.Frame) {
	l.mu.Lock()
	fn := l.onFrame
	l.mu.Unlock()
	fn(&f)
}

func (l *testLeg) Progress(status int, early bool) {
	l.events <- fmt.Sprintf("progress %d %v", status, early)
}

func (l *testLeg) Answer(headers []sdk.Header) {
	l.mu.Lock()
	l.headers = headers
	l.mu.Unlock()
	l.events <- "answer"
}

func (l *testLeg) Transfer(target string, headers []sdk.Header) {
	l.mu.Lock()
	l.headers = headers
	l.mu.Unlock()
	l.events <- "transfer " + target
}

func (l *testLeg) want(t *testing.T, event string) {
	t.Helper()
	select {
	case got := <-l.events:
		if got != event {
			t.Fatalf("leg was told %q, want %q", got, event)
		}
	case <-time.After(patience):
		t.Fatalf("leg was not told %q", event)
	}
}

// testGateway is a provider, opened.
type testGateway struct {
	t        *testing.T
	provider *provider
	sip      netip.AddrPort
	tls      string
}

// open configures and opens a provider toward targets. extra are further keys of trunk, and top are of the block.
func open(t *testing.T, targets []string, trunk, top map[string]any) *testGateway {
	t.Helper()
	tr := map[string]any{"targets": targets}
	maps.Copy(tr, trunk)
	block := map[string]any{"listen": "127.0.0.1:0", "rtp_ports": "30000-39999", "trunk": tr}
	maps.Copy(block, top)
	raw, err := json.Marshal(block)
	if err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, provider: newProvider(slog.New(slog.NewTextHandler(testWriter{t}, nil)))}
	if err := g.provider.Configure(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	listeners, err := g.provider.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listeners {
		switch l.Purpose {
		case "sip-udp":
			g.sip = netip.MustParseAddrPort(l.Address)
		case "sip-tls":
			g.tls = l.Address
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := g.provider.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return g
}

type testWriter struct{ t *testing.T }

// Write implements io.Writer.
func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// testCall is a call being placed.
type testCall struct {
	*testLeg
	t      *testing.T
	hangup func(sdk.Termination)
	done   chan sdk.Ending
}

func (g *testGateway) place(headers ...sdk.Header) *testCall {
	return g.placeTo(sdk.Placement{
		CallID: "call-1", Destination: "+17345550100", Caller: "+15551234567", Headers: headers, Streams: []sdk.Stream{sdk.PCMU8k()},
	})
}

func (g *testGateway) placeTo(to sdk.Placement) *testCall {
	ctx, hangup := sdk.WithHangup(context.Background())
	c := &testCall{testLeg: newTestLeg(), t: g.t, hangup: hangup, done: make(chan sdk.Ending, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		c.done <- g.provider.Place(ctx, c, to)
	}()
	g.t.Cleanup(func() {
		hangup(sdk.Termination{Who: sdk.GatewayItself})
		<-finished
	})
	return c
}

// ended waits for the end of the call.
func (c *testCall) ended() sdk.Ending {
	c.t.Helper()
	select {
	case e := <-c.done:
		return e
	case <-time.After(patience):
		c.t.Fatal("the call does not end")
		return sdk.Ending{}
	}
}

var callerGone = sdk.Termination{Who: sdk.Caller, Reason: sdk.ReasonHangup, Q850: 16}
