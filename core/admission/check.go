package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/patchbay/patchbay/core/admission/number"
	"github.com/patchbay/patchbay/core/config"
)

// maxID bounds a bot's or account's id.
const maxID = 256

// claimant is a request on its way through the checks, with what they found.
type claimant struct {
	policy *policy
	req    *Request
	now    time.Time
	number string
	app    *app
	claims *tokenClaims
	secret int
	route  *route
}

// check is one step: nil, or why the request is refused.
type check struct {
	name string
	run  func(*claimant) *Refusal
}

// checks are the steps that spend nothing, in their order.
func checks() []check {
	return []check{
		{"form", (*claimant).checkForm},
		{"credential", (*claimant).authenticate},
		{"permission", (*claimant).authorize},
		{"mode", (*claimant).checkMode},
		{"route", (*claimant).findRoute},
	}
}

func (c *claimant) checkForm() *Refusal {
	switch c.req.Mode {
	case "", ModeBot, ModeMonitor:
	default:
		return refuse(ReasonMalformed, "the mode is neither bot nor monitor")
	}
	for _, id := range []struct{ name, value string }{{"bot", c.req.Bot}, {"account", c.req.Account}} {
		if len(id.value) > maxID || !utf8.ValidString(id.value) || strings.ContainsFunc(id.value, isControl) {
			return refuse(ReasonMalformed, "the "+id.name+"'s id is too long or has control characters")
		}
	}
	canonical, err := number.Normalize(c.req.Number)
	switch {
	case err == nil:
		c.number = canonical
	case c.req.Number == "":
		return refuse(ReasonMalformed, "no number")
	case c.req.Mode == ModeMonitor:
		// A monitored stream may be given as a URI; it is never dialed.
	default:
		return refuse(ReasonMalformed, "the number "+err.Error())
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (c *claimant) authenticate() *Refusal {
	switch c.req.Credential.Kind {
	case CredentialNone:
	case CredentialJWT:
		return c.verifyToken()
	case CredentialHMAC:
		return c.verifyHMAC()
	case CredentialPeer:
		return c.verifyPeer()
	}
	return refuse(ReasonUnauthenticated, "no credential")
}

// verifyPeer knows an app by its address. Beyond this host an address proves
// nothing, so both the peer and the request must be on loopback.
func (c *claimant) verifyPeer() *Refusal {
	peer := c.req.Credential.Address.Unmap()
	if !peer.IsLoopback() || !c.req.Remote.Unmap().IsLoopback() {
		return refuse(ReasonUnauthenticated, "the peer is not on this host")
	}
	for _, a := range c.policy.apps {
		if a.Auth == config.AuthPeer && containsAddr(a.peers, peer) {
			c.app = a
			return nil
		}
	}
	return refuse(ReasonUnauthenticated, "no app has the peer's address")
}

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// authorize checks what the app may ask for, and then what its token binds the
// request to.
func (c *claimant) authorize() *Refusal {
	app := c.app
	switch {
	case !permits(app.Bots, c.req.Bot):
		return refuse(ReasonForbidden, "the bot is not among app "+app.Name+"'s bots")
	case !permits(app.Accounts, c.req.Account):
		return refuse(ReasonForbidden, "the account is not among app "+app.Name+"'s accounts")
	case c.number != "" && !permitsNumber(app.Numbers, c.number):
		return refuse(ReasonForbidden, "the number is not among app "+app.Name+"'s numbers")
	}
	if c.claims == nil {
		return nil
	}
	if bound := c.claims.SIPURI; bound != "" {
		canonical, err := number.Normalize(bound)
		same := err == nil && canonical == c.number
		if c.number == "" { // a monitored URI: compared as it stands
			same = bound == c.req.Number
		}
		if !same {
			return refuse(ReasonForbidden, "the token is for another number")
		}
	}
	if c.claims.BotID != "" && c.claims.BotID != c.req.Bot {
		return refuse(ReasonForbidden, "the token is for another bot")
	}
	if c.claims.AccountID != "" && c.claims.AccountID != c.req.Account {
		return refuse(ReasonForbidden, "the token is for another account")
	}
	return nil
}

func (c *claimant) checkMode() *Refusal {
	if c.req.Mode == ModeMonitor {
		return refuse(ReasonUnsupported, "monitored streams are not built yet")
	}
	return nil
}

func (c *claimant) findRoute() *Refusal {
	c.route = c.policy.route(c)
	if c.route == nil {
		return refuse(ReasonNoRoute, fmt.Sprintf("none of %d routes matches a call from %s by app %s", len(c.policy.routes), c.req.Ingress, c.app.Name))
	}
	return nil
}
