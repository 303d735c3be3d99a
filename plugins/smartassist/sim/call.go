package sim

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

const allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY, REFER, MESSAGE"

// call is one dialog of the bot. One goroutine, run, owns it: whatever happens to it is a function in its inbox or on
// its agenda. Only rep is shared, under mu.
type call struct {
	bot    *Bot
	id     string
	behave Behaviour
	invite *sipmsg.Message
	branch string // of the first INVITE
	from   peer   // where the INVITE came from
	inbox  chan func()
	done   chan struct{} // closed when run has returned

	agenda    *agenda
	retired   bool
	began     time.Time
	localTag  string
	remoteTag string
	target    string   // URI of the caller's Contact (RFC 3261 §12.1.1)
	routes    []string // Route of the bot's requests
	contact   string   // the bot's own
	localSeq  uint32
	remoteSeq uint32 // highest CSeq the caller has used in the dialog
	byeSent   bool

	invites   []*inviteTx
	replies   map[string]*sipmsg.Message // last response to each non-INVITE transaction
	clients   map[string]*client         // the bot's own requests, by branch
	atAck     []func()                   // what has to wait for the ACK
	planned   []*entry                   // what is off once the call has ended
	byeWait   *entry
	referring bool

	media *media
	sdp   *negotiation
	mu    sync.Mutex
	rep   Call
}

// inviteTx is one INVITE server transaction with the transaction user's part: the retransmission of 2xx.
type inviteTx struct {
	req     *sipmsg.Message
	from    peer
	branch  string
	seq     uint32
	last    *sipmsg.Message // nil until something was answered
	final   int
	sentAt  time.Time // of the final response
	acked   bool
	offered bool // the bot's 200 carried the offer, the ACK has the answer
	stop    func()
}

func newCall(b *Bot, m *sipmsg.Message, from peer, size int) *call {
	c := &call{
		bot: b, id: m.Get("Call-ID"), invite: m, from: from, behave: b.opts.Behaviour,
		inbox: make(chan func(), 64), done: make(chan struct{}), began: time.Now(),
		localTag: randomToken(), localSeq: 100, agenda: newAgenda(),
		replies: map[string]*sipmsg.Message{}, clients: map[string]*client{},
	}
	if via, err := topVia(m); err == nil {
		c.branch = via.Branch()
	}
	if b.opts.Hooks.Script != nil {
		if s, err := b.opts.Hooks.Script(m, c.behave).withDefaults(); err == nil {
			c.behave = s
		} else {
			c.rep.violate("script of the test: " + err.Error())
		}
	}
	c.rep.describe(c, size)
	return c
}

// describe fills in what the INVITE says.
func (r *Call) describe(c *call, size int) {
	m := c.invite
	r.ID, r.Transport, r.Remote, r.Began = c.id, c.from.transport, c.from.addr.String(), c.began
	r.RequestURI, r.From, r.To, r.UserAgent = m.URI, m.Get("From"), m.Get("To"), m.Get("User-Agent")
	r.Headers, r.InviteBytes = customHeaders(m), size
	r.PayloadTypes, r.Violations, r.Ladder = []int{}, append([]string{}, r.Violations...), []Step{}
	if a, err := sipmsg.ParseNameAddr(r.From); err == nil {
		if u, err := sipmsg.ParseURI(a.URI); err == nil {
			r.FromUser = u.User
		}
	}
}

func (c *call) run() {
	defer close(c.done)
	for !c.retired {
		select {
		case f := <-c.inbox:
			f()
		case <-c.agenda.timer.C:
			c.agenda.run()
		case <-c.bot.ctx.Done():
			c.end(EndedClosed)
			c.finish()
			return
		}
	}
	for branch := range c.clients {
		c.bot.expect(branch, nil)
	}
	c.bot.retired(c)
}

// post has the call's goroutine run f; a call that is gone drops it.
func (c *call) post(f func()) {
	select {
	case c.inbox <- f:
	case <-c.done:
	case <-c.bot.ctx.Done():
	}
}

