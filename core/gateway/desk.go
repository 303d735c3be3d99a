package gateway

import (
	"errors"
	"net/netip"
	"time"

	"github.com/patchbay/patchbay/core/admission"
	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/router"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// desk lets the router ask the gate in the contract's terms.
type desk struct{ gate *admission.Gate }

// seat is a reservation in the router's terms.
type seat struct{ r *admission.Reservation }

func (s seat) App() string                     { return s.r.App }
func (s seat) Route() config.Route             { return s.r.Route }
func (s seat) PlatformAccount(id string) error { return s.r.CheckPlatformAccount(id) }
func (s seat) Release()                        { s.r.Release() }

// Admit implements router.Desk.
func (d desk) Admit(now time.Time, ingress string, m *pluginv1.Admit) (router.Seat, *pluginv1.Refused) {
	r, err := d.gate.Admit(now, request(ingress, m))
	if err == nil {
		m.Number = r.Number // canonical from here on
		return seat{r}, nil
	}
	var refusal *admission.Refusal
	if !errors.As(err, &refusal) {
		return nil, &pluginv1.Refused{Reason: pluginv1.RefusedReason_REFUSED_REASON_BUSY, Detail: err.Error()}
	}
	return nil, &pluginv1.Refused{
		Reason:       reason(refusal.Reason),
		RetryAfterMs: uint32(max(refusal.RetryAfter.Milliseconds(), 0)),
		Detail:       refusal.Detail,
	}
}

func request(ingress string, m *pluginv1.Admit) admission.Request {
	// An address that is none stays invalid: the gate treats it as unknown.
	remote, _ := netip.ParseAddr(m.GetRemoteAddress())
	return admission.Request{
		Ingress: ingress, Credential: credential(m.GetCredential()), Number: m.GetNumber(),
		Bot: m.GetBot(), Account: m.GetAccount(), Mode: m.GetMode(),
		Parameters: m.GetParameters(), Remote: remote,
	}
}

func credential(c *pluginv1.Credential) admission.Credential {
	switch k := c.GetKind().(type) {
	case *pluginv1.Credential_Jwt:
		if k.Jwt == "" {
			return admission.Credential{}
		}
		return admission.Credential{Kind: admission.CredentialJWT, Token: k.Jwt}
	case *pluginv1.Credential_Hmac:
		return admission.Credential{
			Kind: admission.CredentialHMAC, Scheme: k.Hmac.GetScheme(), KeyID: k.Hmac.GetKeyId(),
			Signed: k.Hmac.GetSigned(), Signature: k.Hmac.GetSignature(),
		}
	case *pluginv1.Credential_Peer:
		addr, _ := netip.ParseAddr(k.Peer.GetAddress())
		return admission.Credential{Kind: admission.CredentialPeer, Address: addr}
	}
	return admission.Credential{}
}

// reason maps the gate's reasons to the contract's, which says less: a plugin
// need not tell two kinds of "busy" apart.
func reason(r admission.Reason) pluginv1.RefusedReason {
	switch r {
	case admission.ReasonMalformed:
		return pluginv1.RefusedReason_REFUSED_REASON_MALFORMED
	case admission.ReasonUnauthenticated:
		return pluginv1.RefusedReason_REFUSED_REASON_UNAUTHENTICATED
	case admission.ReasonForbidden:
		return pluginv1.RefusedReason_REFUSED_REASON_FORBIDDEN
	case admission.ReasonUnsupported:
		return pluginv1.RefusedReason_REFUSED_REASON_UNSUPPORTED
	case admission.ReasonNoRoute:
		return pluginv1.RefusedReason_REFUSED_REASON_NO_ROUTE
	case admission.ReasonTooManyBadTokens, admission.ReasonAppQuota:
		return pluginv1.RefusedReason_REFUSED_REASON_QUOTA
	case admission.ReasonDraining:
		return pluginv1.RefusedReason_REFUSED_REASON_DRAINING
	case admission.ReasonNodeLimit, admission.ReasonRate:
		return pluginv1.RefusedReason_REFUSED_REASON_BUSY
	}
	return pluginv1.RefusedReason_REFUSED_REASON_UNSPECIFIED
}
