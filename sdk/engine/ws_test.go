package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestWebSocketBothWays(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	before := e.Now()
	for _, m := range []struct {
		op   int
		data string
	}{{websocket.TextMessage, `{"event":"media"}`}, {websocket.BinaryMessage, "\xff\x00"}, {websocket.TextMessage, ""}} {
		if err := p.client.WriteMessage(m.op, []byte(m.data)); err != nil {
			t.Fatal(err)
		}
		got := p.h.next(t)
		if string(got.Data) != m.data || int(got.Op) != m.op || got.From.IsValid() {
			t.Errorf("got %+v, want %+v", got, m)
		}
		if got.At < before || got.At > e.Now() {
			t.Errorf("stamp %d out of place", got.At)
		}
	}
	for _, m := range []struct {
		op   Op
		data string
	}{{Text, "a"}, {Binary, "\x00"}, {Text, strings.Repeat("x", 9000)}, {Text, ""}} {
		if err := p.ws.Send(m.op, []byte(m.data), Control); err != nil {
			t.Fatal(err)
		}
		op, data, err := p.client.ReadMessage()
		if err != nil || op != int(m.op) || string(data) != m.data {
			t.Errorf("peer got %d %q, %v", op, data, err)
		}
	}
	eventually(t, "counts", func() bool { return p.ws.Stats().Sent == 4 })
	if s := p.ws.Stats(); s.Received != 3 || s.ReceivedBytes != 19 || s.SentBytes != 9002 {
		t.Errorf("stats %+v", s)
	}
	if a := p.client.LocalAddr().String(); p.ws.RemoteAddr().String() != a || !p.ws.LocalAddr().IsValid() {
		t.Errorf("addresses %v %v, want remote %v", p.ws.LocalAddr(), p.ws.RemoteAddr(), a)
	}
}

// Engines serve the client role too: both ends of this connection are an engine's.
func TestWebSocketClientRole(t *testing.T) {
	e := open(t)
	server, client := upgraded(t)
	hs, hc := newSink(), newSink()
	ws, err := e.WebSocket(server, WebSocketOptions{}, func(WebSocketConn) Handler { return hs })
	if err != nil {
		t.Fatal(err)
	}
	wc, err := e.WebSocket(client, WebSocketOptions{}, func(WebSocketConn) Handler { return hc })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		msg := fmt.Appendf(nil, "%d %s", i, bytes.Repeat([]byte{'.'}, i*20))
		for _, d := range []struct {
			from WebSocketConn
			to   *sink
		}{{ws, hc}, {wc, hs}} {
			if err := d.from.Send(Text, msg, Control); err != nil {
				t.Fatal(err)
			}
			if got := d.to.next(t); !bytes.Equal(got.Data, msg) {
				t.Fatalf("got %q, want %q", got.Data, msg)
			}
		}
	}
	wc.Close(websocket.CloseNormalClosure, "done")
	var closed *websocket.CloseError
	if err := hs.end(t); !errors.As(err, &closed) || closed.Code != websocket.CloseNormalClosure || closed.Text != "done" {
		t.Errorf("server side closed with %v", err)
	}
	if err := hc.end(t); !errors.Is(err, ErrClosed) {
		t.Errorf("client side closed with %v", err)
	}
}

