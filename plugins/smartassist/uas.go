package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/sdk"
)

// maxDigitMilliseconds bounds the length of a digit told by INFO.
const maxDigitMilliseconds = 10_000

// answerRequest takes a request of a known peer. It always responds before it returns, but to an ACK: sipgo ends an
// unanswered transaction without a word.
func (s *stack) answerRequest(r *sip.Request, tx *sip.ServerTx, draining bool) {
	if r.CallID() == nil || r.From() == nil || r.To() == nil || r.CSeq() == nil || r.Via() == nil {
		s.counts.unparsed.Add(1)
		respond(tx, r, sip.StatusBadRequest, "Bad Request")
		return
	}
	tag, inside := r.To().Params.Get("tag")
	if !inside {
		s.outOfDialog(r, tx, draining)
		return
	}
	d := s.dialogs.get(string(*r.CallID()), tag)
	if d == nil || !d.from(r) {
		if !r.IsAck() {
			s.counts.unknownDialog.Add(1)
			respond(tx, r, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
		}
		return
	}
	d.answerRequest(r, tx)
}

// outOfDialog answers what a trunk peer may ask of us as a whole.
func (s *stack) outOfDialog(r *sip.Request, tx *sip.ServerTx, draining bool) {
	switch r.Method {
	case sip.ACK:
	case sip.OPTIONS:
		if draining {
			respond(tx, r, sip.StatusServiceUnavailable, "Draining")
			return
		}
		respond(tx, r, sip.StatusOK, "OK", sip.NewHeader("Allow", allowed), sip.NewHeader("Accept", "application/sdp"))
	case sip.CANCEL:
		respond(tx, r, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
	default: // we only place calls
		respond(tx, r, sip.StatusMethodNotAllowed, "Method Not Allowed", sip.NewHeader("Allow", "OPTIONS"))
	}
}

func respond(tx *sip.ServerTx, r *sip.Request, status int, reason string, headers ...sip.Header) {
	res := sip.NewResponseFromRequest(r, status, reason, nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	_ = tx.Respond(res)
}

// from tells whether the request comes from the dialog's other end. Before our answer is processed its tag is not
// known yet: sipgo may hand us a BYE before the 2xx that it followed.
func (d *dialog) from(r *sip.Request) bool {
	tag, _ := r.From().Params.Get("tag")
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remoteTag == "" || d.remoteTag == tag
}

// respond answers a request inside the dialog.
func (d *dialog) respond(tx *sip.ServerTx, r *sip.Request, status int, reason string, headers ...sip.Header) {
	d.user.event(true, fmt.Sprintf("%d %s (%s)", status, reason, r.Method))
	respond(tx, r, status, reason, headers...)
}

func (d *dialog) answerRequest(r *sip.Request, tx *sip.ServerTx) {
	d.user.event(false, string(r.Method))
	if r.IsAck() {
		d.acknowledged(r)
		return
	}
	if r.Method != sip.BYE {
		if need := unsupported(r); need != "" { // RFC 3261 §8.2.2.3
			d.respond(tx, r, sip.StatusBadExtension, "Bad Extension", sip.NewHeader("Unsupported", need))
			return
		}
	}
	switch r.Method {
	case sip.BYE:
		d.hungUp(r, tx)
	case sip.INVITE, sip.UPDATE:
		d.offered(r, tx)
	case sip.OPTIONS:
		d.respond(tx, r, sip.StatusOK, "OK", sip.NewHeader("Allow", allowed), sip.NewHeader("Accept", "application/sdp"))
	case sip.INFO:
		d.informed(r, tx)
	case sip.NOTIFY:
		d.respond(tx, r, sip.StatusOK, "OK")
	case sip.REFER:
		d.referred(r, tx)
	case sip.CANCEL: // of a re-INVITE that is answered already
		d.respond(tx, r, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
	default:
		d.respond(tx, r, sip.StatusMethodNotAllowed, "Method Not Allowed", sip.NewHeader("Allow", allowed))
	}
}

// unsupported lists the extensions a request needs that we have not.
func unsupported(r *sip.Request) string {
	var need []string
	for _, h := range r.GetHeaders("Require") {
		for one := range strings.SplitSeq(h.Value(), ",") {
			if one = strings.TrimSpace(one); one != "" && !strings.EqualFold(one, "norefersub") {
				need = append(need, one)
			}
		}
	}
	return strings.Join(need, ", ")
}

// hungUp takes the peer's BYE. Ours may be on its way already: both are answered, the first one counts.
func (d *dialog) hungUp(r *sip.Request, tx *sip.ServerTx) {
	d.respond(tx, r, sip.StatusOK, "OK")
	headers := passedOn(r.Headers())
	d.finish(dialogEnd{termination: classifyBye(headers), headers: headers})
}

// offered takes a re-INVITE or UPDATE: a new offer, or the wish for one of ours.
func (d *dialog) offered(r *sip.Request, tx *sip.ServerTx) {
	d.mu.Lock()
	early, old := d.state == dialogCalling, r.CSeq().SeqNo < d.remoteSeq
	if !old {
		d.remoteSeq = r.CSeq().SeqNo
	}
	pending := d.ackWait != nil && r.IsInvite()
	d.mu.Unlock()
	switch {
	case old || pending: // RFC 3261 §12.2.2, §14.2
		d.respond(tx, r, sip.StatusInternalServerError, "Out Of Order", sip.NewHeader("Retry-After", "1"))
		return
	case early: // the answer is on its way through our own queue, RFC 3311 §5.2
		d.respond(tx, r, sip.StatusRequestPending, "Request Pending")
		return
	}
	var body []byte
	if len(r.Body()) > 0 {
		offer, err := parseSDP(r.Body())
		if err != nil {
			d.log.Warn("an offer inside a call was refused", "error", err)
			d.respond(tx, r, sip.StatusNotAcceptableHere, "Not Acceptable Here", sip.NewHeader("Warning", `399 gateway "G.711 over RTP/AVP only"`))
			return
		}
		body = d.user.peerOffer(offer)
	} else if r.IsInvite() {
		body = d.user.ownOffer()
	}
	d.refresh(r)
	res := sip.NewResponseFromRequest(r, sip.StatusOK, "OK", body)
	d.mu.Lock()
	if d.contact != nil {
		res.AppendHeader(d.contact.Clone())
	}
	d.mu.Unlock()
	res.AppendHeader(sip.NewHeader("Allow", allowed))
	if len(body) > 0 {
		kind := sip.ContentTypeHeader("application/sdp")
		res.AppendHeader(&kind)
	}
	d.user.event(true, fmt.Sprintf("200 OK (%s)", r.Method))
	if !r.IsInvite() {
		_ = tx.Respond(res)
		return
	}
	d.answerInvite(tx, res, len(r.Body()) == 0)
}

// refresh follows the remote target, RFC 3261 §12.2.2.
func (d *dialog) refresh(r *sip.Request) {
	c := r.Contact()
	if c == nil || c.Address.Wildcard || c.Address.Host == "" {
		return
	}
	target := *c.Address.Clone()
	release := d.admit(target)
	d.mu.Lock()
	old := d.release
	d.remoteTarget, d.release = target, release
	d.mu.Unlock()
	old()
}

// answerInvite sends the 2xx to a re-INVITE and repeats it until the ACK comes (RFC 3261 §13.3.1.4): sipgo leaves that
// to us (RFC 6026 §7.1). expectAnswer says that the ACK carries the answer to our offer.
func (d *dialog) answerInvite(tx *sip.ServerTx, res *sip.Response, expectAnswer bool) {
	wait := make(chan *sip.Request, 1)
	d.mu.Lock()
	d.ackWait = wait
	d.mu.Unlock()
	_ = tx.Respond(res)
	d.stack.background(func(ctx context.Context) {
		ack := d.awaitACK(ctx, tx, res, wait)
		d.mu.Lock()
		d.ackWait = nil
		d.mu.Unlock()
		if ack == nil || !expectAnswer {
			return
		}
		answer, err := parseSDP(ack.Body())
		if err != nil {
			d.log.Warn("the answer in an ACK cannot be used, the media stays as it was", "error", err)
			return
		}
		d.user.peerAnswer(answer)
	})
}

func (d *dialog) awaitACK(ctx context.Context, tx *sip.ServerTx, res *sip.Response, wait <-chan *sip.Request) *sip.Request {
	interval := sip.T1
	limit := time.NewTimer(64 * sip.T1)
	defer limit.Stop()
	again := time.NewTimer(interval)
	defer again.Stop()
	for {
		select {
		case ack := <-wait:
			return ack
		case <-again.C:
			_ = tx.Respond(res)
			interval = min(2*interval, sip.T2)
			again.Reset(interval)
		case <-d.ended:
			return nil
		case <-ctx.Done():
			return nil
		case <-limit.C: // the dialog is dead, RFC 3261 §13.3.1.4
			d.finish(dialogEnd{open: true, termination: sdk.Termination{
				Who: sdk.Bot, Reason: sdk.ReasonLost, Q850: 102, Detail: "no ACK to the answer of a re-INVITE",
			}})
			return nil
		}
	}
}

func (d *dialog) acknowledged(r *sip.Request) {
	d.mu.Lock()
	wait := d.ackWait
	d.mu.Unlock()
	if wait == nil {
		return
	}
	select {
	case wait <- r:
	default: // a repeated ACK
	}
}

// informed takes INFO: digits as application/dtmf-relay.
func (d *dialog) informed(r *sip.Request, tx *sip.ServerTx) {
	kind := ""
	if h := r.ContentType(); h != nil {
		kind, _, _ = strings.Cut(strings.ToLower(h.Value()), ";")
	}
	switch strings.TrimSpace(kind) {
	case "":
		d.respond(tx, r, sip.StatusOK, "OK")
	case "application/dtmf-relay", "application/dtmf":
		digit, milliseconds, err := parseRelay(r.Body())
		if err != nil {
			d.respond(tx, r, sip.StatusBadRequest, "Bad DTMF")
			return
		}
		d.respond(tx, r, sip.StatusOK, "OK")
		d.stack.counts.byInfo.Add(1)
		d.user.digit(digit, milliseconds)
	default:
		d.respond(tx, r, sip.StatusUnsupportedMediaType, "Unsupported Media Type", sip.NewHeader("Accept", "application/dtmf-relay"))
	}
}

var errRelay = errors.New("no digit in the dtmf relay")

// parseRelay reads `Signal=5\r\nDuration=160`, or a lone digit as application/dtmf has it.
func parseRelay(body []byte) (digit byte, milliseconds int, err error) {
	for line := range strings.Lines(string(body)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found {
			name, value = "signal", name
		}
		value = strings.ToUpper(strings.TrimSpace(value))
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "signal":
			if len(value) == 1 && sdk.ValidDigit(value[0]) && digit == 0 {
				digit = value[0]
			}
		case "duration":
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				milliseconds = min(n, maxDigitMilliseconds)
			}
		}
	}
	if digit == 0 {
		return 0, 0, errRelay
	}
	return digit, milliseconds, nil
}

// sendDigit tells a digit by INFO, for trunks that take no telephone events.
func (d *dialog) sendDigit(ctx context.Context, digit byte, length time.Duration) {
	if length <= 0 {
		length = 160 * time.Millisecond
	}
	r := d.next(sip.INFO)
	kind := sip.ContentTypeHeader("application/dtmf-relay")
	r.AppendHeader(&kind)
	r.SetBody(fmt.Appendf(nil, "Signal=%c\r\nDuration=%d\r\n", digit, length.Milliseconds()))
	if err := d.do(ctx, r); err != nil {
		d.log.Warn("a digit was not taken by INFO", "error", err)
	}
}

// referred takes a REFER, RFC 3515: accepted, reported as done (the platform moves the caller, we do not dial), and
// the leg ends with the target.
func (d *dialog) referred(r *sip.Request, tx *sip.ServerTx) {
	d.mu.Lock()
	confirmed := d.state == dialogConfirmed
	d.mu.Unlock()
	to := r.ReferTo()
	switch {
	case to == nil:
		d.respond(tx, r, sip.StatusBadRequest, "Missing Refer-To")
		return
	case !confirmed:
		d.respond(tx, r, sip.StatusRequestPending, "Request Pending")
		return
	}
	headers := passedOn(r.Headers())
	// RFC 4488: no subscription where the peer does not want one.
	if strings.EqualFold(strings.TrimSpace(header(headers, "Refer-Sub")), "false") {
		d.respond(tx, r, sip.StatusAccepted, "Accepted", sip.NewHeader("Refer-Sub", "false"))
	} else {
		d.respond(tx, r, sip.StatusAccepted, "Accepted")
		n := d.next(sip.NOTIFY)
		n.AppendHeader(sip.NewHeader("Event", "refer;id="+strconv.FormatUint(uint64(r.CSeq().SeqNo), 10)))
		n.AppendHeader(sip.NewHeader("Subscription-State", "terminated;reason=noresource"))
		kind := sip.ContentTypeHeader("message/sipfrag;version=2.0")
		n.AppendHeader(&kind)
		n.SetBody([]byte("SIP/2.0 200 OK\r\n"))
		ctx, cancel := context.WithTimeout(d.stack.life, firstResponse)
		defer cancel()
		if err := d.do(ctx, n); err != nil {
			d.log.Info("NOTIFY of a REFER was not answered", "error", err)
		}
	}
	d.finish(dialogEnd{
		open: true, headers: headers, target: referTarget(to),
		termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonTransfer, Q850: 16, Detail: "refer"},
	})
}

// referTarget is the user part of Refer-To, else all of it.
func referTarget(to *sip.ReferToHeader) string {
	if to.Address.User != "" {
		return to.Address.User
	}
	if raw := to.Address.Raw(); raw != "" { // tel:+1...
		number, _, _ := strings.Cut(raw, ";")
		return number
	}
	return to.Address.Host
}
