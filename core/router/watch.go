package router

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// watchEvery is how often running calls are looked at.
const watchEvery = time.Second

// placePatience is how long an egress plugin may place a call: its own time-outs
// are far shorter, so one that takes longer hangs.
const placePatience = 3 * time.Minute

// Watch ends calls that are too long or silent, until ctx ends. One goroutine
// looks after all calls.
func (r *Router) Watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			r.mu.Lock()
			limits := r.limits
			r.mu.Unlock()
			for _, c := range r.all() {
				c.watch(now, limits)
			}
		}
	}
}

func (c *Call) watch(now time.Time, l Limits) {
	if t, over := c.overdue(now, l); over {
		c.log("ending call", "detail", t.Detail)
		c.Hangup(t)
	}
}

// overdue says what is wrong with a call, if anything is.
func (c *Call) overdue(now time.Time, l Limits) (sdk.Termination, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != Placing && c.state != Early && c.state != Answered {
		return sdk.Termination{}, false
	}
	if l.MaxCallDuration > 0 && now.Sub(*c.record.Offered) > l.MaxCallDuration {
		return sdk.Termination{Who: sdk.GatewayItself, Reason: sdk.ReasonHangup, Q850: 102, Detail: "limits.max_call_duration is over"}, true
	}
	if c.state != Answered && now.Sub(*c.record.Offered) > placePatience {
		return sdk.Termination{Who: sdk.Plugin, Reason: sdk.ReasonFailed, Q850: 102, Detail: "plugin " + c.record.Egress + " neither answers nor ends the call"}, true
	}
	if l.SilenceTimeout <= 0 || c.state != Answered || c.ingress.held || c.egress.held {
		return sdk.Termination{}, false
	}
	if c.ingress.silent(&c.bridge.fromIngress, now, l.SilenceTimeout) {
		return sdk.Termination{Who: sdk.Platform, Reason: sdk.ReasonLost, Q850: 41, Detail: "no audio from the platform for " + l.SilenceTimeout.String()}, true
	}
	if c.egress.silent(&c.bridge.fromEgress, now, l.SilenceTimeout) {
		return sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonLost, Q850: 41, Detail: "no audio from the bot for " + l.SilenceTimeout.String()}, true
	}
	return sdk.Termination{}, false
}

func (s *side) silent(f *flow, now time.Time, limit time.Duration) bool {
	if n := f.audio.Load(); n != s.silence.frames {
		s.silence = silence{n, now}
	}
	return now.Sub(s.silence.since) > limit
}

func (c *Call) has(conn *host.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sideOf(conn) != nil
}

func (c *Call) noteTransfer(t *pluginv1.Transfer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transfer = t
}

// maxCheckpoint bounds what a plugin may leave with core for a leg, in bytes.
const maxCheckpoint = 16 << 10

func (c *Call) keep(checkpoint []byte) {
	if len(checkpoint) > maxCheckpoint {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkpoint = checkpoint
}

// Info is a running call as the operator sees it.
type Info struct {
	ID         string         `json:"id"`
	State      State          `json:"state"`
	Record     records.Record `json:"record"`
	Checkpoint int            `json:"checkpoint_bytes"`
}

// Calls lists the running calls, oldest first.
func (r *Router) Calls() []Info {
	calls := r.all()
	slices.SortFunc(calls, func(a, b *Call) int { return strings.Compare(a.id, b.id) }) // v7 ids sort by time
	out := make([]Info, len(calls))
	for i, c := range calls {
		out[i] = c.info()
	}
	return out
}

// Call describes one running call.
func (r *Router) Call(id string) (Info, bool) {
	r.mu.Lock()
	c := r.calls[id]
	r.mu.Unlock()
	if c == nil {
		return Info{}, false
	}
	return c.info(), true
}

func (c *Call) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Info{ID: c.id, State: c.state, Record: c.record, Checkpoint: len(c.checkpoint)}
	i.Record.Events = slices.Clone(c.record.Events)
	i.Record.ToEgress = c.direction(&c.bridge.fromIngress, &sdk.LegStats{}, &sdk.LegStats{})
	i.Record.ToIngress = c.direction(&c.bridge.fromEgress, &sdk.LegStats{}, &sdk.LegStats{})
	return i
}

// caller is the caller's number where it is one, else "" (anonymous).
func caller(id string) string {
	digits := strings.TrimPrefix(id, "+")
	if len(digits) < 3 || len(digits) > 15 || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return ""
	}
	return id
}

// merge puts the request's parameters over the stream's.
func merge(stream, request map[string]string) map[string]string {
	out := make(map[string]string, len(stream)+len(request))
	maps.Copy(out, stream)
	maps.Copy(out, request)
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
