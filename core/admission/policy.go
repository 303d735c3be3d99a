package admission

import (
	"crypto/rand"
	"net/netip"
	"slices"

	"github.com/patchbay/patchbay/core/admission/number"
	"github.com/patchbay/patchbay/core/config"
)

// policy is the configuration made ready for look-ups. It never changes; a
// reload puts another in its place.
type policy struct {
	apps   []*app
	byID   map[string]*app
	routes []route
	limits config.Limits
	// dummies stand in for the secrets of an app that is not there, so that
	// refusing it takes as long as refusing a bad signature.
	dummies [][]byte
}

// app is an app with its secrets and addresses at hand.
type app struct {
	config.App
	secrets [][]byte
	peers   []netip.Prefix
}

// route is a route with its number pattern read.
type route struct {
	config.Route
	index  int
	number *number.Pattern
}

func newPolicy(cfg *config.Config) *policy {
	p := &policy{byID: map[string]*app{}, limits: cfg.Limits}
	most := 1
	for i := range cfg.Apps {
		a := &app{App: cfg.Apps[i]}
		for _, s := range a.Secrets {
			a.secrets = append(a.secrets, []byte(s.Reveal()))
		}
		most = max(most, len(a.secrets))
		if a.Auth == config.AuthPeer {
			a.peers = peersOf(a.Peers)
		} else {
			p.byID[a.AppID] = a
		}
		p.apps = append(p.apps, a)
	}
	for range most {
		dummy := make([]byte, 32)
		_, _ = rand.Read(dummy) // never fails (crypto/rand)
		p.dummies = append(p.dummies, dummy)
	}
	for i := range cfg.Routes {
		r := route{Route: cfg.Routes[i], index: i}
		if text, has := r.Match["number"]; has {
			// A pattern that cannot be read matches nothing; config refuses it.
			pattern, err := number.ParsePattern(text)
			if err != nil {
				pattern = number.Pattern{}
			}
			r.number = &pattern
		}
		p.routes = append(p.routes, r)
	}
	return p
}

// peersOf reads a peer app's addresses; none means all of loopback.
func peersOf(texts []string) []netip.Prefix {
	if len(texts) == 0 {
		texts = []string{"127.0.0.0/8", "::1"}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if prefix, err := config.ParsePeer(text); err == nil {
			out = append(out, prefix)
		}
	}
	return out
}

// app finds the app that an id names, if it authenticates that way.
func (p *policy) app(id string, auth config.Auth) *app {
	if a := p.byID[id]; a != nil && a.Auth == auth {
		return a
	}
	return nil
}

// keys returns what to verify with: the app's secrets, then dummies, always
// equally many in all, so that the time taken does not say whether the app is
// there or how many secrets it has.
func (p *policy) keys(a *app) [][]byte {
	if a == nil {
		return p.dummies
	}
	return append(slices.Clone(a.secrets), p.dummies[len(a.secrets):]...)
}

// route finds the first that matches.
func (p *policy) route(c *claimant) *route {
	for i := range p.routes {
		if p.routes[i].matches(c) {
			return &p.routes[i]
		}
	}
	return nil
}

func (r *route) matches(c *claimant) bool {
	if r.From != c.req.Ingress {
		return false
	}
	for key, want := range r.Match {
		var holds bool
		switch key {
		case "app":
			holds = c.app != nil && c.app.Name == want
		case "number":
			holds = r.number != nil && r.number.Match(c.number)
		case "bot":
			holds = c.req.Bot == want
		case "account":
			holds = c.req.Account == want
		default:
			got, given := c.req.Parameters[key]
			holds = given && got == want
		}
		if !holds {
			return false
		}
	}
	return true
}

// permits reports whether a list names an id, or any by "*".
func permits(list []string, id string) bool {
	return slices.Contains(list, "*") || id != "" && slices.Contains(list, id)
}

func permitsNumber(list []number.Pattern, canonical string) bool {
	return slices.ContainsFunc(list, func(p number.Pattern) bool { return p.Match(canonical) })
}
