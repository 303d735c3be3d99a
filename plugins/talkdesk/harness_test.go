package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/sdk"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of a test.
const patience = 10 * time.Second

const goodQuery = "sipuri=%2B17345551234&token=" + sampleToken + "&botId=st-1&accountId=acc&agentassist=false"

// fakeGateway admits what admit says, and keeps account.
type fakeGateway struct {
	admit func(sdk.AdmitRequest) error // nil: all
	offer func(sdk.Offer) error        // nil: all
	legs  chan *fakeLeg

	mu        sync.Mutex
	requests  []sdk.AdmitRequest
	reserved  int // admissions neither offered nor withdrawn
	withdrawn int
}

func (g *fakeGateway) Admit(ctx context.Context, req sdk.AdmitRequest) (sdk.Admission, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = append(g.requests, req)
	if g.admit != nil {
		if err := g.admit(req); err != nil {
			return nil, err
		}
	}
	g.reserved++
	return &fakeAdmission{g: g, id: fmt.Sprintf("call-%d", len(g.requests)), mode: req.Mode}, nil
}

func (g *fakeGateway) counts() (requests, reserved, withdrawn int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.requests), g.reserved, g.withdrawn
}

func (g *fakeGateway) admitted() []sdk.AdmitRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

type fakeAdmission struct {
	g        *fakeGateway
	id, mode string
	once     sync.Once
}

func (a *fakeAdmission) CallID() string { return a.id }

func (a *fakeAdmission) Withdraw() {
	a.once.Do(func() {
		a.g.mu.Lock()
		defer a.g.mu.Unlock()
		a.g.reserved--
		a.g.withdrawn++
	})
}

func (a *fakeAdmission) Offer(o sdk.Offer, frames func(*sdk.Frame)) (sdk.IngressLeg, error) {
	if a.g.offer != nil {
		if err := a.g.offer(o); err != nil {
			return nil, err
		}
	}
	err := sdk.ErrLegEnded
	var l *fakeLeg
	a.once.Do(func() {
		err = nil
		l = &fakeLeg{
			id: a.id, offer: o, toPlatform: frames, answered: make(chan struct{}), finished: make(chan sdk.Finish, 1),
			written: make(chan sdk.Frame, 4096), ended: make(chan sdk.Ending, 8), streams: []sdk.Stream{sdk.PCMU8k()},
		}
		if a.mode == sdk.ModeMonitor {
			l.streams = append(l.streams, sdk.PCMU8k())
		}
		a.g.mu.Lock()
		a.g.reserved--
		a.g.mu.Unlock()
		a.g.legs <- l
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

type fakeLeg struct {
	id         string
	offer      sdk.Offer
	toPlatform func(*sdk.Frame)
	streams    []sdk.Stream
	answered   chan struct{}
	finished   chan sdk.Finish
	written    chan sdk.Frame
	ended      chan sdk.Ending

	mu     sync.Mutex
	events []string
}

func (l *fakeLeg) CallID() string               { return l.id }
func (l *fakeLeg) Streams() []sdk.Stream        { return l.streams }
func (l *fakeLeg) Hold()                        {}
func (l *fakeLeg) Resumed()                     {}
func (l *fakeLeg) Answered() <-chan struct{}    { return l.answered }
func (l *fakeLeg) Finished() <-chan sdk.Finish  { return l.finished }
func (l *fakeLeg) End(e sdk.Ending)             { l.ended <- e }
func (l *fakeLeg) finish(result, target string) { l.finished <- finishOf(result, target) }
func (l *fakeLeg) audio(payload []byte)         { l.toPlatform(&sdk.Frame{Kind: sdk.Audio, Payload: payload}) }

func (l *fakeLeg) Event(outbound bool, s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, map[bool]string{true: "> ", false: "< "}[outbound]+s)
}

func (l *fakeLeg) ladder() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *fakeLeg) Write(f sdk.Frame) {
	f.Payload = slices.Clone(f.Payload)
	l.written <- f
}

func finishOf(result, target string) sdk.Finish {
	return sdk.Finish{Result: result, Target: target, Termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup}}
}

