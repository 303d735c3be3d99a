package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/sdk"
)

// call is one placed call: its attempts, one after the other, and its media.
type call struct {
	run     *runtime
	config  *config
	leg     sdk.EgressLeg
	to      sdk.Placement
	log     *slog.Logger
	session *session

	mu    sync.Mutex
	local localMedia
	sent  []byte // our description as sent last
	held  bool   // the peer holds
	early bool   // a description came before the answer
	open  bool   // answered: holds are told
}

// place makes the call and stays until it has ended.
func (c *call) place(ctx context.Context) sdk.Ending {
	failed := sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonFailed, Q850: 41, Detail: "no target has an address"}
	for _, t := range c.run.health.order(c.config.targets) {
		if ctx.Err() != nil {
			break
		}
		addrs, err := resolve(ctx, t.host, c.run.stack.v4())
		if err != nil {
			c.log.Warn("a trunk target was passed over", "target", t.String(), "error", err)
			failed.Detail = err.Error()
			continue
		}
		c.run.stack.peers.addTargets(addrs)
		for _, addr := range addrs {
			d, a := c.attempt(ctx, t, netip.AddrPortFrom(addr, uint16(t.port)))
			if a.err == nil && a.res.IsSuccess() {
				c.run.health.good(t)
				return c.talk(ctx, d, a.res)
			}
			if errors.Is(a.err, errHungUp) {
				return sdk.Ending{Termination: sdk.HangupCause(ctx)}
			}
			failed = refused(t, a)
			c.log.Info("an attempt failed", "target", t.String(), "status", a.status(), "error", a.err, "next", a.tryNext())
			if !a.tryNext() {
				return sdk.Ending{Termination: failed, Headers: refusalHeaders(a)}
			}
			c.run.health.bad(t)
			c.session.mute()
		}
	}
	if ctx.Err() != nil {
		return sdk.Ending{Termination: sdk.HangupCause(ctx)}
	}
	return sdk.Ending{Termination: failed}
}

// refused says in our words why a target did not take the call.
func refused(t target, a attempt) sdk.Termination {
	out := sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonFailed, Detail: t.String() + ": "}
	switch {
	case a.res != nil:
		out.SIP, out.Q850 = a.res.StatusCode, q850Of(a.res.StatusCode)
		out.Detail += fmt.Sprintf("%d %.80q", a.res.StatusCode, a.res.Reason)
		if h := a.res.GetHeader("X-Reason"); h != nil {
			out.Detail += fmt.Sprintf(" (%.80q)", h.Value())
		}
	case errors.Is(a.err, errNoAnswer):
		out.Q850, out.Detail = 19, out.Detail+"no answer in answer_timeout"
	default:
		out.Q850, out.Detail = 41, out.Detail+a.err.Error()
	}
	return out
}

func refusalHeaders(a attempt) []sdk.Header {
	if a.res == nil {
		return nil
	}
	return passedOn(a.res.Headers())
}

// attempt sends one INVITE, over TCP where it does not fit a datagram (RFC 3261 §18.1.1).
func (c *call) attempt(ctx context.Context, t target, dest netip.AddrPort) (*dialog, attempt) {
	d, a := c.attemptOver(ctx, t, dest)
	if errors.Is(a.err, sip.ErrUDPMTUCongestion) {
		t.transport = transportTCP
		d, a = c.attemptOver(ctx, t, dest)
	}
	return d, a
}

func (c *call) attemptOver(ctx context.Context, t target, dest netip.AddrPort) (*dialog, attempt) {
	advertise, err := c.advertised(ctx, dest)
	if err != nil {
		return nil, attempt{err: err}
	}
	c.mu.Lock()
	c.local = localMedia{
		address: advertise, port: c.session.port, version: 1,
		session: uint64(time.Now().Unix()),
	}
	c.sent = c.local.offer()
	in := &invitation{
		target: t, number: c.to.Destination, caller: c.to.Caller, headers: c.to.Headers, offer: c.sent,
		answerTimeout: c.config.answerTimeout, progress: c.progress,
	}
	c.mu.Unlock()
	d := newDialog(c.run.stack, c.run.stack.agentFor(c.config, t), c.config, c, t, dest, advertise)
	d.log = c.log.With("sip_call_id", d.callID)
	d.log.Info("inviting", "target", t.String(), "address", dest.String(), "rtp_port", c.session.port)
	return d, d.dial(ctx, in)
}

