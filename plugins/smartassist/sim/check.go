package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// maxUDP is the size from which on a request has to go over a congestion-controlled transport where the path's MTU is
// not known (RFC 3261 §18.1.1).
const maxUDP = 1300

// checkRequest returns what is wrong with any request (RFC 3261 §8.1.1), and whether it can be answered at all.
func checkRequest(m *sipmsg.Message) (problems []string, usable bool) {
	bad := func(format string, args ...any) {
		problems = append(problems, m.Method+": "+fmt.Sprintf(format, args...))
	}
	usable = true
	via, err := topVia(m)
	switch {
	case err != nil:
		bad("no usable Via")
		usable = false
	case !strings.HasPrefix(via.Branch(), "z9hG4bK"):
		bad("Via branch without z9hG4bK")
	}
	for _, name := range []string{"From", "To"} {
		a, err := sipmsg.ParseNameAddr(m.Get(name))
		if err != nil || len(m.Values(name)) != 1 {
			bad("no usable %s", name)
			usable = false
		}
		if name == "From" && a.Tag() == "" {
			bad("From without tag")
		}
	}
	if m.Get("Call-ID") == "" {
		bad("no Call-ID")
		usable = false
	}
	if seq, err := sipmsg.ParseCSeq(m.Get("CSeq")); err != nil || seq.Method != m.Method {
		bad("CSeq %q", m.Get("CSeq"))
		usable = false
	}
	if !m.Has("Max-Forwards") {
		bad("no Max-Forwards")
	} else if n, err := strconv.Atoi(m.Get("Max-Forwards")); err != nil || n < 0 || n > 255 {
		bad("Max-Forwards %q", m.Get("Max-Forwards"))
	}
	if len(m.Body) > 0 && m.Get("Content-Type") == "" {
		bad("body without Content-Type")
	}
	if _, err := sipmsg.ParseURI(m.URI); err != nil {
		bad("request-URI is no sip uri")
	}
	return problems, usable
}

// checkInvite adds what only an INVITE must have.
func checkInvite(m *sipmsg.Message, transport string, size int) []string {
	problems, _ := checkRequest(m)
	if _, err := contactOf(m); err != nil {
		problems = append(problems, "INVITE: "+err.Error())
	}
	if transport == udp && size > maxUDP {
		problems = append(problems, fmt.Sprintf("INVITE: %d bytes over UDP, at most %d", size, maxUDP))
	}
	if via, err := topVia(m); err == nil && !strings.EqualFold(via.Transport, transport) {
		problems = append(problems, fmt.Sprintf("INVITE: Via says %s, it came over %s", via.Transport, transport))
	}
	return problems
}

// contactOf returns the URI of the one Contact an INVITE and its answer must have (RFC 3261 §8.1.1.8).
func contactOf(m *sipmsg.Message) (string, error) {
	contacts := m.List("Contact")
	if len(contacts) != 1 {
		return "", fmt.Errorf("%d Contact values, want 1", len(contacts))
	}
	a, err := sipmsg.ParseNameAddr(contacts[0])
	if err != nil {
		return "", fmt.Errorf("contact: %w", err)
	}
	if _, err := sipmsg.ParseURI(a.URI); err != nil {
		return "", fmt.Errorf("contact: %w", err)
	}
	return a.URI, nil
}

// checkInDialog notes what is wrong with a request inside the dialog, and tells whether its tags are the dialog's.
func (c *call) checkInDialog(m *sipmsg.Message) (mine bool) {
	problems, _ := checkRequest(m)
	from, ferr := sipmsg.ParseNameAddr(m.Get("From"))
	to, terr := sipmsg.ParseNameAddr(m.Get("To"))
	mine = ferr == nil && terr == nil && from.Tag() == c.remoteTag && to.Tag() == c.localTag
	if !mine {
		problems = append(problems, m.Method+" with wrong tags")
	}
	// RFC 3261 §12.2.1.1: the request-URI is the remote target, the routes are those of the Record-Route.
	if contact, err := sipmsg.ParseNameAddr(c.contact); mine && err == nil && !sameURI(m.URI, contact.URI) {
		problems = append(problems, fmt.Sprintf("%s: request-URI %s is not the Contact %s", m.Method, m.URI, contact.URI))
	}
	if routes := m.List("Route"); mine && !slices.EqualFunc(routes, c.callerRoutes(), sameAddress) {
		problems = append(problems, fmt.Sprintf("%s: Route %q, want %q", m.Method, routes, c.callerRoutes()))
	}
	for _, p := range problems {
		c.violate("%s", p)
	}
	return mine
}

