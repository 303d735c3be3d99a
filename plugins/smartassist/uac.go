package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/sdk"
)

const (
	userAgent = "Patchbay"
	// firstResponse is how long a target may stay silent; Timer B's 32 s would keep a caller waiting for a dead one.
	firstResponse = 4 * time.Second
	// settleTime bounds what is waited for after an attempt was given up, RFC 3261 §9.1: 64*T1.
	settleTime = 32 * time.Second
	// maxChallenges is how often an INVITE is sent again with credentials: once, and once for a stale nonce.
	maxChallenges = 2
)

var (
	errSilent   = errors.New("no response in " + firstResponse.String())
	errNoAnswer = errors.New("no answer in time")
	errHungUp   = errors.New("hung up before the answer")
)

// invitation is what an INVITE says.
type invitation struct {
	target  target
	number  string // called
	caller  string // empty: anonymous
	headers []sdk.Header
	offer   []byte

	answerTimeout time.Duration
	// progress is called for each provisional response but 100.
	progress func(*sip.Response)
}

// attempt is how one INVITE came out: a final response, or an error when there is none.
type attempt struct {
	res *sip.Response
	err error
}

// status is the final SIP status, 0 when none came.
func (a attempt) status() int {
	if a.res == nil {
		return 0
	}
	return a.res.StatusCode
}

// tryNext tells whether another target may do better. A refusal that names its reason is final: the next SBC of the
// same platform would say the same.
func (a attempt) tryNext() bool {
	if a.res == nil {
		return !errors.Is(a.err, errNoAnswer) && !errors.Is(a.err, errHungUp)
	}
	switch a.res.StatusCode {
	case 408, 500, 503:
		return true
	case 480:
		return a.res.GetHeader("X-Reason") == nil
	}
	return false
}

// dial sends the INVITE and follows it to its final response. It returns with a 2xx acknowledged, or with the attempt
// over for the caller; what is left to do on the wire then (CANCEL, the ACK and BYE of an answer that crosses it) is
// done in the background.
func (d *dialog) dial(ctx context.Context, in *invitation) attempt {
	d.mu.Lock()
	d.seq = 1
	d.invite = d.buildInvite(in)
	d.mu.Unlock()
	d.stack.dialogs.put(d)
	deadline := time.NewTimer(in.answerTimeout)
	defer deadline.Stop()
	for challenges := 0; ; challenges++ {
		a, settled := d.dialOnce(ctx, in, deadline.C)
		if a.err == nil && needsCredentials(a.res) && d.auth.Username != "" && challenges < maxChallenges {
			if err := d.authorizeInvite(a.res); err == nil {
				continue
			}
		}
		d.stack.counts.attempt(a.status())
		if settled && (a.res == nil || !a.res.IsSuccess()) {
			d.stack.dialogs.drop(d)
		}
		return a
	}
}

// dialOnce runs one INVITE transaction. settled is false when it goes on in the background.
func (d *dialog) dialOnce(ctx context.Context, in *invitation, deadline <-chan time.Time) (a attempt, settled bool) {
	tx, err := d.startInvite(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = errHungUp
		}
		return attempt{err: err}, true
	}
	silence := time.NewTimer(firstResponse)
	defer silence.Stop()
	provisional := false
	for {
		select {
		case res := <-tx.Responses():
			d.user.event(false, fmt.Sprintf("%d %s", res.StatusCode, res.Reason))
			switch {
			case res.IsProvisional():
				provisional = true
				silence.Stop()
				if res.StatusCode > 100 {
					in.progress(res)
				}
				continue
			case res.IsSuccess():
				if err = d.confirm(res); err != nil {
					d.log.Warn("an answer could not be acknowledged, the peer will repeat it", "error", err)
				}
			}
			return attempt{res: res}, true
		case <-tx.Done():
			return attempt{err: fmt.Errorf("invite: %w", tx.Err())}, true
		case <-silence.C:
			err = errSilent
		case <-deadline:
			err = errNoAnswer
		case <-ctx.Done():
			err = errHungUp
		}
		reason := sdk.Termination{Reason: sdk.ReasonFailed, Q850: 102}
		if errors.Is(err, errHungUp) {
			reason = sdk.HangupCause(ctx)
		}
		d.stack.background(func(ctx context.Context) { d.settle(ctx, tx, provisional, reason) })
		return attempt{err: err}, false
	}
}