// advertised is our address as the peer at dest shall know it.
func (c *call) advertised(ctx context.Context, dest netip.AddrPort) (netip.Addr, error) {
	switch {
	case c.config.advertise.IsValid():
		return c.config.advertise, nil
	case !c.run.stack.udp.Addr().IsUnspecified():
		return c.run.stack.udp.Addr(), nil
	}
	return routeAddress(ctx, dest)
}

// progress takes a provisional response.
func (c *call) progress(res *sip.Response) {
	early := false
	if c.config.earlyMedia && len(res.Body()) > 0 {
		m, err := parseSDP(res.Body())
		if err != nil {
			c.log.Warn("early media cannot be used", "error", err)
		} else {
			early = true
			c.mu.Lock()
			c.early = true
			c.mu.Unlock()
			c.session.describe(m)
		}
	}
	c.leg.Progress(res.StatusCode, early)
}

// talk runs the answered call.
func (c *call) talk(ctx context.Context, d *dialog, res *sip.Response) sdk.Ending {
	if err := c.answered(res); err != nil {
		t := sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonFailed, Q850: 88, SIP: 488, Detail: err.Error()}
		c.leave(d, t)
		return sdk.Ending{Termination: t}
	}
	c.leg.Answer(passedOn(res.Headers()))
	stop := c.sendDigits(ctx, d)
	defer stop()
	select {
	case <-d.ended:
	case <-ctx.Done():
		t := sdk.HangupCause(ctx)
		c.leave(d, t)
		return sdk.Ending{Termination: t}
	}
	e := d.end
	if e.termination.Reason == sdk.ReasonTransfer {
		c.leg.Transfer(e.target, e.headers)
	}
	c.leave(d, sdk.Termination{Q850: 16, Reason: e.termination.Reason})
	return sdk.Ending{Termination: e.termination, Headers: e.headers, Target: e.target}
}

// leave sends BYE where the dialog is still ours to end. Nobody waits for the answer.
func (c *call) leave(d *dialog, t sdk.Termination) {
	c.run.stack.background(func(ctx context.Context) {
		d.bye(ctx, t)
		c.run.stack.dialogs.drop(d)
	})
}

// answered takes the description of the 2xx; where it has none the early one stands.
func (c *call) answered(res *sip.Response) error {
	c.mu.Lock()
	early := c.early
	c.open = true
	c.mu.Unlock()
	if len(res.Body()) == 0 && early {
		return nil
	}
	m, err := parseSDP(res.Body())
	if err != nil {
		return fmt.Errorf("read the sdp answer: %w", err)
	}
	c.follow(m)
	return nil
}

// follow takes the peer's new description, and tells core of hold and its end.
func (c *call) follow(m mediaDescription) {
	c.session.describe(m)
	c.mu.Lock()
	changed := c.open && c.held != m.held
	if c.open {
		c.held = m.held
	}
	c.mu.Unlock()
	switch {
	case !changed:
	case m.held:
		c.leg.Hold()
	default:
		c.leg.Resumed()
	}
}

// sendDigits tells digits by INFO, one after the other, until stop.
func (c *call) sendDigits(ctx context.Context, d *dialog) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case digit := <-c.session.digitsOut:
				d.sendDigit(ctx, digit.Digit, digit.Duration)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// peerOffer implements dialogUser.
func (c *call) peerOffer(m mediaDescription) []byte {
	c.follow(m)
	return c.describeOurselves(func(l localMedia) []byte { return l.answer(m) })
}

// ownOffer implements dialogUser.
func (c *call) ownOffer() []byte { return c.describeOurselves(localMedia.offer) }

// describeOurselves writes our description; its version grows only when it changes (RFC 3264 §8).
func (c *call) describeOurselves(write func(localMedia) []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	body := write(c.local)
	if !bytes.Equal(body, c.sent) {
		c.local.version++
		body = write(c.local)
		c.sent = body
	}
	return body
}

// peerAnswer implements dialogUser.
func (c *call) peerAnswer(m mediaDescription) { c.follow(m) }

// digit implements dialogUser.
func (c *call) digit(digit byte, ms int) {
	c.session.heardDigit(digit, time.Duration(ms)*time.Millisecond)
}

// event implements dialogUser.
func (c *call) event(outbound bool, text string) {
	c.leg.Event(outbound, strings.Map(printable, text))
}

// printable keeps a peer's reason phrase from breaking a line of the ladder.
func printable(r rune) rune {
	if r < 0x20 || r == 0x7f {
		return '?'
	}
	return r
}
