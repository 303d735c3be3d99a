package engine

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// sweepInterval is how often the time limits of all WebSockets are looked at.
const sweepInterval = 50 * time.Millisecond

// netpoll is the portable backend: blocking reads on the Go runtime's poller, a reader goroutine per connection and
// for WebSockets a writer goroutine.
type netpoll struct {
	clock Clock
	wheel *wheel
	wg    sync.WaitGroup // the tick, readers and writers

	mu     sync.Mutex
	closed bool
	udp    map[*udpConn]struct{}
	ws     map[*wsConn]struct{}
	sweep  *Pace     // runs while there are WebSockets
	swept  []*wsConn // scratch of the sweep
}

func openNetpoll(clock Clock) *netpoll {
	e := &netpoll{
		clock: clock,
		wheel: newWheel(clock.Now),
		udp:   make(map[*udpConn]struct{}),
		ws:    make(map[*wsConn]struct{}),
	}
	e.wg.Go(e.wheel.loop)
	return e
}

func (e *netpoll) Backend() string { return netpollName }

func (e *netpoll) Now() int64 { return e.clock.Now() }

func (e *netpoll) Every(interval time.Duration, fn func(due int64)) *Pace {
	return e.wheel.add(interval, fn)
}

func (e *netpoll) Datagram(conn *net.UDPConn, bind func(DatagramConn) Handler) (DatagramConn, error) {
	u := newUDPConn(e, conn)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		_ = conn.Close() // the error to report is the engine's
		return nil, ErrClosed
	}
	e.udp[u] = struct{}{}
	e.wg.Add(1)
	e.mu.Unlock()

	u.h = bind(u)
	go u.serve()
	return u, nil
}

func (e *netpoll) WebSocket(conn *websocket.Conn, o WebSocketOptions, bind func(WebSocketConn) Handler) (WebSocketConn, error) {
	w := newWSConn(e, conn, o.withDefaults())
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		_ = w.socket.Close() // the error to report is the engine's
		return nil, ErrClosed
	}
	e.ws[w] = struct{}{}
	if e.sweep == nil {
		e.sweep = e.wheel.add(sweepInterval, e.sweepWebSockets)
	}
	e.wg.Add(2)
	e.mu.Unlock()

	w.h = bind(w)
	go w.serveWrites()
	go w.serveReads()
	return w, nil
}

// sweepWebSockets looks after time limits on the tick.
func (e *netpoll) sweepWebSockets(int64) {
	e.mu.Lock()
	e.swept = e.swept[:0]
	for w := range e.ws {
		e.swept = append(e.swept, w)
	}
	e.mu.Unlock()
	now := e.Now()
	for i, w := range e.swept {
		w.checkTime(now)
		e.swept[i] = nil
	}
}

func (e *netpoll) forgetUDP(u *udpConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.udp, u)
}

func (e *netpoll) forgetWS(w *wsConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ws, w)
	if len(e.ws) == 0 && e.sweep != nil {
		e.sweep.Stop()
		e.sweep = nil
	}
}

func (e *netpoll) Stats() Stats {
	paces, skipped := e.wheel.stats()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sweep != nil && !e.closed {
		paces-- // our own
	}
	return Stats{Datagrams: len(e.udp), WebSockets: len(e.ws), Paces: paces, SkippedSlots: skipped}
}

func (e *netpoll) Close() error {
	e.mu.Lock()
	e.closed = true
	closers := make([]io.Closer, 0, len(e.udp)+len(e.ws))
	for u := range e.udp {
		closers = append(closers, u)
	}
	for w := range e.ws {
		closers = append(closers, aborter{w})
	}
	e.mu.Unlock()

	e.wheel.close()
	for _, c := range closers {
		_ = c.Close() // a socket that is gone already is what we want
	}
	e.wg.Wait()
	return nil
}

// aborter lets Close treat both kinds of connection alike.
type aborter struct{ w *wsConn }

func (a aborter) Close() error {
	a.w.Abort()
	return nil
}
