package sim

import (
	"strings"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sdp"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// inDialog answers a request inside the dialog that is neither INVITE, ACK nor CANCEL.
func (c *call) inDialog(m *sipmsg.Message, from peer) {
	if old := c.replies[replyKey(m)]; old != nil {
		c.send(replyTo(m, from), old, from)
		return
	}
	if m.Method == "BYE" {
		c.update(func(r *Call) {
			r.Byes++
			if r.Byes == 2 {
				r.violate("a second BYE")
			}
		})
	}
	if !c.checkInDialog(m) {
		c.reply(m, from, 481)
		return
	}
	if !c.checkSeq(m) {
		c.reply(m, from, 500)
		return
	}
	if c.over() && m.Method != "BYE" {
		c.reply(m, from, 481)
		return
	}
	switch m.Method {
	case "BYE":
		c.bye(m, from)
	case "NOTIFY":
		c.notified(m, from)
	case "UPDATE":
		c.updated(m, from)
	case "OPTIONS", "INFO", "MESSAGE":
		c.reply(m, from, 200, sipmsg.Header{Name: "Allow", Value: allow})
	case "REFER":
		c.reply(m, from, 603)
	default:
		c.reply(m, from, 501, sipmsg.Header{Name: "Allow", Value: allow})
	}
}

func (c *call) bye(m *sipmsg.Message, from peer) {
	seen := 0
	c.update(func(r *Call) {
		seen = r.Byes
		if seen == 1 {
			r.Reason, r.ByeHeaders = reasonText(m), customHeaders(m)
		}
	})
	if seen > 1 {
		c.reply(m, from, 481)
		return
	}
	first := c.invites[0]
	if first.final >= 200 && first.final < 300 && !first.acked {
		c.violate("BYE before the ACK")
		first.stop()
	}
	c.reply(m, from, 200)
	c.agenda.cancel(c.byeWait)
	if first.final == 0 { // RFC 3261 §15.1.2: pending requests still get an answer
		c.refuse(first, 487)
		c.atAck = nil
	}
	c.end(EndedCallerBye)
}

// notified takes the progress of a REFER (RFC 3515 §2.4.4).
func (c *call) notified(m *sipmsg.Message, from peer) {
	bad := func(what string) { c.violate("NOTIFY: %s", what) }
	event, _, _ := strings.Cut(m.Get("Event"), ";")
	if !c.referring || !strings.EqualFold(strings.TrimSpace(event), "refer") {
		bad("Event is not that of a REFER")
		c.reply(m, from, 481)
		return
	}
	state, _, _ := strings.Cut(m.Get("Subscription-State"), ";")
	if state == "" {
		bad("no Subscription-State")
	}
	kind, _, _ := strings.Cut(m.Get("Content-Type"), ";")
	if !strings.EqualFold(kind, "message/sipfrag") {
		bad("body is no message/sipfrag")
	}
	line, _, _ := strings.Cut(string(m.Body), "\r\n")
	frag, err := sipmsg.Parse([]byte(line + "\r\n\r\n"))
	if err != nil || frag.IsRequest() {
		bad("the sipfrag has no status line")
	}
	final := strings.EqualFold(strings.TrimSpace(state), "terminated")
	c.update(func(r *Call) {
		r.Refer.Notify = append(r.Refer.Notify, line)
		r.Refer.Final = r.Refer.Final || final
	})
	c.reply(m, from, 200)
	c.bot.notify()
}

// updated answers an UPDATE (RFC 3311 §5.2).
func (c *call) updated(m *sipmsg.Message, from peer) {
	contact := sipmsg.Header{Name: "Contact", Value: c.contact}
	if target, err := contactOf(m); err == nil {
		c.target = target
	}
	if len(m.Body) == 0 {
		c.reply(m, from, 200, contact)
		return
	}
	if status, _ := c.reoffer(m.Body); status != 0 {
		c.reply(m, from, status)
		return
	}
	res := c.responseTo(m, 200)
	res.Add("Contact", c.contact)
	res.Add("Content-Type", "application/sdp")
	res.Body = c.localSDP()
	c.replies[replyKey(m)] = res
	c.send(replyTo(m, from), res, from)
}

// reinvited answers the caller's re-INVITE (RFC 3261 §14.2).
func (c *call) reinvited(m *sipmsg.Message, from peer) {
	via, _ := topVia(m)
	seq, _ := sipmsg.ParseCSeq(m.Get("CSeq"))
	tx := &inviteTx{req: m, from: from, branch: via.Branch(), seq: seq.Number}
	c.invites = append(c.invites, tx)
	if !c.checkInDialog(m) || c.over() {
		c.respond(tx, 481, nil, nil)
		return
	}
	if !c.checkSeq(m) {
		c.respond(tx, 500, []sipmsg.Header{{Name: "Retry-After", Value: "1"}}, nil)
		return
	}
	for _, cl := range c.clients {
		if cl.req.Method == "INVITE" && !cl.final { // RFC 3261 §14.2: glare
			c.respond(tx, 491, nil, nil)
			return
		}
	}
	if target, err := contactOf(m); err == nil {
		c.target, c.from = target, from
	} else {
		c.violate("re-INVITE: %v", err)
	}
	c.respond(tx, 100, nil, nil)
	if len(m.Body) == 0 {
		tx.offered = true
	} else if status, _ := c.reoffer(m.Body); status != 0 {
		c.respond(tx, status, nil, nil)
		return
	}
	c.respond(tx, 200, nil, c.localSDP())
}

// reoffer takes a new offer inside the dialog; a status other than 0 refuses it and changes nothing (RFC 3264 §8).
func (c *call) reoffer(body []byte) (status int, why string) {
	offer, err := c.parseSDP(body, "offer")
	if err != nil {
		return 400, err.Error()
	}
	before := *c.sdp
	if why := c.sdp.accept(offer, c.behave.Codecs); why != "" {
		*c.sdp = before
		return 488, why
	}
	c.applySDP()
	return 0, ""
}

func (c *call) parseSDP(body []byte, what string) (*sdp.Session, error) {
	s, err := sdp.Parse(body)
	if err != nil {
		c.violate("SDP %s: %v", what, err)
		return nil, err //nolint:wrapcheck // says what it is already
	}
	for _, p := range s.Problems {
		c.violate("SDP %s: %s", what, p)
	}
	return s, nil
}
