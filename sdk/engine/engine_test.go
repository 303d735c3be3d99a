package engine

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitFor bounds how long a test waits for something that has to happen.
const waitFor = 10 * time.Second

func open(t *testing.T) Engine {
	t.Helper()
	e, err := Open(Options{Backend: "netpoll"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// sink is a Handler that hands on what it gets.
type sink struct {
	got    chan Message // with Data copied
	closed chan error
	on     func(Message) // instead of got
}

func newSink() *sink {
	return &sink{got: make(chan Message, 4096), closed: make(chan error, 2)}
}

func (s *sink) Received(m Message) {
	if s.on != nil {
		s.on(m)
		return
	}
	m.Data = append([]byte(nil), m.Data...)
	s.got <- m
}

func (s *sink) Closed(err error) { s.closed <- err }

func (s *sink) next(t *testing.T) Message {
	t.Helper()
	return within(t, s.got, "message")
}

func (s *sink) end(t *testing.T) error {
	t.Helper()
	return within(t, s.closed, "end of connection")
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(waitFor):
		t.Fatalf("no %s within %v", what, waitFor)
		panic("not reached")
	}
}

// eventually polls for a state that no channel announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(waitFor)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, waitFor)
		}
	}
}

// pair is a WebSocket whose server side an engine owns; the test plays the client.
type pair struct {
	ws     WebSocketConn
	h      *sink
	client *websocket.Conn
}

func newPair(t *testing.T, e Engine, o WebSocketOptions) pair {
	t.Helper()
	p := pair{h: newSink()}
	server, client := upgraded(t)
	p.client = client
	ws, err := e.WebSocket(server, o, func(WebSocketConn) Handler { return p.h })
	if err != nil {
		t.Fatal(err)
	}
	p.ws = ws
	return p
}

// upgraded is both ends of a WebSocket over loopback.
func upgraded(t *testing.T) (server, client *websocket.Conn) {
	t.Helper()
	conns := make(chan *websocket.Conn, 1)
	up := websocket.Upgrader{}
	var once sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		once.Do(func() { conns <- c })
	}))
	defer s.Close()
	client, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = client.Close() })
	return within(t, conns, "upgrade"), client
}

func TestOpen(t *testing.T) {
	for _, name := range []string{"", "auto", "netpoll"} {
		e, err := Open(Options{Backend: name})
		if err != nil {
			t.Fatalf("Open(%q): %v", name, err)
		}
		if e.Backend() != "netpoll" {
			t.Errorf("Open(%q) runs %q", name, e.Backend())
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := Open(Options{Backend: "kqueue"})
	if err == nil || !strings.Contains(err.Error(), `"kqueue"`) || !strings.Contains(err.Error(), "auto or netpoll") {
		t.Errorf("unknown backend: %v", err)
	}
}

func TestClosedEngineTakesNothing(t *testing.T) {
	e, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Datagram(udp, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Datagram: %v", err)
	}
	if err := udp.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("socket was left open: %v", err)
	}
	server, client := upgraded(t)
	if _, err := e.WebSocket(server, WebSocketOptions{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("WebSocket: %v", err)
	}
	if _, _, err := client.ReadMessage(); err == nil {
		t.Error("WebSocket was left open")
	}
	e.Every(time.Millisecond, func(int64) { t.Error("paced on a closed engine") }).Wait()
}

func TestEngineCloseEndsAll(t *testing.T) {
	e := open(t)
	ws := newPair(t, e, WebSocketOptions{})
	u := newSink()
	datagram(t, e, u)
	e.Every(20*time.Millisecond, func(int64) {})
	want := Stats{Datagrams: 1, WebSockets: 1, Paces: 1}
	if got := e.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	// Close waits for Closed, so both answers are there.
	for name, s := range map[string]*sink{"websocket": ws.h, "datagram": u} {
		select {
		case err := <-s.closed:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: closed with %v", name, err)
			}
		default:
			t.Errorf("%s: Closed not called before Close returned", name)
		}
	}
	if got := e.Stats(); got != (Stats{}) {
		t.Errorf("stats after Close %+v", got)
	}
}

func TestClockIsTheHostsMonotonic(t *testing.T) {
	a, b := NewClock(), NewClock()
	if d := time.Duration(a.Now() - b.Now()).Abs(); d > 5*time.Millisecond {
		t.Errorf("two clocks of one host differ by %v", d)
	}
	last := a.Now()
	for range 1000 {
		now := a.Now()
		if now < last {
			t.Fatalf("clock went back from %d to %d", last, now)
		}
		last = now
	}
	if n := testing.AllocsPerRun(100, func() { a.Now() }); n != 0 {
		t.Errorf("Now allocates %v", n)
	}
}
