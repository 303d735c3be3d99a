package sim

import (
	"strings"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// t2 is the longest interval between retransmissions (RFC 3261 §17.1.2.2), 4 s with the default T1.
func (c *call) t2() time.Duration { return 8 * c.bot.opts.T1 }

// invited takes in the first INVITE; full says that the bot has too many calls.
func (c *call) invited(full bool) {
	m := c.invite
	c.step("in", m)
	c.update(func(r *Call) { r.Invites = 1 })
	problems, usable := checkRequest(m)
	for _, p := range checkInvite(m, c.from.transport, c.rep.InviteBytes) {
		c.violate("%s", p)
	}
	if c.behave.Silent {
		c.agenda.after(64*c.bot.opts.T1, func() { c.end(EndedUnanswered) })
		return
	}
	tx := &inviteTx{req: m, from: c.from, branch: c.branch}
	c.invites = append(c.invites, tx)
	if !usable {
		c.refuse(tx, 400, sipmsg.Header{Name: "X-Reason", Value: strings.Join(problems, "; ")})
		return
	}
	c.dialog(tx)
	if !c.behave.NoProvisional {
		c.respond(tx, 100, nil, nil)
	}
	switch require := m.List("Require"); {
	case full:
		c.refuse(tx, 503, sipmsg.Header{Name: "Retry-After", Value: "1"})
	case len(require) > 0: // RFC 3261 §8.2.2.3
		c.refuse(tx, 420, sipmsg.Header{Name: "Unsupported", Value: strings.Join(require, ", ")})
	case c.behave.Refuse != 0:
		c.plan(c.behave.AnswerAfter, func() { c.refuse(tx, c.behave.Refuse, c.behave.RefuseHeaders...) })
	default:
		c.ring(tx)
	}
}

// dialog remembers what the INVITE contributes to the dialog (RFC 3261 §12.1.1).
func (c *call) dialog(tx *inviteTx) {
	seq, _ := sipmsg.ParseCSeq(tx.req.Get("CSeq"))
	tx.seq, c.remoteSeq = seq.Number, seq.Number
	if from, err := sipmsg.ParseNameAddr(tx.req.Get("From")); err == nil {
		c.remoteTag = from.Tag()
	}
	c.target, _ = contactOf(tx.req)
	c.routes = tx.req.List("Record-Route")
	c.contact = "<sip:bot@" + c.bot.local(c.from).String() + c.transportParam() + ">"
}

// ring negotiates, sends what comes before the answer, and plans the answer.
func (c *call) ring(tx *inviteTx) {
	if status, why := c.negotiate(tx); status != 0 {
		c.refuse(tx, status, sipmsg.Header{Name: "Warning", Value: `399 bot "` + strings.ReplaceAll(why, `"`, "'") + `"`})
		return
	}
	if c.behave.Ring {
		c.respond(tx, 180, nil, nil)
	}
	if c.behave.EarlyMedia && c.sdp.remote != nil {
		c.respond(tx, 183, nil, c.localSDP())
		c.media.start()
	}
	c.plan(c.behave.AnswerAfter, func() { c.answer(tx) })
}

// answer sends the 200 and plans all that counts from it.
func (c *call) answer(tx *inviteTx) {
	if tx.final != 0 {
		return
	}
	c.update(func(r *Call) { r.Answered, r.AnswerMS = true, millis(time.Since(c.began)) })
	c.media.answered()
	c.respond(tx, 200, c.behave.ExtraHeaders, c.localSDP())
	if c.sdp.remote != nil {
		c.media.start()
	}
	b := c.behave
	if b.HangupAfter > 0 {
		c.plan(b.HangupAfter, func() { c.whenAcked(func() { c.hangup(b.ByeHeaders) }) })
	}
	if b.Refer != "" {
		c.plan(b.ReferAfter, func() { c.whenAcked(func() { c.refer(b.Refer) }) })
	}
	if b.Reinvite != NoReinvite {
		c.plan(b.ReinviteAt, func() { c.whenAcked(func() { c.reinvite(b.Reinvite) }) })
	}
	if b.Ping > 0 {
		c.plan(b.Ping, c.ping)
	}
	c.bot.notify()
}

// refuse sends a final response of 300 or more and ends the call.
func (c *call) refuse(tx *inviteTx, status int, headers ...sipmsg.Header) {
	if tx.final != 0 {
		return
	}
	c.respond(tx, status, headers, nil)
	if tx != c.invites[0] {
		return
	}
	if c.media != nil {
		c.media.hangup()
	}
	// The call is over with the ACK, which lets the account say whether there was one.
	c.atAck = append(c.atAck, func() {
		if status == 487 {
			c.end(EndedCancelled)
			return
		}
		c.end(EndedRefused)
	})
}

// respond sends a response to an INVITE, and repeats a final one until the ACK comes: a 2xx over every transport
// (RFC 3261 §13.3.1.4), others over unreliable ones only (§17.2.1).
func (c *call) respond(tx *inviteTx, status int, headers []sipmsg.Header, body []byte) {
	res := c.responseTo(tx.req, status)
	if status > 100 && status < 300 {
		for _, r := range c.recordRoutes() {
			res.Add("Record-Route", r)
		}
		res.Add("Contact", c.contact)
		res.Add("Allow", allow)
	}
	for _, h := range headers {
		res.Add(h.Name, h.Value)
	}
	if len(body) > 0 {
		res.Add("Content-Type", "application/sdp")
		res.Body = body
	}
	tx.last = res
	again := func() { c.send(replyTo(tx.req, tx.from), res, tx.from) }
	again()
	if status < 200 {
		return
	}
	tx.final, tx.sentAt = status, time.Now()
	if tx == c.invites[0] {
		c.update(func(r *Call) { r.Status = status })
	}
	t1 := c.bot.opts.T1
	repeat := again
	if status >= 300 && tx.from.reliable() {
		repeat = nil
	}
	tx.stop = c.agenda.backoff(t1, c.t2(), 64*t1, repeat, func() { c.noAck(tx) })
}

func (c *call) noAck(tx *inviteTx) {
	c.violate("no ACK for the %d", tx.final)
	if tx != c.invites[0] {
		return
	}
	if tx.final == 487 {
		c.end(EndedCancelled)
		return
	}
	if tx.final >= 300 {
		c.end(EndedRefused)
		return
	}
	// RFC 3261 §13.3.1.4: the dialog is confirmed, but the session should be ended.
	c.sendBye(nil)
	c.end(EndedNoAck)
}

// responseTo is a response with tag and without what depends on the status.
func (c *call) responseTo(req *sipmsg.Message, status int) *sipmsg.Message {
	res := sipmsg.NewResponse(req, status, "")
	if toTag(req) == "" && status > 100 { // RFC 3261 §8.2.6.2
		res.Set("To", req.Get("To")+";tag="+c.localTag)
	}
	return res
}

func (c *call) send(to peer, m *sipmsg.Message, from peer) {
	c.step("out", m)
	c.bot.send(to, m, from)
}

// request takes in a request that belongs to this call, or claims to.
func (c *call) request(m *sipmsg.Message, from peer) {
	c.step("in", m)
	if c.behave.Silent {
		c.update(func(r *Call) {
			if m.Method == "INVITE" {
				r.Invites++
			}
			r.Cancelled = r.Cancelled || m.Method == "CANCEL"
		})
		return
	}
	switch m.Method {
	case "INVITE":
		c.inviteAgain(m, from)
	case "ACK":
		c.ack(m)
	case "CANCEL":
		c.cancel(m, from)
	default:
		c.inDialog(m, from)
	}
}

func (c *call) transaction(m *sipmsg.Message) *inviteTx {
	via, err := topVia(m)
	if err != nil {
		return nil
	}
	for _, tx := range c.invites {
		if tx.branch == via.Branch() {
			return tx
		}
	}
	return nil
}

// inviteAgain answers a retransmission from its transaction, and everything else as a re-INVITE.
func (c *call) inviteAgain(m *sipmsg.Message, from peer) {
	if tx := c.transaction(m); tx != nil {
		if tx == c.invites[0] {
			c.update(func(r *Call) { r.Invites++ })
		}
		// RFC 6026 §7.1: after a 2xx a retransmitted INVITE is absorbed; the 2xx is repeated by its own timer.
		if tx.last != nil && (tx.final == 0 || tx.final >= 300) {
			c.send(replyTo(m, from), tx.last, from)
		}
		return
	}
	if toTag(m) == "" { // RFC 3261 §8.2.2.2: merged request
		c.violate("a second INVITE with the same Call-ID while the call is on")
		c.send(replyTo(m, from), c.responseTo(m, 482), from)
		return
	}
	c.reinvited(m, from)
}

// ack matches an ACK to a final response: by branch where that was not 2xx (RFC 3261 §17.2.3), by CSeq otherwise.
func (c *call) ack(m *sipmsg.Message) {
	problems, usable := checkRequest(m)
	for _, p := range problems {
		c.violate("%s", p)
	}
	if !usable {
		return
	}
	seq, _ := sipmsg.ParseCSeq(m.Get("CSeq"))
	if tx := c.transaction(m); tx != nil && tx.final >= 300 {
		if seq.Number != tx.seq {
			c.violate("ACK: CSeq %d, its INVITE had %d", seq.Number, tx.seq)
		}
		if toTag(m) != c.localTag {
			c.violate("ACK for the %d: To differs from the response's", tx.final)
		}
		c.acked(tx, m)
		return
	}
	mine := c.checkInDialog(m)
	for _, tx := range c.invites {
		if tx.seq != seq.Number || tx.final == 0 || tx.final >= 300 || !mine {
			continue
		}
		if via, err := topVia(m); err == nil && via.Branch() == tx.branch {
			c.violate("ACK for a 2xx uses the INVITE's branch") // RFC 3261 §13.2.2.4
		}
		c.acked(tx, m)
		return
	}
	if mine {
		c.violate("ACK: CSeq %d, the INVITE had %d", seq.Number, c.invites[0].seq)
	}
}

// acked takes in the ACK of one INVITE, the first time or again.
func (c *call) acked(tx *inviteTx, m *sipmsg.Message) {
	initial := len(c.invites) > 0 && tx == c.invites[0]
	first := !tx.acked
	tx.acked = true
	tx.stop()
	if initial {
		c.update(func(r *Call) {
			r.Acks++
			if first {
				r.Acked, r.AckMS = true, millis(time.Since(tx.sentAt))
			}
		})
	}
	if !first {
		return
	}
	if tx.offered && tx.final < 300 {
		c.answerInAck(tx, m)
	}
	if initial {
		waiting := c.atAck
		c.atAck = nil
		for _, f := range waiting {
			f()
		}
		c.bot.notify()
	}
}

// cancel answers a CANCEL (RFC 3261 §9.2).
func (c *call) cancel(m *sipmsg.Message, from peer) {
	key := replyKey(m)
	if old := c.replies[key]; old != nil {
		c.send(replyTo(m, from), old, from)
		return
	}
	tx := c.transaction(m)
	if tx == nil {
		c.violate("CANCEL matches no INVITE")
		c.reply(m, from, 481)
		return
	}
	c.checkCancel(m, tx)
	c.update(func(r *Call) {
		r.Cancelled = true
		if v := m.Get("Reason"); v != "" {
			r.Reason = v
		}
	})
	if c.behave.CrossCancel && tx == c.invites[0] && c.behave.Refuse == 0 {
		c.answer(tx) // as if it had been on the way already
		c.reply(m, from, 200)
		return
	}
	c.reply(m, from, 200)
	c.refuse(tx, 487)
}

func replyKey(m *sipmsg.Message) string {
	via, err := topVia(m)
	if err != nil {
		return m.Method
	}
	return via.Branch() + " " + via.SentBy() + " " + m.Method
}

// maxReplies bounds the non-INVITE transactions of one call that are remembered.
const maxReplies = 1024

// reply answers a non-INVITE request and keeps the response for its retransmissions (RFC 3261 §17.2.2).
func (c *call) reply(m *sipmsg.Message, from peer, status int, headers ...sipmsg.Header) {
	res := c.responseTo(m, status)
	for _, h := range headers {
		res.Add(h.Name, h.Value)
	}
	if len(c.replies) < maxReplies {
		c.replies[replyKey(m)] = res
	}
	c.send(replyTo(m, from), res, from)
}

// reasonText is the BYE's or CANCEL's Reason (RFC 3326) for the account.
func reasonText(m *sipmsg.Message) string { return strings.Join(m.Values("Reason"), ", ") }
