// Package admission decides who may stream in and what they may dial: it
// verifies credentials, checks what the app is allowed, finds the route and
// reserves a place within the app's and the node's limits. Every provider has
// all of it for free; no plugin sees an app's secret.
//
// The checks run in one fixed order, each refusal with its Reason: malformed,
// unauthenticated, forbidden, unsupported, no route, the app's quota, the
// node's limit, rate, drain. Nothing is spent on a request before it is
// authenticated.
package admission

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/patchbay/patchbay/core/admission/number"
)

// The modes of a stream.
const (
	// ModeBot joins the caller to a bot. An empty mode means the same.
	ModeBot = "bot"
	// ModeMonitor only listens; it is refused until it is built.
	ModeMonitor = "monitor"
)

// Request is what an ingress plugin knows about a stream that wants in.
type Request struct {
	// Ingress is the plugin instance that asks.
	Ingress string
	// Credential says who is asking.
	Credential Credential
	// Number is what to dial, in any spelling NormalizeNumber takes.
	Number string
	// Bot and Account are the ids of the bot and of its owner's account; empty
	// where the platform has none.
	Bot, Account string
	// Mode is ModeBot or ModeMonitor.
	Mode string
	// Parameters are all others of the URL or first message, for routes. They
	// never hold the credential.
	Parameters map[string]string
	// Remote is the address the request came from.
	Remote netip.Addr
}

// CredentialKind is how a credential proves who is asking.
type CredentialKind int

// The kinds of credentials.
const (
	// CredentialNone is no credential; it is refused.
	CredentialNone CredentialKind = iota
	// CredentialJWT is a signed token (RFC 7519).
	CredentialJWT
	// CredentialHMAC is a signature over parts of the request.
	CredentialHMAC
	// CredentialPeer is the sender's address, on this host only.
	CredentialPeer
)

// SchemeHMACSHA256 is HMAC (RFC 2104) with SHA-256 over the signed bytes, the
// one signature scheme there is.
const SchemeHMACSHA256 = "hmac-sha256"

// Credential is what a request proves itself with. It prints without its
// contents.
type Credential struct {
	// Kind says which of the fields count.
	Kind CredentialKind
	// Token is the JWT.
	Token string
	// Scheme, KeyID, Signed and Signature are the HMAC's: what was signed is
	// put together by the plugin, which also sees to its freshness.
	Scheme, KeyID     string
	Signed, Signature []byte
	// Address is the peer's.
	Address netip.Addr
}

// String names the kind, never the contents.
func (c Credential) String() string {
	switch c.Kind {
	case CredentialNone:
	case CredentialJWT:
		return "jwt [hidden]"
	case CredentialHMAC:
		return "hmac [hidden]"
	case CredentialPeer:
		return "peer " + c.Address.String()
	}
	return "none"
}

// Format writes String whatever the verb.
func (c Credential) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, c.String()) }

// LogValue is String.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String, so that no JSON or YAML holds the contents.
func (c Credential) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Reason is why a request was refused. Plugins turn it into what their
// platform understands.
type Reason int

// The reasons, in the order they are checked in.
const (
	// ReasonMalformed: a part of the request is impossible (400).
	ReasonMalformed Reason = iota + 1
	// ReasonUnauthenticated: no or bad credential, or an unknown app (401).
	ReasonUnauthenticated
	// ReasonTooManyBadTokens: bad credentials come too fast from the address
	// (429). A good one from the same address still passes.
	ReasonTooManyBadTokens
	// ReasonForbidden: bot, account or number is not allowed (403).
	ReasonForbidden
	// ReasonUnsupported: the mode is not built (501).
	ReasonUnsupported
	// ReasonNoRoute: no route matches (404).
	ReasonNoRoute
	// ReasonAppQuota: the app has all its calls in use (429).
	ReasonAppQuota
	// ReasonNodeLimit: the node has all its calls in use (503).
	ReasonNodeLimit
	// ReasonRate: too many calls at once (503).
	ReasonRate
	// ReasonDraining: the node takes no new calls (503).
	ReasonDraining
)

// String returns the reason's name, as metrics and records have it.
func (r Reason) String() string {
	switch r {
	case ReasonMalformed:
		return "malformed"
	case ReasonUnauthenticated:
		return "unauthenticated"
	case ReasonTooManyBadTokens:
		return "too_many_bad_tokens"
	case ReasonForbidden:
		return "forbidden"
	case ReasonUnsupported:
		return "unsupported"
	case ReasonNoRoute:
		return "no_route"
	case ReasonAppQuota:
		return "app_quota"
	case ReasonNodeLimit:
		return "node_limit"
	case ReasonRate:
		return "rate"
	case ReasonDraining:
		return "draining"
	}
	return "unknown"
}

// Refusal is why a request was not admitted; the error of Gate.Admit.
type Refusal struct {
	// Reason is the kind of refusal.
	Reason Reason
	// RetryAfter says when to try again; 0 where trying again is no use.
	RetryAfter time.Duration
	// Detail says more, for logs and operators. It holds no secret, but it may
	// tell an unknown app from a bad signature: never send it to the peer.
	Detail string
}

// Error returns the reason and the detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return r.Reason.String()
	}
	return r.Reason.String() + ": " + r.Detail
}

// NormalizeNumber returns text as "+" and 3 to 15 digits. It drops the
// separators "-. ()", takes a leading space for "+", and refuses URIs.
func NormalizeNumber(text string) (string, error) { return number.Normalize(text) }

func refuse(reason Reason, detail string) *Refusal {
	return &Refusal{Reason: reason, Detail: detail}
}
