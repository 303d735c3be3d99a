// Package engine moves messages between a provider and its sockets: datagrams over UDP, messages over WebSockets,
// and paced work on one shared tick.
//
// A provider hands an open socket over and from then on sees whole messages only: the engine decides which goroutine
// or thread reads, how writes are queued and when the process wakes up. Nothing in this interface assumes a goroutine
// per connection, so a backend may poll all sockets of the process from one thread; a provider must not depend on
// which backend runs. The netpoll backend (a reader goroutine per connection) runs everywhere and is the reference
// the others are tested against.
//
// Nothing here blocks the caller: WebSocket messages are copied into a queue bounded by bytes and by age, what does
// not fit is dropped and counted (media) or ends the connection (control).
package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Errors an engine returns from its methods and hands to Handler.Closed. Compare with errors.Is.
var (
	// ErrClosed: our side closed the connection (Close, Abort) or the engine.
	ErrClosed = errors.New("connection is closed")
	// ErrOverflow: the peer reads so slowly that control messages no longer fit; the connection is ended.
	ErrOverflow = errors.New("control messages overflow the queue: the peer does not read")
	// ErrPongTimeout: neither a pong nor any other message came within PongTimeout of a ping.
	ErrPongTimeout = errors.New("peer does not answer pings")
	// ErrTooLarge: one message alone is larger than the queue's bound; it was not sent.
	ErrTooLarge = errors.New("message is larger than the queue")
)

// Op says what kind of message a Message is or shall be sent as.
type Op uint8

// The kinds of message. Their values are those of the WebSocket opcodes (RFC 6455 §5.2).
const (
	Datagram Op = 0 // a UDP datagram; never passed to Send
	Text     Op = 1 // a WebSocket text message; the engine does not check its UTF-8
	Binary   Op = 2 // a WebSocket binary message
)

// Class says what may happen to a queued WebSocket message when the peer is slow.
type Class uint8

const (
	// Media may be dropped, oldest first, when it does not fit or has waited longer than MaxPendingAge.
	Media Class = iota
	// Control is never dropped: when it does not fit any more the connection ends with ErrOverflow.
	Control
)

// Message is one message read from a socket.
type Message struct {
	// Data is the payload; valid only until Received returns.
	Data []byte
	// From is a datagram's source, IPv4 addresses unmapped; zero for WebSockets.
	From netip.AddrPort
	// At is when the message was read, on the engine's clock (ns, see Clock).
	At int64
	// Op is the kind of message.
	Op Op
}

// Handler receives the messages of one connection. Its calls are never concurrent, but may come from different
// goroutines. It must not block: with a polling backend it holds up every other connection of the process.
// Calling any method of the connection from inside is allowed.
type Handler interface {
	// Received is called with each message, in order.
	Received(m Message)
	// Closed is called exactly once, after the last Received, when the socket is closed and its port is free again.
	// err says why: ErrClosed for our own Close, Abort or Engine.Close; *websocket.CloseError when the peer closed
	// (code 1006 when it vanished without a close frame); else the error that ended the connection.
	Closed(err error)
}

// Engine owns sockets and the tick. All methods may be called by any goroutine.
type Engine interface {
	// Backend is the name of the backend that runs, for logs and metrics.
	Backend() string
	// Datagram takes conn over, also when it returns an error (conn is closed then). bind is called once, before
	// Datagram returns and before anything is received, and returns the handler of what arrives.
	Datagram(conn *net.UDPConn, bind func(DatagramConn) Handler) (DatagramConn, error)
	// WebSocket takes conn over after the upgrade, also when it returns an error (conn is closed then); nothing may
	// have been read from it or be written to it any more. Both roles, server and client, are served. Compression
	// must not have been negotiated. bind is as for Datagram.
	WebSocket(conn *websocket.Conn, o WebSocketOptions, bind func(WebSocketConn) Handler) (WebSocketConn, error)
	// Every calls fn at absolute due times, interval (at least 1 ms) apart, until the Pace is stopped. All functions
	// of an engine run on one tick, one after the other, so fn must not block. The first due time is chosen so that
	// the functions of one interval spread over it. A tick that comes late calls fn once for each due time that has
	// passed, so the spacing is exact on average; after a stall only the last few due times are made up for and the
	// rest skipped, which fn sees as a larger step of due.
	Every(interval time.Duration, fn func(due int64)) *Pace
	// Now is the current time on the clock of Message.At and of the due times.
	Now() int64
	// Stats counts what the engine holds.
	Stats() Stats
	// Close aborts every connection, stops every Pace and waits for all handlers' Closed and all goroutines. It must
	// not be called from a handler or a paced function. Close WebSockets before where their peers deserve a reason.
	Close() error
}

