package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// arrival is one message of the gateway, or the error that ended reading.
type arrival struct {
	at   time.Time
	kind int
	data []byte
	err  error
}

// read hands over messages until the connection ends or left is closed, and then closes in.
func read(ws *websocket.Conn, g *gate, in chan<- arrival, left <-chan struct{}) {
	defer close(in)
	for {
		if !g.wait(left) {
			return
		}
		kind, data, err := ws.ReadMessage()
		select {
		case in <- arrival{at: time.Now(), kind: kind, data: data, err: err}:
		case <-left:
			return
		}
		if err != nil {
			return
		}
	}
}

// gate stops the reader while it is shut.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		g.opened = make(chan struct{})
	default:
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// wait returns once the gate is open, or false once left is closed.
func (g *gate) wait(left <-chan struct{}) bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return true
	case <-left:
		return false
	}
}

// controlFrames counts pings and pongs; the reader's goroutine calls the handlers.
type controlFrames struct{ pings, pongs atomic.Int64 }

func (s *session) pingHandlers() *controlFrames {
	var c controlFrames
	answer := s.ws.PingHandler() // the library's own answers with a pong (RFC 6455 §5.5.2)
	s.ws.SetPingHandler(func(data string) error {
		c.pings.Add(1)
		if s.opt.Faults.IgnorePings {
			return nil
		}
		return answer(data)
	})
	s.ws.SetPongHandler(func(string) error {
		c.pongs.Add(1)
		return nil
	})
	return &c
}

// dial opens the WebSocket. Without one it returns nil, and an error unless the gateway refused with an HTTP status.
func dial(ctx context.Context, o *Options, report *Report) (*websocket.Conn, error) {
	config := o.TLS
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	d := websocket.Dialer{
		NetDialContext:   o.dialer(),
		TLSClientConfig:  config,
		HandshakeTimeout: defaultDialWait,
		// The library sends a fragment whenever this buffer is full.
		WriteBufferSize: o.Faults.FragmentSize,
	}
	ws, resp, err := d.DialContext(ctx, o.URL, o.Header) //nolint:bodyclose // the library has closed it
	if resp != nil {
		report.UpgradeStatus = resp.StatusCode
	}
	switch {
	case err == nil:
		ws.SetReadLimit(maxMessage)
		return ws, nil
	case resp != nil && errors.Is(err, websocket.ErrBadHandshake):
		// The library has read at most the first kilobyte of the body, which is closed already.
		body, readErr := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if readErr != nil {
			return nil, fmt.Errorf("read the refusal: %w", readErr)
		}
		report.RetryAfter = resp.Header.Get("Retry-After")
		report.Refusal = strings.TrimSpace(strings.ToValidUTF8(string(body), "�"))
		report.Outcome = fmt.Sprintf("%s %d", OutcomeRefused, resp.StatusCode)
		report.EndedBy = SideGateway
		return nil, nil
	default:
		report.Outcome = OutcomeUnreachable
		if inURL, ok := errors.AsType[*url.Error](err); ok { // its text repeats the URL, token and all
			err = inURL.Err
		}
		return nil, fmt.Errorf("dial %s: %w", report.Target, err)
	}
}

func (o *Options) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Dial != nil || o.Faults.ReceiveBuffer == 0 {
		return o.Dial // nil: the library's own
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			if err := tcp.SetReadBuffer(o.Faults.ReceiveBuffer); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		return conn, nil
	}
}
