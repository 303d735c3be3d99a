package sim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// ErrOptions is wrapped by every error of Run that the caller's Options cause; there was no attempt to connect then.
var ErrOptions = errors.New("bad simulator options")

// What Options leaves at zero becomes one of these.
const (
	defaultPtime     = 20 * time.Millisecond
	defaultPrebuffer = 40 * time.Millisecond
	defaultLinger    = 200 * time.Millisecond
	defaultCloseWait = 5 * time.Second
	defaultDialWait  = 10 * time.Second
	defaultMaxAudio  = 64 << 20
	defaultAccount   = "6471145ddb28af66d74fee31"
)

// Options say whom to call and how to behave. Only URL is needed; the zero value of every other field is a well-behaved platform
// with a silent caller who stays until the gateway ends the call. All times are counted from the moment start was sent.
type Options struct {
	// URL is the stream URL, ws or wss, with its query. It is a secret: no report or error repeats the query.
	URL string
	// Header is added to the upgrade request, for what a proxy in front of the gateway would add.
	Header http.Header
	// TLS is used for wss; nil means the system's roots and TLS 1.2 or later.
	TLS *tls.Config
	// Dial opens the TCP connection; nil means the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// StreamSID, CallSID and AccountSID identify the stream; empty means random ones (a fixed one for the account).
	StreamSID, CallSID, AccountSID string
	// Params are added to start's customParameters and replace default ones of the same name.
	Params map[string]string

	// Play is what the caller says: G.711 µ-law, 8 kHz, mono. Silence follows it, or itself again with Loop.
	Play []byte
	// Loop plays Play over and over.
	Loop bool
	// Ptime is the audio in one media message, whole milliseconds; default 20 ms.
	Ptime time.Duration
	// Jitter is the most by which frames are sent late; held frames leave together, in order.
	Jitter time.Duration
	// Stalls hold back all frames for a while.
	Stalls []Stall
	// Seed makes Jitter repeatable.
	Seed uint64
	// DTMF are the digits the caller presses.
	DTMF []Keys

	// HangupAfter, when positive, is when the caller hangs up, in the way Hangup says.
	HangupAfter time.Duration
	// Hangup says how the platform ends the stream when the caller hangs up.
	Hangup HangupMode
	// DropAfter, when positive, is when the TCP connection is cut without stop or close frame.
	DropAfter time.Duration
	// DropReset cuts by a TCP reset in place of an orderly FIN.
	DropReset bool
	// Timeout, when positive, bounds the call; over it the outcome is "timeout".
	Timeout time.Duration

	// Commands are the words expected in stop.command; empty ones mean ok, error and escalate.
	Commands Commands
	// Prebuffer is how much audio the platform holds before it starts to play; default 40 ms, negative means none.
	Prebuffer time.Duration
	// AfterStop says who closes once the gateway has sent its stop.
	AfterStop AfterStop
	// Linger is how long the platform goes on reading after the gateway's stop before it closes; default 200 ms, negative means none.
	Linger time.Duration
	// CloseWait bounds the wait for the gateway's part of the closing handshake; default 5 s.
	CloseWait time.Duration
	// MaxAudio bounds each of Report.Received and Report.Heard, in bytes; default 64 MiB (over two hours), negative keeps none.
	MaxAudio int

	// Faults are permanent misbehaviours of this platform.
	Faults Faults
	// Script is what else happens, and when; see Step.
	Script []Step
	// Control takes actions while the call runs; it may be nil and is never closed by Run.
	Control <-chan Action
	// Observe is called for every message sent and received, one at a time. It must not block.
	Observe func(Event)
	// Trace, when set, gets a line for each message but media.
	Trace io.Writer
}

// Stall holds frames due from At on for the length For, and then sends them at once.
type Stall struct{ At, For time.Duration }

// Keys are digits pressed from At on, one each Gap (default 200 ms).
type Keys struct {
	At     time.Duration
	Gap    time.Duration
	Digits string
}

// HangupMode is how the platform ends the stream when the caller hangs up; all three are known to occur.
type HangupMode uint8

// The ways of hanging up.
const (
	// HangupStopClose sends stop and at once the close frame.
	HangupStopClose HangupMode = iota
	// HangupStop sends stop and leaves the closing to the gateway, for at most CloseWait.
	HangupStop
	// HangupClose sends the close frame alone.
	HangupClose
)

// AfterStop is what the platform does once it has the gateway's stop. The vendor does not say, so all must work.
type AfterStop uint8

// The ways of ending after the gateway's stop.
const (
	// AfterStopClose closes after Linger.
	AfterStopClose AfterStop = iota
	// AfterStopEcho sends a stop of its own after Linger, then closes.
	AfterStopEcho
	// AfterStopWait leaves the closing to the gateway, for at most CloseWait.
	AfterStopWait
)

