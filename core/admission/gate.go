package admission

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/patchbay/patchbay/core/config"
)

const (
	// retryQuota and retryDrain are guesses at when a place is free again: a
	// call lasts minutes, another node takes over in seconds.
	retryQuota = 10 * time.Second
	retryDrain = 5 * time.Second
)

// Gate admits requests within the limits of a configuration. It is safe for
// concurrent use; its lock is held for counting only, never while a credential
// is verified.
type Gate struct {
	policy  atomic.Pointer[policy]
	sources *sources

	mu       sync.Mutex
	inUse    int
	byApp    map[string]int
	rate     *rate.Limiter
	draining bool
}

// NewGate returns a gate for a configuration.
func NewGate(cfg *config.Config) *Gate {
	g := &Gate{
		sources: newSources(),
		byApp:   map[string]int{},
		rate:    rate.NewLimiter(rate.Limit(cfg.Limits.CallsPerSecond), cfg.Limits.CallsPerSecond),
	}
	g.policy.Store(newPolicy(cfg))
	return g
}

// Update puts another configuration in place, for new requests. Calls in use
// stay counted, also those of an app that is no longer there.
func (g *Gate) Update(cfg *config.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy.Store(newPolicy(cfg))
	g.rate.SetLimit(rate.Limit(cfg.Limits.CallsPerSecond))
	g.rate.SetBurst(cfg.Limits.CallsPerSecond)
}

// Drain refuses every new request from now on. What is in use stays.
func (g *Gate) Drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
}

// Draining reports whether Drain was called.
func (g *Gate) Draining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining
}

// InUse returns the number of calls reserved or running.
func (g *Gate) InUse() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inUse
}

// InUseBy returns an app's share of InUse.
func (g *Gate) InUseBy(app string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byApp[app]
}

// Admit checks a request and reserves its place. The error is a *Refusal. The
// caller must Release the reservation, whatever becomes of the call.
func (g *Gate) Admit(now time.Time, req Request) (*Reservation, error) {
	c := &claimant{policy: g.policy.Load(), req: &req, now: now}
	for _, step := range checks() {
		refusal := step.run(c)
		if refusal == nil {
			continue
		}
		if refusal.Reason == ReasonUnauthenticated {
			g.slowDown(now, c, refusal)
		}
		return nil, refusal
	}
	if refusal := g.reserve(c); refusal != nil {
		return nil, refusal
	}
	return &Reservation{
		gate: g, App: c.app.Name, Number: c.number, Bot: req.Bot, Account: req.Account,
		Route: c.route.Route, platformAccounts: c.app.PlatformAccounts,
	}, nil
}

// slowDown turns a refusal into "too many" when bad credentials come too fast
// from one address. It comes after verifying, not before: a platform sends all
// its customers' streams from a few addresses, and one stale URL among them
// must not lock the others out.
func (g *Gate) slowDown(now time.Time, c *claimant, refusal *Refusal) {
	if wait := g.sources.spend(now, c.req.Remote); wait > 0 {
		refusal.Reason, refusal.RetryAfter = ReasonTooManyBadTokens, wholeSeconds(wait)
	}
}

// reserve takes a place, or says which limit stands against it. The rate is
// spent last, so that only a call that begins costs any.
func (g *Gate) reserve(c *claimant) *Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	if refusal := g.limits(c, true); refusal != nil {
		return refusal
	}
	g.inUse++
	g.byApp[c.app.Name]++
	return nil
}

// limits checks quota, node limit, rate and drain in this order. spend takes
// the rate's token; without it nothing changes. The lock is held.
func (g *Gate) limits(c *claimant, spend bool) *Refusal {
	switch tokens := g.rate.TokensAt(c.now); {
	case g.byApp[c.app.Name] >= c.app.MaxCalls:
		return &Refusal{ReasonAppQuota, retryQuota, "app " + c.app.Name + " has all its calls in use"}
	case g.inUse >= c.policy.limits.MaxCalls:
		return &Refusal{ReasonNodeLimit, retryQuota, "the node has all its calls in use"}
	case tokens < 1:
		return g.tooFast(tokens)
	case g.draining:
		return &Refusal{ReasonDraining, retryDrain, "the node takes no new calls"}
	case spend && !g.rate.AllowN(c.now, 1):
		return g.tooFast(tokens) // clocks of two requests crossed
	}
	return nil
}

func (g *Gate) tooFast(tokens float64) *Refusal {
	wait := time.Duration((1 - tokens) / float64(g.rate.Limit()) * float64(time.Second))
	return &Refusal{ReasonRate, wholeSeconds(wait), "calls begin faster than limits.calls_per_second"}
}

// wholeSeconds rounds up to what a Retry-After header can say.
func wholeSeconds(d time.Duration) time.Duration {
	return time.Duration(max(1, math.Ceil(d.Seconds()))) * time.Second
}

// Reservation is a place for one call. Its fields do not change.
type Reservation struct {
	// App is the name of the app that was admitted.
	App string
	// Number is the canonical number to dial.
	Number string
	// Bot and Account are the request's.
	Bot, Account string
	// Route leads the call on.
	Route config.Route

	gate             *Gate
	platformAccounts []string
	released         atomic.Bool
}

// Release gives the place back. Only the first call does anything.
func (r *Reservation) Release() {
	if r.released.Swap(true) {
		return
	}
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	r.gate.inUse--
	if r.gate.byApp[r.App]--; r.gate.byApp[r.App] == 0 {
		delete(r.gate.byApp, r.App)
	}
}

// CheckPlatformAccount checks the id of the platform's own account, which many
// platforms tell only after the upgrade. The error is a *Refusal.
func (r *Reservation) CheckPlatformAccount(id string) error {
	if len(r.platformAccounts) == 0 || slices.Contains(r.platformAccounts, id) {
		return nil
	}
	return refuse(ReasonForbidden, "the platform's account is not among app "+r.App+"'s platform_accounts")
}