// All messages of a connection keep their order, whatever their class and whoever's turn it is.
func TestWebSocketOrder(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{MaxPending: 1 << 20, MaxPendingControl: 1 << 20, MaxPendingAge: time.Minute})
	const n = 2000
	go func() {
		for i := range n {
			class := Media
			if i%7 == 0 {
				class = Control
			}
			if err := p.ws.Send(Binary, binary.BigEndian.AppendUint32(nil, uint32(i)), class); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range n {
		_, data, err := p.client.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint32(data); got != uint32(i) {
			t.Fatalf("message %d came at place %d", got, i)
		}
	}
}

// stall makes the server's socket take little, so that a client that does not read blocks the writer soon.
func stall(t *testing.T, e Engine, o WebSocketOptions) pair {
	t.Helper()
	server, client := upgraded(t)
	for _, c := range []*websocket.Conn{server, client} {
		tcp := c.NetConn().(*net.TCPConn)
		if err := errors.Join(tcp.SetWriteBuffer(4096), tcp.SetReadBuffer(4096)); err != nil {
			t.Fatal(err)
		}
	}
	p := pair{h: newSink(), client: client}
	ws, err := e.WebSocket(server, o, func(WebSocketConn) Handler { return p.h })
	if err != nil {
		t.Fatal(err)
	}
	p.ws = ws
	return p
}

// fill sends media until the writer is blocked: it has sent nothing for a while and yet there is something to send.
func fill(t *testing.T, p pair) {
	t.Helper()
	frame := bytes.Repeat([]byte{'m'}, 1000)
	var sent uint64
	since := time.Now()
	eventually(t, "back-pressure", func() bool {
		if err := p.ws.Send(Text, frame, Media); err != nil {
			t.Fatal(err)
		}
		s := p.ws.Stats()
		if s.Sent != sent {
			sent, since = s.Sent, time.Now()
		}
		return s.Pending > 1 && time.Since(since) > 50*time.Millisecond
	})
}

// A slow peer loses media, oldest first; control messages all arrive, in order.
func TestWebSocketSlowPeerLosesOnlyMedia(t *testing.T) {
	e := open(t)
	p := stall(t, e, WebSocketOptions{MaxPending: 8 << 10, MaxPendingAge: time.Minute, PingInterval: -1})
	fill(t, p)
	const controls = 50
	for i := range controls {
		if err := p.ws.Send(Text, fmt.Appendf(nil, "control %d", i), Control); err != nil {
			t.Fatal(err)
		}
		if err := p.ws.Send(Text, bytes.Repeat([]byte{'m'}, 1000), Media); err != nil {
			t.Fatal(err)
		}
	}
	s := p.ws.Stats()
	if s.DroppedFull == 0 || s.PendingBytes > 8<<10+controls*12 || s.Pending < controls {
		t.Errorf("pending %d messages, %d bytes", s.Pending, s.PendingBytes)
	}
	for i := 0; i < controls; {
		_, data, err := p.client.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if data[0] == 'm' {
			continue
		}
		if want := fmt.Sprintf("control %d", i); string(data) != want {
			t.Fatalf("got %q, want %q", data, want)
		}
		i++
	}
}

func TestWebSocketOldMediaIsDropped(t *testing.T) {
	e := open(t)
	p := stall(t, e, WebSocketOptions{MaxPending: 1 << 20, MaxPendingAge: 200 * time.Millisecond, PingInterval: -1})
	fill(t, p)
	// Nobody sends and the writer is blocked: the sweep drops them.
	eventually(t, "old media gone", func() bool { return p.ws.Stats().Pending == 0 })
	if s := p.ws.Stats(); s.DroppedOld == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestWebSocketControlOverflowEnds(t *testing.T) {
	e := open(t)
	p := stall(t, e, WebSocketOptions{MaxPendingControl: 4 << 10, PingInterval: -1})
	var err error
	eventually(t, "overflow", func() bool {
		err = p.ws.Send(Text, make([]byte, 1000), Control)
		return err != nil
	})
	if !errors.Is(err, ErrOverflow) {
		t.Errorf("send: %v", err)
	}
	if err := p.h.end(t); !errors.Is(err, ErrOverflow) {
		t.Errorf("closed with %v", err)
	}
	if err := p.ws.Send(Text, nil, Control); !errors.Is(err, ErrClosed) {
		t.Errorf("send after the end: %v", err)
	}
	if s := p.ws.Stats(); s.DroppedClosing == 0 || s.Pending != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestWebSocketTooLarge(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{MaxPending: 1000, MaxPendingControl: 1000})
	for _, class := range []Class{Media, Control} {
		if err := p.ws.Send(Text, make([]byte, 1000), class); !errors.Is(err, ErrTooLarge) {
			t.Errorf("class %d: %v", class, err)
		}
	}
	if err := p.ws.Send(Text, []byte("ok"), Control); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestWebSocketBlockedWriteEnds(t *testing.T) {
	e := open(t)
	p := stall(t, e, WebSocketOptions{WriteTimeout: 100 * time.Millisecond, PingInterval: -1})
	frame := make([]byte, 1000)
	eventually(t, "end", func() bool { return errors.Is(p.ws.Send(Text, frame, Media), ErrClosed) })
	var timeout net.Error
	if err := p.h.end(t); !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), "write websocket message") {
		t.Errorf("closed with %v", err)
	}
}

// The engine's own part of a message does not allocate; gorilla allocates one small reader per message received.
func TestWebSocketAllocates(t *testing.T) {
	e := open(t)
	server, client := upgraded(t)
	h := newSink()
	done := make(chan struct{}, 1)
	h.on = func(Message) { done <- struct{}{} }
	ws, err := e.WebSocket(server, WebSocketOptions{PingInterval: -1}, func(WebSocketConn) Handler { return h })
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 380)
	raw := client.NetConn()
	masked := append([]byte{0x82, 0x80 | 126, 0x01, 0x7c, 0, 0, 0, 0}, frame...)
	buf := make([]byte, 4+len(frame))
	n := testing.AllocsPerRun(500, func() {
		if err := ws.Send(Binary, frame, Media); err != nil {
			t.Error(err)
		}
		for got := 0; got < len(buf); {
			k, err := raw.Read(buf[got:])
			if err != nil {
				t.Error(err)
				return
			}
			got += k
		}
		if _, err := raw.Write(masked); err != nil {
			t.Error(err)
		}
		<-done
	})
	if n > 1 {
		t.Errorf("a message out and one in allocate %v", n)
	}
}
