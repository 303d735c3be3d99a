package sim

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sdp"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// client is one request of the bot's and its client transaction (RFC 3261 §17.1).
type client struct {
	req    *sipmsg.Message
	to     peer
	branch string
	seq    uint32
	final  bool
	stop   func()
	ack    *sipmsg.Message              // of an INVITE: repeated for each final response
	done   func(*sipmsg.Message) []byte // takes the final response, nil for none; returns the body of the ACK
}

// newRequest makes a request inside the dialog (RFC 3261 §12.2.1.1).
func (c *call) newRequest(method string, seq uint32) (*sipmsg.Message, string) {
	branch := "z9hG4bK" + randomToken()
	m := sipmsg.NewRequest(method, c.target)
	m.Add("Via", "SIP/2.0/"+c.from.transport+" "+c.bot.local(c.from).String()+";branch="+branch+";rport")
	m.Add("Max-Forwards", "70")
	for _, r := range c.routes {
		m.Add("Route", r)
	}
	from := c.invite.Get("To")
	if toTag(c.invite) == "" {
		from += ";tag=" + c.localTag
	}
	m.Add("From", from)
	m.Add("To", c.invite.Get("From"))
	m.Add("Call-ID", c.id)
	m.Add("CSeq", sipmsg.CSeq{Number: seq, Method: method}.String())
	m.Add("Contact", c.contact)
	return m, branch
}

// start sends a request of the bot's and repeats it as its transaction has to.
func (c *call) start(m *sipmsg.Message, branch string, done func(*sipmsg.Message) []byte) {
	to, err := c.nextHop(m)
	if err != nil {
		c.violate("%s: %v", m.Method, err)
		done(nil)
		return
	}
	seq, _ := sipmsg.ParseCSeq(m.Get("CSeq"))
	cl := &client{req: m, to: to, branch: branch, seq: seq.Number, done: done}
	c.clients[branch] = cl
	c.bot.expect(branch, c)
	again := func() { c.send(to, m, peer{}) }
	again()
	t1, limit := c.bot.opts.T1, c.t2()
	repeat := again
	if to.reliable() {
		repeat = nil
	}
	if m.Method == "INVITE" {
		limit = 64 * t1 // timer A is not capped
	}
	cl.stop = c.agenda.backoff(t1, limit, 64*t1, repeat, func() { c.finishClient(cl, nil) })
}

// nextHop is where a request goes: back over the stream of the INVITE, or to the topmost route, or to the target.
func (c *call) nextHop(m *sipmsg.Message) (peer, error) {
	if c.from.reliable() {
		return c.from, nil
	}
	uri := m.URI
	if routes := m.List("Route"); len(routes) > 0 {
		a, err := sipmsg.ParseNameAddr(routes[0])
		if err != nil {
			return peer{}, fmt.Errorf("route of the caller: %w", err)
		}
		uri = a.URI
	}
	u, err := sipmsg.ParseURI(uri)
	if err != nil {
		return peer{}, fmt.Errorf("contact of the caller: %w", err)
	}
	port := uint16(5060)
	if u.Port != 0 {
		port = uint16(u.Port) // parsed as 16 bits
	}
	addr, err := netip.ParseAddr(u.Host)
	if err != nil {
		ctx, cancel := context.WithTimeout(c.bot.ctx, 2*time.Second)
		defer cancel()
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Host)
		if err != nil || len(addrs) == 0 {
			return peer{}, fmt.Errorf("contact of the caller: resolve %s: %w", u.Host, err)
		}
		addr = addrs[0]
	}
	return peer{transport: udp, addr: netip.AddrPortFrom(addr.Unmap(), port)}, nil
}

// response takes in a response to a request of the bot's.
func (c *call) response(m *sipmsg.Message, _ peer) {
	c.step("in", m)
	via, err := topVia(m)
	if err != nil {
		return
	}
	cl := c.clients[via.Branch()]
	if cl == nil {
		return
	}
	seq, err := sipmsg.ParseCSeq(m.Get("CSeq"))
	if err != nil || seq.Method != cl.req.Method || seq.Number != cl.seq {
		c.violate("response to %s with CSeq %q", cl.req.Method, m.Get("CSeq"))
		return
	}
	if len(m.List("Via")) != 1 {
		c.violate("response to %s with %d Via values", cl.req.Method, len(m.List("Via")))
	}
	if to, err := sipmsg.ParseNameAddr(m.Get("To")); m.Status > 100 && (err != nil || to.Tag() != c.remoteTag) && toTag(cl.req) != "" {
		c.violate("response to %s with another To tag", cl.req.Method)
	}
	if m.Status < 200 {
		if cl.req.Method == "INVITE" {
			cl.stop()
			// Timer B ends with the first provisional response; a re-INVITE still gets a bound.
			bound := c.agenda.after(8*64*c.bot.opts.T1, func() { c.finishClient(cl, nil) })
			cl.stop = func() { c.agenda.cancel(bound) }
		}
		return
	}
	if cl.final {
		if cl.ack != nil { // RFC 3261 §13.2.2.4: each retransmission of the final response is ACKed
			c.send(cl.to, cl.ack, peer{})
		}
		return
	}
	c.finishClient(cl, m)
}

// finishClient ends a client transaction with its final response, or with nil when none came.
func (c *call) finishClient(cl *client, res *sipmsg.Message) {
	if cl.final {
		return
	}
	cl.final = true
	cl.stop()
	body := cl.done(res)
	if cl.req.Method == "INVITE" && res != nil {
		cl.ack = c.ackFor(cl, res, body)
		c.send(cl.to, cl.ack, peer{})
	}
	c.agenda.after(64*c.bot.opts.T1, func() {
		delete(c.clients, cl.branch)
		c.bot.expect(cl.branch, nil)
	})
}