// sameURI compares what RFC 3261 §19.1.4 compares of two URIs and matters for routing.
func sameURI(a, b string) bool {
	x, errX := sipmsg.ParseURI(a)
	y, errY := sipmsg.ParseURI(b)
	xt, _ := x.Params.Get("transport")
	yt, _ := y.Params.Get("transport")
	_, xlr := x.Params.Get("lr")
	_, ylr := y.Params.Get("lr")
	return errX == nil && errY == nil && x.Scheme == y.Scheme && x.User == y.User && strings.EqualFold(x.Host, y.Host) &&
		x.Port == y.Port && strings.EqualFold(xt, yt) && xlr == ylr
}

func sameAddress(a, b string) bool {
	x, errX := sipmsg.ParseNameAddr(a)
	y, errY := sipmsg.ParseNameAddr(b)
	return errX == nil && errY == nil && sameURI(x.URI, y.URI)
}

// callerRoutes is the Route set the caller has to use: the Record-Route of the response, reversed.
func (c *call) callerRoutes() []string {
	routes := c.recordRoutes()
	slices.Reverse(routes)
	return routes
}

// recordRoutes is what the bot's responses that make a dialog carry: the request's Record-Route, with the bot's own
// on top where it plays a proxy (RFC 3261 §12.1.1, §16.6).
func (c *call) recordRoutes() []string {
	routes := c.invite.List("Record-Route")
	if c.behave.RecordRoute {
		routes = append([]string{"<sip:" + c.bot.local(c.from).String() + c.transportParam() + ";lr>"}, routes...)
	}
	return routes
}

func (c *call) transportParam() string {
	if c.from.transport == udp {
		return ""
	}
	return ";transport=" + strings.ToLower(c.from.transport)
}

// checkSeq notes a CSeq that does not grow (RFC 3261 §12.2.1.1); false means the request is to be refused.
func (c *call) checkSeq(m *sipmsg.Message) bool {
	seq, err := sipmsg.ParseCSeq(m.Get("CSeq"))
	if err != nil {
		return false
	}
	if seq.Number <= c.remoteSeq {
		c.violate("%s: CSeq %d after %d", m.Method, seq.Number, c.remoteSeq)
		return false
	}
	c.remoteSeq = seq.Number
	return true
}

// checkCancel notes how a CANCEL differs from its INVITE (RFC 3261 §9.1).
func (c *call) checkCancel(m *sipmsg.Message, tx *inviteTx) {
	problems, _ := checkRequest(m)
	if m.URI != tx.req.URI {
		problems = append(problems, "CANCEL: request-URI differs from the INVITE's")
	}
	for _, name := range []string{"From", "To", "Call-ID"} {
		if m.Get(name) != tx.req.Get(name) {
			problems = append(problems, "CANCEL: "+name+" differs from the INVITE's")
		}
	}
	if seq, err := sipmsg.ParseCSeq(m.Get("CSeq")); err == nil && seq.Number != tx.seq {
		problems = append(problems, fmt.Sprintf("CANCEL: CSeq %d, the INVITE had %d", seq.Number, tx.seq))
	}
	if !slices.Equal(m.List("Route"), tx.req.List("Route")) {
		problems = append(problems, "CANCEL: Route differs from the INVITE's")
	}
	if len(m.List("Via")) != 1 {
		problems = append(problems, "CANCEL: more than one Via")
	}
	for _, p := range problems {
		c.violate("%s", p)
	}
}