func (c *call) update(f func(r *Call)) {
	c.mu.Lock()
	f(&c.rep)
	c.mu.Unlock()
}

func (c *call) violate(format string, args ...any) {
	c.update(func(r *Call) { r.violate(fmt.Sprintf(format, args...)) })
}

// over reports whether the call has ended.
func (c *call) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rep.Ended != ""
}

// gone reports whether nothing answers for the call any more.
func (c *call) gone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// hasBranch reports whether a message belongs to the transaction of the call's first INVITE.
func (c *call) hasBranch(m *sipmsg.Message) bool {
	via, err := topVia(m)
	return err == nil && via.Branch() == c.branch
}

// snapshot returns the account as it stands.
func (c *call) snapshot() Call {
	c.mu.Lock()
	out, m := c.rep.clone(), c.media
	c.mu.Unlock()
	out.RTP.FirstMS = -1
	out.DTMF = []rtpwire.DTMFEvent{}
	if m != nil {
		m.report(&out)
	}
	if out.RTP.WrongPT > 0 {
		out.violate(fmt.Sprintf("%d rtp packets with a payload type nobody agreed on", out.RTP.WrongPT))
	}
	if out.RTP.Malformed > 0 {
		out.violate(fmt.Sprintf("%d malformed rtp packets", out.RTP.Malformed))
	}
	if out.RTCP.Malformed > 0 {
		out.violate(fmt.Sprintf("%d malformed rtcp packets", out.RTCP.Malformed))
	}
	return out
}

// step adds a line to the ladder.
func (c *call) step(dir string, m *sipmsg.Message) {
	line := m.Method
	switch {
	case !m.IsRequest():
		line = strconv.Itoa(m.Status) + " " + m.Reason + " (" + m.Get("CSeq") + ")"
	default:
		line += " " + m.URI + " (" + m.Get("CSeq") + ")"
	}
	if len(m.Body) > 0 && m.Get("Content-Type") != "" {
		line += " " + m.Get("Content-Type")
	}
	c.update(func(r *Call) {
		if len(r.Ladder) < maxLadder {
			r.Ladder = append(r.Ladder, Step{MS: millis(time.Since(c.began)), Dir: dir, Line: line})
		}
	})
}

// plan does what after d, unless the call has ended by then.
func (c *call) plan(d time.Duration, what func()) {
	c.planned = append(c.planned, c.agenda.after(d, what))
}

// whenAcked does what now, or once the ACK has come: the callee may not send BYE before it (RFC 3261 §15).
func (c *call) whenAcked(what func()) {
	c.mu.Lock()
	acked := c.rep.Acked
	c.mu.Unlock()
	if acked {
		what()
		return
	}
	c.atAck = append(c.atAck, what)
}

// end notes how the call ended; the first one counts. The call goes on to watch for Linger, then is Done, and answers
// retransmissions until 64·T1 have passed.
func (c *call) end(how string) {
	first := false
	c.update(func(r *Call) {
		if r.Ended != "" {
			return
		}
		first = true
		r.Ended = how
		if r.Answered {
			r.DurationMS = millis(time.Since(c.began)) - r.AnswerMS
		}
	})
	if !first {
		return
	}
	for _, e := range c.planned {
		c.agenda.cancel(e)
	}
	c.planned, c.atAck = nil, nil
	if c.media != nil {
		c.media.hangup()
	}
	c.agenda.after(c.bot.opts.Linger, c.finish)
	c.agenda.after(c.bot.opts.Linger+64*c.bot.opts.T1, func() { c.retired = true })
	c.bot.notify()
}

// finish makes the account complete.
func (c *call) finish() {
	done := false
	c.update(func(r *Call) { done, r.Done = r.Done, true })
	if done {
		return
	}
	if c.media != nil {
		c.media.close()
	}
	c.bot.callEnded(c)
}

func randomToken() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