// ackFor makes the ACK: a request of its own for 2xx, part of the transaction for others (RFC 3261 §13.2.2.4, §17.1.1.3).
func (c *call) ackFor(cl *client, res *sipmsg.Message, body []byte) *sipmsg.Message {
	if res.Status < 300 {
		if target, err := contactOf(res); err == nil {
			c.target = target
		} else {
			c.violate("200 to re-INVITE: %v", err)
		}
		ack, _ := c.newRequest("ACK", cl.seq)
		if len(body) > 0 {
			ack.Add("Content-Type", "application/sdp")
			ack.Body = body
		}
		return ack
	}
	ack := cl.req.Clone()
	ack.Method, ack.Body = "ACK", nil
	ack.Del("Content-Type")
	ack.Set("CSeq", sipmsg.CSeq{Number: cl.seq, Method: "ACK"}.String())
	ack.Set("To", res.Get("To"))
	return ack
}

func statusOf(res *sipmsg.Message) int {
	if res == nil {
		return 408
	}
	return res.Status
}

// requestInDialog sends one request in the dialog with the next CSeq.
func (c *call) requestInDialog(method string, headers []sipmsg.Header, kind string, body []byte, done func(*sipmsg.Message) []byte) {
	c.localSeq++
	m, branch := c.newRequest(method, c.localSeq)
	for _, h := range headers {
		m.Add(h.Name, h.Value)
	}
	if len(body) > 0 {
		m.Add("Content-Type", kind)
		m.Body = body
	}
	c.start(m, branch, done)
}

// hangup ends the call from the bot's side.
func (c *call) hangup(headers []sipmsg.Header) {
	if c.over() || c.byeSent {
		return
	}
	c.media.hangup()
	c.sendBye(headers)
}

func (c *call) sendBye(headers []sipmsg.Header) {
	if c.byeSent {
		return
	}
	c.byeSent = true
	c.requestInDialog("BYE", headers, "", nil, func(res *sipmsg.Message) []byte {
		if res == nil {
			c.violate("no answer to BYE")
			c.end(EndedLost)
			return nil
		}
		if res.Status != 200 {
			c.violate("BYE answered with %d", res.Status)
		}
		c.end(EndedBotBye)
		return nil
	})
}

// referWait is how long the bot waits for the caller's BYE after a REFER, in units of T1: 15 s by default, as Kore's
// application server does.
const referWait = 30

// refer transfers the caller (RFC 3515), then waits for NOTIFY and BYE.
func (c *call) refer(target string) {
	c.referring = true
	c.update(func(r *Call) { r.Refer = &Refer{Notify: []string{}} })
	headers := append([]sipmsg.Header{{Name: "Refer-To", Value: "<" + target + ">"}, {Name: "Referred-By", Value: c.contact}}, c.behave.ExtraHeaders...)
	c.requestInDialog("REFER", headers, "", nil, func(res *sipmsg.Message) []byte {
		status := statusOf(res)
		c.update(func(r *Call) { r.Refer.Status = status })
		if status != 202 && status != 200 { // RFC 6665 §4.1: 200 and 202 mean the same
			if status == 408 {
				c.violate("no answer to REFER")
			}
			return nil
		}
		c.byeWait = c.agenda.after(referWait*c.bot.opts.T1, func() {
			c.violate("no BYE after REFER")
			c.hangup(nil)
		})
		return nil
	})
}

// reinvite sends a re-INVITE.
func (c *call) reinvite(kind ReinviteKind) {
	if c.over() {
		return
	}
	if kind == ReinviteMove {
		if err := c.media.move(); err != nil {
			c.violate("simulator: %v", err)
			return
		}
	}
	if c.sdp.wish = sdp.SendRecv; kind == ReinviteHold {
		c.sdp.wish = sdp.SendOnly
	}
	c.update(func(r *Call) { r.Reinvite = &Exchange{} })
	var body []byte
	if kind != ReinviteNoSDP {
		body = c.sdp.say(c.media.addr(), c.behave.Codecs, true)
	}
	c.requestInDialog("INVITE", nil, "application/sdp", body, func(res *sipmsg.Message) []byte {
		status := statusOf(res)
		c.update(func(r *Call) { r.Reinvite.Status = status })
		c.bot.notify()
		if status >= 300 {
			return nil
		}
		if kind != ReinviteNoSDP {
			c.takeAnswer(res.Body)
			return nil
		}
		if status, why := c.reoffer(res.Body); status != 0 {
			c.violate("offer in the 200 to re-INVITE: %s", why)
			return nil
		}
		return c.localSDP()
	})
}

// ping asks the caller by OPTIONS whether it is there, again and again.
func (c *call) ping() {
	c.update(func(r *Call) {
		if r.Pings == nil {
			r.Pings = &Pings{}
		}
		r.Pings.Sent++
	})
	c.requestInDialog("OPTIONS", []sipmsg.Header{{Name: "Accept", Value: "application/sdp"}}, "", nil, func(res *sipmsg.Message) []byte {
		c.update(func(r *Call) {
			if statusOf(res) == 200 {
				r.Pings.OK++
			} else {
				r.Pings.Failed++
			}
		})
		return nil
	})
	c.plan(c.behave.Ping, c.ping)
}

// keyPressed reacts to a key of the caller's.
func (c *call) keyPressed(key string) {
	if c.behave.HangupOnDTMF != "" && strings.Contains(c.behave.HangupOnDTMF, key) {
		c.whenAcked(func() { c.hangup(c.behave.ByeHeaders) })
	}
	c.bot.notify()
}