// startInvite connects and sends. Via and Contact name the connection's port where we do not listen on that transport.
func (d *dialog) startInvite(ctx context.Context) (*sip.ClientTx, error) {
	ctx, cancel := context.WithTimeout(ctx, firstResponse)
	defer cancel()
	d.mu.Lock()
	invite := d.invite
	d.mu.Unlock()
	tx, err := d.agent.tx.NewClientTransaction(ctx, invite)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	d.mu.Lock()
	host, port := d.stack.contact(d.advertise, d.transport, tx.Connection().LocalAddr())
	v := invite.Via()
	v.Host, v.Port = host, port
	if d.contact == nil {
		d.contact = &sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "gw", Host: host, Port: port}}
		d.contact.Address.UriParams.Add("transport", sip.NetworkToLower(d.transport))
		invite.AppendHeader(d.contact.Clone())
	}
	d.mu.Unlock()
	tx.OnRetransmission(func(res *sip.Response) { d.answeredAgain(res) })
	d.user.event(true, "INVITE")
	if err := tx.Init(); err != nil {
		tx.Terminate()
		return nil, fmt.Errorf("send: %w", err)
	}
	return tx, nil
}

func (d *dialog) buildInvite(in *invitation) *sip.Request {
	uri := sip.Uri{Scheme: "sip", User: in.number, Host: in.target.host, Port: in.target.port}
	if d.transport != transportUDP {
		uri.UriParams.Add("transport", sip.NetworkToLower(d.transport))
	}
	r := sip.NewRequest(sip.INVITE, uri)
	r.AppendHeader(d.via())
	from := &sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: in.caller, Host: d.advertise.String()}}
	if in.caller == "" { // RFC 3323 §4.1.1.3
		from.DisplayName = "Anonymous"
		from.Address.User, from.Address.Host = "anonymous", "anonymous.invalid"
	}
	from.Params.Add("tag", d.localTag)
	r.AppendHeader(from)
	r.AppendHeader(&sip.ToHeader{Address: sip.Uri{Scheme: "sip", User: in.number, Host: in.target.host}})
	callID := sip.CallIDHeader(d.callID)
	r.AppendHeader(&callID)
	r.AppendHeader(&sip.CSeqHeader{SeqNo: d.seq, MethodName: sip.INVITE})
	hops := sip.MaxForwardsHeader(70)
	r.AppendHeader(&hops)
	r.AppendHeader(sip.NewHeader("Allow", allowed))
	r.AppendHeader(sip.NewHeader("Supported", "norefersub")) // RFC 4488; not 100rel, not timer: we do neither
	r.AppendHeader(sip.NewHeader("User-Agent", userAgent))
	for _, h := range in.headers {
		if why := usableHeader(h); why != "" {
			d.stack.counts.headersRefused.Add(1)
			d.log.Warn("a header is left out of the INVITE", "header", fmt.Sprintf("%.40q", h.Name), "why", why)
			continue
		}
		r.AppendHeader(sip.NewHeader(h.Name, h.Value))
	}
	kind := sip.ContentTypeHeader("application/sdp")
	r.AppendHeader(&kind)
	r.SetBody(in.offer)
	d.address(r, d.dest)
	return r
}

func (d *dialog) authorizeInvite(res *sip.Response) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := d.invite.Clone()
	if err := authorize(again, res, d.auth); err != nil {
		return err
	}
	d.seq++
	again.CSeq().SeqNo = d.seq
	renewBranch(again)
	d.address(again, d.dest)
	d.invite = again
	return nil
}

// answeredAgain takes a 2xx after the first: a retransmission gets the same ACK again, another fork's is hung up.
func (d *dialog) answeredAgain(res *sip.Response) {
	d.mu.Lock()
	early := len(d.acks) == 0 && d.state == dialogCalling
	d.mu.Unlock()
	if early { // the first one is on its way to dial; this one will come again
		return
	}
	if err := d.confirm(res); err != nil {
		d.log.Warn("a repeated answer could not be acknowledged", "error", err)
	}
}