// DatagramConn is one UDP socket. All methods may be called by any goroutine.
type DatagramConn interface {
	// Send sends one datagram at once. data may be reused when it returns.
	Send(data []byte, to netip.AddrPort) error
	// LocalAddr is the address the socket is bound to.
	LocalAddr() netip.AddrPort
	// Close closes the socket; Closed follows. It does not wait, so that a handler may call it.
	Close() error
	// Stats counts what went through the socket.
	Stats() DatagramStats
}

// WebSocketConn is one WebSocket after its upgrade. All methods may be called by any goroutine.
type WebSocketConn interface {
	// Send copies data into the queue; the order of all messages of a connection is kept. It never blocks. A Media
	// message that makes the queue overflow drops older ones and is no error.
	Send(op Op, data []byte, class Class) error
	// Close refuses further messages, sends what is queued for at most FlushTimeout, then a close frame with code and
	// reason (cut to 123 bytes), waits at most CloseGrace for the peer's, and closes the socket. It does not wait:
	// Closed says when it is done.
	Close(code int, reason string)
	// Abort closes the socket at once, without a close frame. It does not wait.
	Abort()
	// LocalAddr and RemoteAddr are the socket's addresses; zero when it is not an IP socket.
	LocalAddr() netip.AddrPort
	RemoteAddr() netip.AddrPort
	// Stats counts what went through the connection.
	Stats() WebSocketStats
}

// WebSocketOptions bound one WebSocket. The zero value of a field takes the default named with it.
type WebSocketOptions struct {
	// ReadLimit is the largest message accepted, in bytes; a larger one ends the connection with code 1009.
	// Default 64 KiB.
	ReadLimit int64
	// PingInterval is how often a ping is sent. Default 20 s; negative: never.
	PingInterval time.Duration
	// PongTimeout is how long after a ping the connection is ended when neither its pong nor any other message came.
	// Default 10 s.
	PongTimeout time.Duration
	// MaxPending bounds the queued Media messages, in bytes, each counted with 24 more. Default 16 KiB.
	MaxPending int
	// MaxPendingAge is how long a Media message may wait before it is dropped. Default 200 ms.
	MaxPendingAge time.Duration
	// MaxPendingControl bounds the queued Control messages, counted like MaxPending. Default 64 KiB.
	MaxPendingControl int
	// WriteTimeout is how long the peer may take no bytes at all before the connection ends. Default 5 s.
	WriteTimeout time.Duration
	// FlushTimeout bounds how long Close sends what is queued. Default 1 s.
	FlushTimeout time.Duration
	// CloseGrace bounds how long Close then waits for the peer's close frame. Default 5 s.
	CloseGrace time.Duration
}

// withDefaults fills the fields that are zero.
func (o WebSocketOptions) withDefaults() WebSocketOptions {
	setDefault(&o.ReadLimit, 64<<10)
	setDefault(&o.PingInterval, 20*time.Second)
	setDefault(&o.PongTimeout, 10*time.Second)
	setDefault(&o.MaxPending, 16<<10)
	setDefault(&o.MaxPendingAge, 200*time.Millisecond)
	setDefault(&o.MaxPendingControl, 64<<10)
	setDefault(&o.WriteTimeout, 5*time.Second)
	setDefault(&o.FlushTimeout, time.Second)
	setDefault(&o.CloseGrace, 5*time.Second)
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Stats counts what an engine holds.
type Stats struct {
	Datagrams    int    // open UDP sockets
	WebSockets   int    // open WebSockets
	Paces        int    // running Paces
	SkippedSlots uint64 // due times given up after stalls, since the engine was opened
}

// DatagramStats counts since the socket was taken over. Bytes are UDP payload.
type DatagramStats struct {
	Received, ReceivedBytes uint64
	Sent, SentBytes         uint64
	SendErrors, ReadErrors  uint64
	Oversized               uint64 // datagrams over 2048 bytes, dropped
}

// WebSocketStats counts since the connection was taken over. Bytes are message payload.
type WebSocketStats struct {
	Received, ReceivedBytes uint64
	Sent, SentBytes         uint64
	DroppedFull             uint64        // Media messages dropped because the queue was full
	DroppedOld              uint64        // Media messages dropped because they waited too long
	DroppedClosing          uint64        // messages of both classes still queued when the connection ended
	Pending, PendingBytes   int           // messages queued now, and their payload
	Pings, Pongs            uint64        // pings we sent, pongs that answered them
	RTT                     time.Duration // of the last ping answered; 0: none yet
}

// Auto chooses the best backend the host allows.
const Auto = "auto"

const netpollName = "netpoll"

// Options choose the backend.
type Options struct {
	// Backend is Auto (also when empty) or one of Backends.
	Backend string
}

// Backends lists the backends of this build, best first.
func Backends() []string { return []string{netpollName} }

// Open starts an engine.
func Open(o Options) (Engine, error) {
	switch o.Backend {
	case "", Auto, netpollName:
		return openNetpoll(NewClock()), nil
	}
	return nil, fmt.Errorf("unknown i/o backend %q: use %s", o.Backend,
		strings.Join(slices.Concat([]string{Auto}, Backends()), " or "))
}
