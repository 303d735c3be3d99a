package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// job is what the writer does next.
type job uint8

const (
	jobStop    job = iota // the connection has ended
	jobPong               // answer a ping
	jobPing               // send our own
	jobMessage            // send the message taken from the queue
	jobClose              // send the close frame; the last thing ever sent
)

// serveWrites is the only goroutine that writes (the reader's protocol errors excepted, which end the connection).
func (w *wsConn) serveWrites() {
	defer w.e.wg.Done()
	defer close(w.writerDone)
	var buf []byte // kept between messages
	for {
		var (
			do  job
			op  Op
			err error
		)
		do, op, buf = w.next(buf[:0])
		switch do {
		case jobStop:
			return
		case jobPong:
			err = w.conn.WriteControl(websocket.PongMessage, buf, w.deadline())
		case jobPing:
			err = w.conn.WriteControl(websocket.PingMessage, buf, w.deadline())
		case jobMessage:
			err = w.writeMessage(op, buf)
		case jobClose:
			w.writeClose(buf)
			return
		}
		if err != nil {
			w.fail(fmt.Errorf("write websocket message: %w", err))
			return
		}
	}
}

// next waits for something to do and puts its payload into buf.
func (w *wsConn) next(buf []byte) (job, Op, []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.ended:
			return jobStop, 0, buf
		case w.peerClosed:
			return jobClose, 0, append(buf, w.closeFrame...)
		case w.pongDue:
			w.pongDue = false
			return jobPong, 0, append(buf, w.pong[:w.pongSize]...)
		case w.pingDue:
			w.pingDue = false
			w.stats.Pings++
			return jobPing, 0, binary.BigEndian.AppendUint64(buf, uint64(w.pingAt))
		}
		now := w.e.Now()
		if !w.closing || now < w.flushBy {
			if op, data, ok := w.queue.next(now, buf); ok {
				return jobMessage, op, data
			}
		}
		if w.closing {
			return jobClose, 0, append(buf, w.closeFrame...)
		}
		w.work.Wait()
	}
}

func (w *wsConn) deadline() time.Time { return time.Now().Add(w.o.WriteTimeout) }

func (w *wsConn) writeMessage(op Op, data []byte) error {
	if err := w.conn.SetWriteDeadline(w.deadline()); err != nil {
		return err
	}
	if err := w.conn.WriteMessage(int(op), data); err != nil {
		return err
	}
	w.mu.Lock()
	w.stats.Sent++
	w.stats.SentBytes += uint64(len(data))
	w.mu.Unlock()
	return nil
}

// writeClose sends our close frame. When it answers the peer's, or cannot be sent, the connection is over.
func (w *wsConn) writeClose(payload []byte) {
	err := w.conn.WriteControl(websocket.CloseMessage, payload, time.Now().Add(w.o.FlushTimeout))
	w.mu.Lock()
	answered := w.peerClosed
	w.mu.Unlock()
	if answered || errors.Is(err, websocket.ErrCloseSent) {
		return
	}
	if err != nil {
		w.fail(fmt.Errorf("write websocket close frame: %w", err))
	}
}
