package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// wsConn is a WebSocket of the netpoll backend. Its reader goroutine owns its end: whatever fails marks the
// connection ended and closes the socket, which the reader then notices.
type wsConn struct {
	e      *netpoll
	o      WebSocketOptions
	conn   *websocket.Conn
	socket net.Conn // below TLS, so that closing it never waits for a peer
	h      Handler

	writerDone chan struct{}
	buf        []byte // of the reader

	mu    sync.Mutex
	work  sync.Cond // something for the writer: queue, ping, pong, closing or ended
	queue pending
	stats WebSocketStats // without what the queue counts
	cause error          // what ended the connection, the first wins
	ended bool           // nothing is sent any more

	closing    bool   // our close frame follows the queue
	closeFrame []byte // its payload
	flushBy    int64  // end of FlushTimeout
	peerClosed bool   // the peer's close frame came; ours answers it
	endBy      int64  // when a closing connection is cut off; 0: not closing

	pingAt   int64 // when the last ping was queued
	pingOpen bool  // nothing of any kind came since
	pingDue  bool
	nextPing int64
	pongDue  bool
	pong     [maxControlPayload]byte
	pongSize int
}

// maxControlPayload bounds the payload of pings, pongs and close frames (RFC 6455 §5.5).
const maxControlPayload = 125

func newWSConn(e *netpoll, conn *websocket.Conn, o WebSocketOptions) *wsConn {
	w := &wsConn{
		e: e, o: o, conn: conn, socket: conn.NetConn(),
		writerDone: make(chan struct{}),
		queue:      newPending(o.MaxPending, o.MaxPendingControl, int64(o.MaxPendingAge)),
	}
	if inner, ok := w.socket.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		w.socket = inner.NetConn()
	}
	w.work.L = &w.mu
	w.nextPing = e.Now() + int64(o.PingInterval)
	conn.SetReadLimit(o.ReadLimit)
	conn.SetPingHandler(w.onPing)
	conn.SetPongHandler(w.onPong)
	conn.SetCloseHandler(w.onClose)
	return w
}

// serveReads reads until the connection ends, then ends it for good.
func (w *wsConn) serveReads() {
	defer w.e.wg.Done()
	err := w.readMessages()

	w.mu.Lock()
	answering := w.peerClosed // the writer answers the close frame and ends by itself; checkTime bounds it
	w.mu.Unlock()
	if !answering {
		w.fail(err)
	}
	<-w.writerDone

	_ = w.conn.Close() // the cause is known already
	w.e.forgetWS(w)
	w.mu.Lock()
	w.ended = true
	w.stats.DroppedClosing += uint64(w.queue.media.count + w.queue.control.count)
	w.queue.media, w.queue.control = ring{}, ring{}
	cause := w.cause
	w.mu.Unlock()
	w.h.Closed(cause)
}

func (w *wsConn) readMessages() error {
	for {
		op, r, err := w.conn.NextReader()
		if err != nil {
			return readError(err)
		}
		w.buf, err = readAll(r, w.buf[:0])
		if err != nil {
			return readError(err)
		}
		at := w.e.Now()
		if !w.noteReceived(len(w.buf)) {
			continue // ended meanwhile: the next read fails
		}
		w.h.Received(Message{Data: w.buf, At: at, Op: Op(op)})
	}
}

// readError leaves a close by the peer as it is and says of all else what was being done.
func readError(err error) error {
	if _, ok := errors.AsType[*websocket.CloseError](err); ok {
		return err
	}
	return fmt.Errorf("read websocket message: %w", err)
}

