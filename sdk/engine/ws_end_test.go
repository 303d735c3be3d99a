package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestWebSocketReadLimit(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{ReadLimit: 100})
	for _, size := range []int{100, 101} {
		if err := p.client.WriteMessage(websocket.TextMessage, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if m := p.h.next(t); len(m.Data) != 100 {
		t.Errorf("got %d bytes", len(m.Data))
	}
	if err := p.h.end(t); !errors.Is(err, websocket.ErrReadLimit) {
		t.Errorf("closed with %v", err)
	}
}

func TestWebSocketPeerCloses(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	frame := websocket.FormatCloseMessage(websocket.CloseGoingAway, "bye")
	if err := p.client.WriteControl(websocket.CloseMessage, frame, time.Now().Add(waitFor)); err != nil {
		t.Fatal(err)
	}
	var closed *websocket.CloseError
	if _, _, err := p.client.ReadMessage(); !errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway {
		t.Errorf("the close was answered with %v", err)
	}
	if err := p.h.end(t); !errors.As(err, &closed) || closed.Code != websocket.CloseGoingAway || closed.Text != "bye" {
		t.Errorf("closed with %v", err)
	}
	p.ws.Close(websocket.CloseNormalClosure, "") // too late: no harm
	p.ws.Abort()
}

func TestWebSocketPeerVanishes(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	if err := p.client.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	var closed *websocket.CloseError
	if err := p.h.end(t); !errors.As(err, &closed) || closed.Code != websocket.CloseAbnormalClosure {
		t.Errorf("closed with %v", err)
	}
}

func TestWebSocketProtocolError(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	if _, err := p.client.NetConn().Write([]byte{0x83, 0x80, 0, 0, 0, 0}); err != nil { // reserved opcode 3
		t.Fatal(err)
	}
	if err := p.h.end(t); err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

// Close sends what is queued, then the close frame, and waits for the peer's.
func TestWebSocketClose(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	for i := range 20 {
		if err := p.ws.Send(Text, fmt.Appendf(nil, "%d", i), Control); err != nil {
			t.Fatal(err)
		}
	}
	p.ws.Close(websocket.CloseNormalClosure, strings.Repeat("é", 100))
	if err := p.ws.Send(Text, nil, Control); !errors.Is(err, ErrClosed) {
		t.Errorf("send after Close: %v", err)
	}
	for i := range 20 {
		_, data, err := p.client.ReadMessage()
		if err != nil || string(data) != fmt.Sprint(i) {
			t.Fatalf("message %d: %q, %v", i, data, err)
		}
	}
	var closed *websocket.CloseError
	_, _, err := p.client.ReadMessage() // answers the close frame
	if !errors.As(err, &closed) || closed.Code != websocket.CloseNormalClosure || closed.Text != strings.Repeat("é", 61) {
		t.Errorf("peer saw %v", err)
	}
	if err := p.h.end(t); !errors.Is(err, ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

func TestWebSocketCloseDoesNotWaitForever(t *testing.T) {
	o := WebSocketOptions{FlushTimeout: 50 * time.Millisecond, CloseGrace: 100 * time.Millisecond}
	t.Run("the peer does not answer", func(t *testing.T) {
		e := open(t)
		p := newPair(t, e, o)
		p.ws.Close(websocket.CloseNormalClosure, "")
		if err := p.h.end(t); !errors.Is(err, ErrClosed) {
			t.Errorf("closed with %v", err)
		}
	})
	t.Run("the peer does not read", func(t *testing.T) {
		e := open(t)
		p := stall(t, e, o)
		fill(t, p)
		p.ws.Close(websocket.CloseNormalClosure, "")
		if err := p.h.end(t); !errors.Is(err, ErrClosed) {
			t.Errorf("closed with %v", err)
		}
	})
	t.Run("aborted", func(t *testing.T) {
		e := open(t)
		p := newPair(t, e, WebSocketOptions{})
		p.ws.Abort()
		if err := p.h.end(t); !errors.Is(err, ErrClosed) {
			t.Errorf("closed with %v", err)
		}
	})
}

func TestWebSocketCloseFromHandler(t *testing.T) {
	e := open(t)
	server, client := upgraded(t)
	h := newSink()
	_, err := e.WebSocket(server, WebSocketOptions{}, func(ws WebSocketConn) Handler {
		h.on = func(m Message) {
			if err := ws.Send(m.Op, m.Data, Control); err != nil {
				t.Error(err)
			}
			ws.Close(websocket.CloseNormalClosure, "")
		}
		return h
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.WriteMessage(websocket.TextMessage, []byte("echo")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := client.ReadMessage(); err != nil || string(data) != "echo" {
		t.Errorf("peer got %q, %v", data, err)
	}
	_, _, _ = client.ReadMessage()
	if err := h.end(t); !errors.Is(err, ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

func TestWebSocketPings(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{PingInterval: 50 * time.Millisecond, PongTimeout: waitFor})
	go func() { _, _, _ = p.client.ReadMessage() }() // answers pings
	eventually(t, "two pongs", func() bool { return p.ws.Stats().Pongs >= 2 })
	if s := p.ws.Stats(); s.RTT <= 0 || s.RTT > waitFor || s.Pings < s.Pongs {
		t.Errorf("stats %+v", s)
	}
}

func TestWebSocketPongTimeout(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{PingInterval: 50 * time.Millisecond, PongTimeout: 100 * time.Millisecond})
	// The client does not read, so it does not answer.
	if err := p.h.end(t); !errors.Is(err, ErrPongTimeout) {
		t.Errorf("closed with %v", err)
	}
}

// A peer that answers no ping but sends messages is alive.
func TestWebSocketMessagesReplacePongs(t *testing.T) {
	e := open(t)
	const timeout = 300 * time.Millisecond
	p := newPair(t, e, WebSocketOptions{PingInterval: 50 * time.Millisecond, PongTimeout: timeout})
	start := time.Now()
	send := time.NewTicker(10 * time.Millisecond)
	defer send.Stop()
	for time.Since(start) < 3*timeout {
		<-send.C
		if err := p.client.WriteMessage(websocket.TextMessage, []byte("audio")); err != nil {
			t.Fatal(err)
		}
		p.h.next(t)
	}
	if s := p.ws.Stats(); s.Pings < 2 || s.Pongs != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A flood of pings costs at most one answer at a time.
func TestWebSocketPingFlood(t *testing.T) {
	e := open(t)
	p := newPair(t, e, WebSocketOptions{})
	last := make(chan string, 1000)
	p.client.SetPongHandler(func(payload string) error { last <- payload; return nil })
	for i := range 1000 {
		if err := p.client.WriteControl(websocket.PingMessage, fmt.Append(nil, i), time.Now().Add(waitFor)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _, _ = p.client.ReadMessage() }()
	for within(t, last, "pong") != "999" { // the last ping is always answered; earlier ones may be
		continue
	}
}