// strayResponse takes responses without a transaction: a 2xx that outlives it must still be acknowledged.
func (s *stack) strayResponse(res *sip.Response) {
	if !res.IsSuccess() || res.CSeq() == nil || res.CSeq().MethodName != sip.INVITE || res.CallID() == nil || res.From() == nil {
		return
	}
	tag, _ := res.From().Params.Get("tag")
	if d := s.dialogs.get(string(*res.CallID()), tag); d != nil {
		d.answeredAgain(res)
	}
}

// settle ends an INVITE nobody waits for any more. It may be cancelled only once the peer has shown life (RFC 3261
// §9.1); an answer that crosses the CANCEL is acknowledged and hung up.
func (d *dialog) settle(ctx context.Context, tx *sip.ClientTx, provisional bool, reason sdk.Termination) {
	defer d.stack.dialogs.drop(d)
	defer tx.Terminate()
	ctx, stop := context.WithTimeout(ctx, settleTime)
	defer stop()
	cancelled := make(chan struct{})
	sent := false
	cancelOnce := func() {
		if !provisional || sent {
			return
		}
		sent = true
		d.stack.background(func(context.Context) {
			defer close(cancelled)
			d.cancel(ctx, reason)
		})
	}
	defer func() {
		if sent {
			<-cancelled
		}
	}()
	cancelOnce()
	for {
		select {
		case res := <-tx.Responses():
			d.user.event(false, fmt.Sprintf("%d %s", res.StatusCode, res.Reason))
			switch {
			case res.IsProvisional():
				provisional = true
				cancelOnce()
				continue
			case res.IsSuccess():
				d.stack.counts.crossed.Add(1)
				if err := d.confirm(res); err != nil {
					d.log.Warn("an answer after CANCEL could not be acknowledged", "error", err)
				}
				d.bye(ctx, reason)
			}
			return
		case <-tx.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// cancel sends CANCEL, made of the INVITE alone: its Request-URI, its Via, its (empty) route set, RFC 3261 §9.1.
func (d *dialog) cancel(ctx context.Context, reason sdk.Termination) {
	d.mu.Lock()
	r := sip.NewRequest(sip.CANCEL, *d.invite.Recipient.Clone())
	r.AppendHeader(d.invite.Via().Clone())
	r.AppendHeader(sip.HeaderClone(d.invite.From()))
	r.AppendHeader(sip.HeaderClone(d.invite.To()))
	r.AppendHeader(sip.HeaderClone(d.invite.CallID()))
	r.AppendHeader(&sip.CSeqHeader{SeqNo: d.invite.CSeq().SeqNo, MethodName: sip.CANCEL})
	hops := sip.MaxForwardsHeader(70)
	r.AppendHeader(&hops)
	r.AppendHeader(reasonHeader(reason))
	r.SetBody(nil)
	d.address(r, d.dest)
	d.mu.Unlock()
	d.user.event(true, "CANCEL")
	if _, err := d.agent.do(ctx, r); err != nil {
		d.log.Debug("CANCEL was not answered", "error", err)
	}
}

// bye ends a confirmed dialog; only the first of bye and the peer's BYE does anything. Whatever the peer says to it,
// or nothing at all, the dialog is over (RFC 3261 §15.1.1).
func (d *dialog) bye(ctx context.Context, reason sdk.Termination) {
	d.mu.Lock()
	confirmed := d.state == dialogConfirmed
	if confirmed {
		d.state = dialogEnded
	}
	d.mu.Unlock()
	if !confirmed {
		return
	}
	r := d.next(sip.BYE)
	r.AppendHeader(reasonHeader(reason))
	if err := d.do(ctx, r); err != nil {
		d.log.Info("BYE was not answered", "error", err)
	}
}

// hangUpFork ends the dialog that a second answer made.
func (d *dialog) hangUpFork(res *sip.Response) {
	d.mu.Lock()
	target, routes := answerRoute(res, d.invite.Recipient)
	r := d.build(sip.BYE, d.invite.CSeq().SeqNo+1, target, routes, res.To())
	d.mu.Unlock()
	r.AppendHeader(reasonHeader(sdk.Termination{Q850: 26})) // non-selected user clearing
	d.stack.background(func(ctx context.Context) {
		if err := d.do(ctx, r); err != nil {
			d.log.Info("BYE to a second answer was not answered", "error", err)
		}
	})
}