// readAll is io.ReadAll into a buffer that is kept; the read limit bounds it.
func readAll(r io.Reader, buf []byte) ([]byte, error) {
	if cap(buf) == 0 {
		buf = make([]byte, 0, firstRing)
	}
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// noteReceived counts a message; it reports whether the handler shall see it.
func (w *wsConn) noteReceived(size int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pingOpen = false
	if w.ended {
		return false
	}
	w.stats.Received++
	w.stats.ReceivedBytes += uint64(size)
	return true
}

// onPing answers the latest ping only, which RFC 6455 §5.5.3 allows: a flood of pings costs no memory.
func (w *wsConn) onPing(payload string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pingOpen = false
	w.pongSize = copy(w.pong[:], payload)
	w.pongDue = true
	w.work.Signal()
	return nil
}

func (w *wsConn) onPong(payload string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.e.Now()
	w.pingOpen = false
	// The payload is when the ping was written. An unsolicited pong (RFC 6455 §5.5.3) proves life, no more.
	if len(payload) == 8 && int64(binary.BigEndian.Uint64([]byte(payload))) == w.pingAt {
		w.stats.Pongs++
		w.stats.RTT = time.Duration(now - w.pingAt)
	}
	return nil
}

// onClose lets the writer answer the peer's close frame with its own code (RFC 6455 §5.5.1).
func (w *wsConn) onClose(code int, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == nil {
		w.cause = &websocket.CloseError{Code: code, Text: text}
	}
	w.peerClosed = true
	if !w.closing {
		w.closeFrame = websocket.FormatCloseMessage(code, "")
	}
	w.limitEnd(w.e.Now() + int64(w.o.FlushTimeout))
	w.work.Signal()
	return nil
}

// limitEnd makes the connection end by t at the latest.
func (w *wsConn) limitEnd(t int64) {
	if w.endBy == 0 || t < w.endBy {
		w.endBy = t
	}
}

func (w *wsConn) Send(op Op, data []byte, class Class) error {
	now := w.e.Now()
	w.mu.Lock()
	if w.ended || w.closing || w.peerClosed {
		w.mu.Unlock()
		return ErrClosed
	}
	err := w.queue.push(op, data, class, now)
	w.work.Signal()
	w.mu.Unlock()
	if errors.Is(err, ErrOverflow) {
		w.fail(err)
	}
	return err
}

func (w *wsConn) Close(code int, reason string) {
	const maxReason = maxControlPayload - 2 // RFC 6455 §5.5.1
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended || w.closing || w.peerClosed {
		return
	}
	w.closing = true
	w.closeFrame = websocket.FormatCloseMessage(code, cutUTF8(reason, maxReason))
	w.cause = ErrClosed
	w.flushBy = w.e.Now() + int64(w.o.FlushTimeout)
	w.limitEnd(w.flushBy + int64(w.o.CloseGrace))
	w.work.Signal()
}

// cutUTF8 cuts s to at most n bytes without splitting a rune.
func cutUTF8(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

func (w *wsConn) Abort() { w.fail(ErrClosed) }

// fail ends the connection at once; the reader does the rest.
func (w *wsConn) fail(cause error) {
	w.mu.Lock()
	if w.cause == nil {
		w.cause = cause
	}
	w.ended = true
	w.work.Signal()
	w.mu.Unlock()
	_ = w.socket.Close() // closed twice is closed
}

func (w *wsConn) LocalAddr() netip.AddrPort { return addrPort(w.conn.LocalAddr()) }

func (w *wsConn) RemoteAddr() netip.AddrPort { return addrPort(w.conn.RemoteAddr()) }

func (w *wsConn) Stats() WebSocketStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.DroppedFull, s.DroppedOld = w.queue.droppedFull, w.queue.droppedOld
	s.Pending = w.queue.media.count + w.queue.control.count
	s.PendingBytes = w.queue.media.payload() + w.queue.control.payload()
	return s
}

// checkTime enforces the limits that run while both goroutines may be blocked.
func (w *wsConn) checkTime(now int64) {
	w.mu.Lock()
	w.queue.expire(now)
	var cause error
	switch {
	case w.ended:
	case w.endBy != 0 && now >= w.endBy:
		cause = ErrClosed // only if Close or the peer's close frame have not left theirs
	case w.endBy != 0 || w.o.PingInterval < 0:
	case w.pingOpen && now-w.pingAt >= int64(w.o.PongTimeout):
		cause = ErrPongTimeout
	case now >= w.nextPing && !w.pingOpen:
		w.pingDue, w.pingOpen, w.pingAt = true, true, now
		w.nextPing = now + int64(w.o.PingInterval)
		w.work.Signal()
	}
	w.mu.Unlock()
	if cause != nil {
		w.fail(cause)
	}
}
