package sdk

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Who ended a leg.
type Who uint8

// The parties that can end a leg.
const (
	WhoUnknown Who = iota
	Caller
	Bot
	Platform
	Plugin
	GatewayItself
)

// String is the word used in records and configuration.
func (w Who) String() string {
	return [...]string{"unknown", "caller", "bot", "platform", "plugin", "gateway"}[min(w, GatewayItself)]
}

// Reason a leg ended for.
type Reason uint8

// The reasons a leg can end for.
const (
	ReasonUnknown  Reason = iota
	ReasonHangup          // somebody hung up
	ReasonTransfer        // the far side wants the call elsewhere
	ReasonFailed          // the leg never came up, or could not go on
	ReasonLost            // the far side vanished
)

// String is the word used in records and configuration.
func (r Reason) String() string {
	return [...]string{"unknown", "hangup", "transfer", "failed", "lost"}[min(r, ReasonLost)]
}

// Termination says who ended a leg and why.
type Termination struct {
	Who    Who
	Reason Reason
	Q850   int    // Q.850 cause, 0 when none
	SIP    int    // SIP status, 0 when none
	Detail string // one line for people; no secret
}

// String renders e.g. "bot hangup (q850 16): bye".
func (t Termination) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", t.Who, t.Reason)
	if t.Q850 != 0 {
		fmt.Fprintf(&b, " q850=%d", t.Q850)
	}
	if t.SIP != 0 {
		fmt.Fprintf(&b, " sip=%d", t.SIP)
	}
	if t.Detail != "" {
		fmt.Fprintf(&b, ": %s", t.Detail)
	}
	return b.String()
}

// Header is one header or variable of a provider's protocol.
type Header struct{ Name, Value string }

// Ending is how a leg ended, with what came along.
type Ending struct {
	Termination
	Headers []Header // e.g. of a BYE
	Target  string   // where a transfer goes
	Stats   LegStats
}

// LegStats are a leg's media figures for the call record.
type LegStats struct {
	FramesIn, FramesOut               uint64 // read from and written to the provider's peer
	Lost, Late, Duplicates, Reordered uint64
	Fills                             uint64            // frames of silence where audio was missing
	Drops                             map[string]uint64 // of what came from the peer, by reason
	DropsOut                          map[string]uint64 // of what was meant for the peer, by reason
	JitterMS, RoundTripMS             float64
	DelayOut                          Delay // a frame's origin to its leaving this leg's socket
}

// Delay summarises a distribution.
type Delay struct {
	P50MS, P99MS, MaxMS float64
	Count               uint64
}

// Role says whose voice a stream carries.
type Role uint8

// The roles a stream can have.
const (
	RoleCaller Role = iota + 1
	RoleAgent
	RoleBot
)

// Direction as the provider that owns the leg sees it.
type Direction uint8

// The directions a stream can have.
const (
	SendRecv Direction = iota + 1
	SendOnly
	RecvOnly
	Inactive
)

// Stream is one flow of frames of a leg.
type Stream struct {
	Role      Role
	Direction Direction
	Codec     string        // RFC 3551 encoding name: "PCMU"
	ClockRate int           // samples per second
	Ptime     time.Duration // media per frame
}

// PCMU8k is the stream of a plain bot call: two-way µ-law, 20 ms frames.
func PCMU8k() Stream {
	return Stream{Role: RoleCaller, Direction: SendRecv, Codec: "PCMU", ClockRate: 8000, Ptime: 20 * time.Millisecond}
}

// Placement is a call to place.
type Placement struct {
	CallID      string
	Destination string // canonical number: '+' and digits
	Caller      string // digits, after a '+' where international; empty when anonymous
	Headers     []Header
	Streams     []Stream
}

// FieldError names one bad value of a configuration block.
type FieldError struct {
	Pointer string // JSON pointer, e.g. "/trunk/targets/0"
	Problem string // what is wrong, lower case, without the key
	Mend    string // what to write instead
}

// Error implements error.
func (e FieldError) Error() string { return e.Pointer + ": " + e.Problem + ": " + e.Mend }

// FieldErrors are all bad values of a block.
type FieldErrors []FieldError

// Error implements error.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// ErrRestartNeeded refuses a new configuration that running sockets cannot take.
var ErrRestartNeeded = errors.New("the change takes effect when the plugin is restarted")
