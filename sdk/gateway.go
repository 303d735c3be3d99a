package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Gateway is what core offers an ingress provider.
type Gateway interface {
	// Admit asks whether a call may come in. It may be asked at any point
	// before Offer: before the platform's connection is accepted where all is
	// known then, or later. A refusal is a [*Refusal]. When core does not
	// answer within 2 s the refusal's reason is RefusedBusy.
	Admit(ctx context.Context, req AdmitRequest) (Admission, error)
}

// AdmitRequest describes a call that wants in.
type AdmitRequest struct {
	Credential Credential
	Number     string            // canonical: '+' and 3 to 15 digits
	Bot        string            //
	Account    string            //
	Mode       string            // ModeBot or ModeMonitor
	Parameters map[string]string // everything else; never the token
	Remote     string            // IP address of the platform's end
}

// Credential is what the platform presented: exactly one of its fields is set.
// Core verifies it; a plugin never sees the app's secret.
type Credential struct {
	JWT  string
	HMAC *HMAC
	Peer string // IP address, for local ingress only
}

// HMAC is a signature over bytes the platform signed.
type HMAC struct {
	Scheme    string // e.g. "sha256"
	KeyID     string
	Signed    []byte
	Signature []byte
}

// RefusalReason says why a call may not come in.
type RefusalReason int

// The reasons of the contract (calls.proto).
const (
	RefusedMalformed       RefusalReason = iota + 1 // the request makes no sense
	RefusedUnauthenticated                          // no or bad credential
	RefusedForbidden                                // bot, account or number not allowed
	RefusedUnsupported                              // a mode that is not built
	RefusedNoRoute                                  // nothing to call
	RefusedQuota                                    // the app's own quota; too many bad tokens
	RefusedBusy                                     // the node is full, or too fast
	RefusedDraining                                 // the node takes no new calls
)

// Refusal is a call that may not come in. The plugin turns it into what its
// platform understands.
type Refusal struct {
	Reason     RefusalReason
	RetryAfter time.Duration // 0: no use in retrying soon
	Detail     string        // for the log; holds no secret
}

// Error implements error.
func (r *Refusal) Error() string {
	return fmt.Sprintf("call refused (%s): %s", r.Reason, r.Detail)
}

// String is the reason's word in logs and metrics.
func (r RefusalReason) String() string {
	names := [...]string{
		"unknown", "malformed", "unauthenticated", "forbidden", "unsupported",
		"no_route", "quota", "busy", "draining",
	}
	if r < 0 || int(r) >= len(names) {
		return names[0]
	}
	return names[r]
}

// Admission is a reserved place for one call. It lapses after 15 s without
// Offer.
type Admission interface {
	CallID() string
	// Offer brings the leg. From now on the gateway places the other one.
	// frames is called for each frame toward the platform, one at a time, from
	// the media reader: it must not block, and keeps no payload.
	Offer(o Offer, frames func(*Frame)) (IngressLeg, error)
	// Withdraw gives the place back. After Offer it does nothing.
	Withdraw()
}

// Offer is what the platform said of its call.
type Offer struct {
	Caller          string            // anything but '+' and digits is anonymous
	PlatformAccount string            // the platform's own account id
	PlatformCallID  string            // the platform's id of the conversation
	Parameters      map[string]string // the admission's own win over them
}

// ErrLegEnded is an operation on a leg or admission that is over.
var ErrLegEnded = errors.New("the leg has ended")

// Leg is what both kinds of leg have. Its methods may be called from any
// goroutine and never block.
type Leg interface {
	CallID() string
	Streams() []Stream
	// Write sends a frame to the other side; the payload is copied. Frames of
	// one stream are written by one goroutine at a time.
	Write(f Frame)
	// Hold says that the peer holds: its silence is no fault until Resumed.
	Hold()
	Resumed()
	// Event adds a line to the call's ladder: what crossed the provider's
	// wire, e.g. "INVITE". No secret.
	Event(outbound bool, text string)
}

// IngressLeg is the platform's side of a call.
type IngressLeg interface {
	Leg
	// Answered is closed when the other side has answered.
	Answered() <-chan struct{}
	// Finished yields exactly one value when the call is over for the
	// platform, once all media before it has been handed to frames (or 200 ms
	// have passed). End follows when the platform has been told.
	Finished() <-chan Finish
	// End ends the leg; the first call counts. Every leg must be ended.
	End(e Ending)
}

// Finish tells the platform how the call came out.
type Finish struct {
	Result      string // ResultOK, ResultError or ResultEscalate
	Target      string // for ResultEscalate: where to
	Variables   map[string]string
	Termination Termination // why the call ended
}

// The results a call can have for the platform.
const (
	ResultOK       = "ok"
	ResultError    = "error"
	ResultEscalate = "escalate"
)

// EgressLeg is the side of a call that we placed.
type EgressLeg interface {
	Leg
	// OnFrame sets what is called for each frame toward the peer, one at a
	// time, from the media reader: it must not block, and keeps no payload.
	// Frames before it are lost.
	OnFrame(fn func(*Frame))
	// Progress says that the far side is being reached (status e.g. 180), and
	// whether frames may come before the answer.
	Progress(status int, earlyMedia bool)
	// Answer says that the far side has answered.
	Answer(headers []Header)
	// Transfer says that the far side wants the call elsewhere. The leg ends
	// when Place returns.
	Transfer(target string, headers []Header)
	// Checkpoint leaves with core what Resume needs; the last one counts.
	Checkpoint(state []byte)
}

// hangup is the cause a leg's context ends with.
type hangup struct{ Termination }

func (h *hangup) Error() string { return "gateway hung up: " + h.String() }

// HangupCause tells why the context given to Place ended.
func HangupCause(ctx context.Context) Termination {
	if h, ok := errors.AsType[*hangup](context.Cause(ctx)); ok {
		return h.Termination
	}
	return Termination{Who: GatewayItself, Reason: ReasonLost, Detail: "the gateway is gone"}
}

// WithHangup returns a context as Place gets it and the function that hangs
// up, for tests of a provider.
func WithHangup(parent context.Context) (context.Context, func(Termination)) {
	ctx, cancel := context.WithCancelCause(parent)
	return ctx, func(t Termination) { cancel(&hangup{t}) }
}
