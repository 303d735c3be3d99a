package admission

import (
	"fmt"
	"time"

	"github.com/patchbay/patchbay/core/config"
)

// Inspection is what the router would do with a request.
type Inspection struct {
	// Admitted says whether it would be let in.
	Admitted bool
	// Refusal is the first thing in its way; nil when Admitted.
	Refusal *Refusal
	// Lines say in words what was found, one finding each. They hold no
	// secret and no token.
	Lines []string
}

// Inspect says in words what Admit would do with a request now, without
// reserving, spending or counting anything. It is for the operator, who may
// know why: it goes on after a refusal as far as the request can be judged.
func (g *Gate) Inspect(now time.Time, req Request) Inspection {
	c := &claimant{policy: g.policy.Load(), req: &req, now: now}
	var out Inspection
	for _, step := range checks() {
		refusal := step.run(c)
		if refusal == nil {
			out.say(step.name, c.words(step.name))
			continue
		}
		out.refuse(step.name, refusal)
		if c.app == nil && step.name == "credential" {
			return out // without an app the rest cannot be judged
		}
	}
	g.mu.Lock()
	refusal := g.limits(c, false)
	g.mu.Unlock()
	if refusal != nil {
		out.refuse("limits", refusal)
	} else {
		out.say("limits", "there is room for the call")
	}
	out.Admitted = out.Refusal == nil
	if out.Admitted {
		out.Lines = append(out.Lines, "the call would be admitted and placed by "+c.route.To)
	}
	return out
}

func (i *Inspection) say(step, words string) {
	if words != "" {
		i.Lines = append(i.Lines, step+": "+words)
	}
}

func (i *Inspection) refuse(step string, r *Refusal) {
	i.Lines = append(i.Lines, fmt.Sprintf("%s: refused (%s): %s", step, r.Reason, r.Detail))
	if i.Refusal == nil {
		i.Refusal = r
	}
}

// words says what a passed check found.
func (c *claimant) words(step string) string {
	switch step {
	case "form":
		if c.number == "" {
			return "the number is a URI, as a monitored stream may have it"
		}
		if c.number != c.req.Number {
			return fmt.Sprintf("the number %q is read as %s", c.req.Number, c.number)
		}
		return "the number is " + c.number
	case "credential":
		return c.credentialWords()
	case "permission":
		return "app " + c.app.Name + " may use this bot, account and number"
	case "mode":
		return "a call with a bot"
	case "route":
		return fmt.Sprintf("routes[%d] leads from %s to %s", c.route.index, c.route.From, c.route.To)
	}
	return ""
}

func (c *claimant) credentialWords() string {
	if c.app.Auth == config.AuthPeer {
		return "the address belongs to app " + c.app.Name
	}
	text := fmt.Sprintf("signed by app %s with secret %d of %d", c.app.Name, c.secret+1, len(c.app.secrets))
	if c.claims == nil {
		return text
	}
	if c.claims.ExpiresAt == nil {
		text += ", never expires"
	} else {
		text += ", expires " + c.claims.ExpiresAt.UTC().Format(time.RFC3339)
	}
	if c.claims.SIPURI == "" && c.claims.BotID == "" && c.claims.AccountID == "" {
		return text + ", bound to nothing: it works for every bot, account and number of the app"
	}
	return text + ", bound to what it was made for"
}