// ending waits for the leg's end and checks that there is just one.
func (l *fakeLeg) ending(t *testing.T) sdk.Ending {
	t.Helper()
	e := receive(t, l.ended, "end of the leg")
	if len(l.ended) > 0 {
		t.Fatalf("the leg ended again: %v", <-l.ended)
	}
	return e
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

// gatewayUnderTest is the plugin, open on loopback.
type gatewayUnderTest struct {
	*provider
	gw   *fakeGateway
	addr string
}

// open starts the plugin; change may shorten its time limits.
func open(t *testing.T, gw *fakeGateway, block string, change func(*settings)) *gatewayUnderTest {
	t.Helper()
	if block == "" {
		block = `{"listen":"127.0.0.1:0"}`
	}
	gw.legs = make(chan *fakeLeg, 64)
	p := new(provider)
	if err := p.Configure(t.Context(), json.RawMessage(block)); err != nil {
		t.Fatal(err)
	}
	set := *p.settings.Load()
	set.closeGrace, set.closeTimeout, set.shutdownGrace = 500*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	if change != nil {
		change(&set)
	}
	p.settings.Store(&set)
	listeners, err := p.Open(t.Context(), gw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, reserved, _ := gw.counts(); reserved != 0 {
			t.Errorf("%d admissions are left", reserved)
		}
		if n := p.measures.open.Load(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
	return &gatewayUnderTest{provider: p, gw: gw, addr: listeners[0].Address}
}

// peer is the platform's end of a stream.
type peer struct {
	*websocket.Conn
	t testing.TB
}

func (g *gatewayUnderTest) dial(t *testing.T, query string) *peer {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+g.addr+defaultPath+"/?"+query, nil)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, resp)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{Conn: conn, t: t}
}

func (p *peer) say(messages ...string) {
	p.t.Helper()
	for _, m := range messages {
		if err := p.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			p.t.Fatalf("send: %v", err)
		}
	}
}

// hear returns the next message, or the error the stream ended with.
func (p *peer) hear() (map[string]any, error) {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	kind, data, err := p.ReadMessage()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage {
		p.t.Errorf("a message of kind %d", kind)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		p.t.Errorf("no JSON: %s", data)
	}
	return m, nil
}

// expect hears a message of that event.
func (p *peer) expect(event string) map[string]any {
	p.t.Helper()
	m, err := p.hear()
	if err != nil {
		p.t.Fatalf("waiting for %s: %v", event, err)
	}
	if m["event"] != event {
		p.t.Fatalf("got %v, want %s", m, event)
	}
	return m
}

// expectClose hears the end of the stream with that code, and nothing before.
func (p *peer) expectClose(code int) {
	p.t.Helper()
	m, err := p.hear()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code {
		p.t.Fatalf("got %v %v, want close %d", m, err, code)
	}
}

const (
	sayConnected = `{"event":"connected","protocol":"Call","version":"1.0.0"}`
	sayStart     = `{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"streamSid":"MZ1","accountSid":"td-acc","callSid":"CA1","tracks":["inbound"],"customParameters":{"interaction_id":"int-1","caller_id":"+15551234567","token":"no","business_hours":"a::b"},"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}`
	sayStop      = `{"event":"stop","streamSid":"MZ1","stop":{"accountSid":"td-acc","callSid":"CA1"}}`
)

// call dials and starts a stream, and returns both its ends.
func (g *gatewayUnderTest) call(t *testing.T) (*peer, *fakeLeg) {
	t.Helper()
	p := g.dial(t, goodQuery)
	p.say(sayConnected, sayStart)
	return p, receive(t, g.gw.legs, "offer")
}

// answerOf makes a plain HTTP request and returns what came back.
func (g *gatewayUnderTest) answerOf(t *testing.T, method, target string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := cut(target)
	req.URL = &url.URL{Scheme: "http", Host: g.addr, Path: path, RawQuery: query}
	req.Header = header
	client := http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func cut(target string) (path, query string, found bool) {
	for i := range len(target) {
		if target[i] == '?' {
			return target[:i], target[i+1:], true
		}
	}
	return target, "", false
}

func upgradeHeader() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