// Commands are the words of stop.command for the three exits of the flow's step.
type Commands struct{ OK, Error, Escalate string }

// Faults are misbehaviours that last for the whole call.
type Faults struct {
	// IgnorePings leaves the gateway's pings without pong.
	IgnorePings bool
	// Binary sends every message as a binary frame.
	Binary bool
	// FragmentSize, when positive, splits every message into WebSocket fragments of at most this many bytes.
	FragmentSize int
	// ReceiveBuffer, when positive, is the socket's receive buffer in bytes, so that a stopped reader is felt soon.
	ReceiveBuffer int
	// NumbersAsNumbers writes sequenceNumber, chunk and timestamp as JSON numbers.
	NumbersAsNumbers bool
	// NoStreamSID leaves streamSid out at the top level (start keeps its inner one).
	NoStreamSID bool
	// Opening replaces connected and start, message by message; non-nil and empty means that nothing is sent.
	Opening []string
	// NoMedia sends no audio at all.
	NoMedia bool
}

// target is the URL without what is secret in it, for reports and errors.
func (o *Options) target() (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil { // the parser's error repeats the URL, token and all
		return "", fmt.Errorf("%w: the stream URL does not parse; quote it in the shell and check its percent escapes", ErrOptions)
	}
	if u.Scheme != "ws" && u.Scheme != "wss" {
		return "", fmt.Errorf("%w: the stream URL has the scheme %q; use ws:// or wss://", ErrOptions, u.Scheme)
	}
	if u.Hostname() == "" {
		return "", fmt.Errorf("%w: the stream URL names no host", ErrOptions)
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath(), nil
}

// fill checks o and replaces zero values by defaults.
func (o *Options) fill() error {
	setDefault(&o.Ptime, defaultPtime)
	setDefault(&o.Prebuffer, defaultPrebuffer)
	setDefault(&o.Linger, defaultLinger)
	setDefault(&o.CloseWait, defaultCloseWait)
	setDefault(&o.MaxAudio, defaultMaxAudio)
	setDefault(&o.Commands.OK, "ok")
	setDefault(&o.Commands.Error, "error")
	setDefault(&o.Commands.Escalate, "escalate")
	setDefault(&o.AccountSID, defaultAccount)
	o.Prebuffer, o.Linger, o.MaxAudio = max(0, o.Prebuffer), max(0, o.Linger), max(0, o.MaxAudio)
	switch {
	case o.Ptime < time.Millisecond || o.Ptime > time.Second || o.Ptime%time.Millisecond != 0:
		return fmt.Errorf("%w: a frame of %v; use whole milliseconds from 1ms to 1s", ErrOptions, o.Ptime)
	case o.Jitter < 0 || o.HangupAfter < 0 || o.DropAfter < 0 || o.Timeout < 0 || o.CloseWait < 0:
		return fmt.Errorf("%w: a negative time", ErrOptions)
	case o.Faults.FragmentSize < 0 || o.Faults.ReceiveBuffer < 0:
		return fmt.Errorf("%w: a negative size", ErrOptions)
	case o.Loop && len(o.Play) == 0:
		return fmt.Errorf("%w: nothing to loop; name a file to play", ErrOptions)
	}
	for _, st := range o.Stalls {
		if st.At < 0 || st.For <= 0 {
			return fmt.Errorf("%w: a stall at %v for %v; its start must not be negative and its length must be above zero", ErrOptions, st.At, st.For)
		}
	}
	for _, k := range o.DTMF {
		if err := k.check(); err != nil {
			return err
		}
	}
	return o.identify()
}

// identify draws the identifiers that o leaves open.
func (o *Options) identify() error {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("draw stream identifiers: %w", err)
	}
	setDefault(&o.StreamSID, "MZ"+hex.EncodeToString(b[:16]))
	setDefault(&o.CallSID, "CA"+hex.EncodeToString(b[16:]))
	params := map[string]string{
		"interaction_id": uuid.NewString(),
		"account_id":     o.AccountSID,
		"caller_id":      "+15551234567",
		"type":           "bot",
		"business_hours": "",
	}
	maps.Copy(params, o.Params)
	o.Params = params
	return nil
}

func (k Keys) check() error {
	if k.At < 0 || k.Gap < 0 || k.Digits == "" {
		return fmt.Errorf("%w: digits %q at %v; name at least one digit and no negative time", ErrOptions, k.Digits, k.At)
	}
	for _, d := range k.Digits {
		if !isDigit(d) {
			return fmt.Errorf("%w: %q is no DTMF digit; use 0-9, *, # and A-D", ErrOptions, d)
		}
	}
	return nil
}

func isDigit(d rune) bool {
	return d >= '0' && d <= '9' || d >= 'A' && d <= 'D' || d == '*' || d == '#'
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
