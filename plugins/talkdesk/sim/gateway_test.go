package sim

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testURL = "ws://gateway.test/audiosocket/talkdesk/?sipuri=%2B1&token=hidden"

// got is one message that the gateway of a test received.
type got struct {
	at   time.Duration
	kind int
	raw  string
	m    map[string]any
}

// field digs out a string by its path.
func (g got) field(path ...string) any {
	var v any = g.m
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (g got) event() any { return g.m["event"] }

// gateway is the server's side of one stream, as plain as the protocol allows.
type gateway struct {
	t     *testing.T
	conn  *websocket.Conn
	began time.Time
	sid   string

	mu       sync.Mutex
	messages []got
	ended    error         // what ended reading
	over     chan struct{} // closed when reading has ended
	start    chan struct{} // closed when start is here
}

// reader collects what arrives until the connection ends.
func (g *gateway) reader() {
	defer close(g.over)
	started := false
	for {
		kind, raw, err := g.conn.ReadMessage()
		g.mu.Lock()
		if err != nil {
			g.ended = err
			g.mu.Unlock()
			return
		}
		m := got{at: time.Since(g.began), kind: kind, raw: string(raw)}
		if json.Unmarshal(raw, &m.m) != nil {
			m.m = nil
		}
		if m.event() == "start" && !started {
			started = true
			g.began, m.at = time.Now(), 0
			g.sid, _ = m.field("start", "streamSid").(string)
			close(g.start)
		}
		g.messages = append(g.messages, m)
		g.mu.Unlock()
	}
}

// events returns the messages of one kind so far.
func (g *gateway) events(name string) []got {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []got
	for _, m := range g.messages {
		if m.event() == name {
			found = append(found, m)
		}
	}
	return found
}

func (g *gateway) send(message string) {
	g.t.Helper()
	if err := g.conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		g.t.Errorf("gateway writes %.60s: %v", message, err)
	}
}

func (g *gateway) media(ulaw []byte) {
	g.t.Helper()
	g.send(fmt.Sprintf(`{"event":"media","streamSid":%q,"media":{"payload":%q}}`, g.sid, base64.StdEncoding.EncodeToString(ulaw)))
}

func (g *gateway) mark(name string) {
	g.t.Helper()
	g.send(fmt.Sprintf(`{"event":"mark","streamSid":%q,"mark":{"name":%q}}`, g.sid, name))
}

func (g *gateway) clear() {
	g.t.Helper()
	g.send(fmt.Sprintf(`{"event":"clear","streamSid":%q}`, g.sid))
}

func (g *gateway) stop(result string) {
	g.t.Helper()
	g.send(fmt.Sprintf(`{"event":"stop","streamSid":%q,"stop":{%s}}`, g.sid, result))
}

const resultOK = `"command":"ok"`

// serve is an HTTP handler that plays script on every stream once start is here, and then reads until the end.
func serve(t *testing.T, out *gateway, script func(*gateway)) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		defer conn.Close()
		*out = gateway{t: t, conn: conn, began: time.Now(), over: make(chan struct{}), start: make(chan struct{})}
		go out.reader()
		select {
		case <-out.start:
		case <-out.over:
		}
		if script != nil {
			script(out)
		}
		<-out.over
	}
}

// pipeNet is a network without sockets, for tests under a virtual clock.
type pipeNet struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	server *http.Server
	work   sync.WaitGroup // the server and its handlers
}

func (p *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeNet) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipeNet) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipeNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("no such gateway")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newPipe serves handler on a network of its own.
func newPipe(t *testing.T, handler http.Handler) *pipeNet {
	t.Helper()
	p := &pipeNet{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.server = &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.work.Add(1)
		defer p.work.Done()
		handler.ServeHTTP(w, r)
	})}
	p.work.Go(func() {
		if err := p.server.Serve(p); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return p
}

// shutDown ends the network and waits for all handlers.
func (p *pipeNet) shutDown() {
	_ = p.server.Close()
	p.work.Wait()
}

// call runs one call against handler, in the bubble of a synctest, and returns once both sides have ended.
func call(t *testing.T, o Options, handler http.Handler) (Report, error) {
	t.Helper()
	p := newPipe(t, handler)
	defer p.shutDown()
	if o.URL == "" {
		o.URL = testURL
	}
	o.Dial = p.dial
	return Run(t.Context(), o)
}

// listen makes a server on loopback, for the test to start; the test's end waits for its handlers.
func listen(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	var work sync.WaitGroup
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		work.Add(1)
		defer work.Done()
		handler.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		srv.Close()
		work.Wait()
	})
	return srv
}

// ramp is n bytes of audio in which every frame differs and none is silence.
func ramp(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((i + i/160) % 255)
	}
	return b
}
