package sim

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sdp"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
	"github.com/patchbay/patchbay/sdk/media/g711"
)

// noEvents stands for a payload type where telephone-event was not agreed on.
const noEvents = -1

// negotiation is the state of offer and answer (RFC 3264). The call's goroutine owns it.
type negotiation struct {
	remote    *sdp.Session // what the caller said last; nil until it said anything
	codec     sdp.Codec
	event     sdp.Codec
	hasEvents bool
	direction sdp.Direction // the bot's own
	wish      sdp.Direction // what the bot would have if the caller agreed
	sessionID uint64
	version   uint64
	last      string // what was said with that version
}

func newNegotiation() *negotiation {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return &negotiation{
		sessionID: uint64(binary.BigEndian.Uint32(b[:])), version: 1,
		direction: sdp.SendRecv, wish: sdp.SendRecv,
	}
}

// accept takes what the caller said; why is "" unless there is no common ground.
func (n *negotiation) accept(s *sdp.Session, codecs []string) (why string) {
	if s.Profile != "RTP/AVP" {
		return "profile " + s.Profile + " is not RTP/AVP"
	}
	if s.Addr.Port() == 0 {
		return "the audio stream is refused"
	}
	found := false
	for _, name := range codecs {
		if c, ok := s.Find(name); ok {
			n.codec, found = c, true
			break
		}
	}
	if !found {
		return "no common codec"
	}
	n.event, n.hasEvents = s.Find("TELEPHONE-EVENT")
	n.remote = s
	n.direction = n.wish
	switch s.Direction {
	case sdp.SendOnly, sdp.RecvOnly, sdp.Inactive:
		n.direction = s.Direction.Reverse()
	case sdp.SendRecv:
	}
	return ""
}

// format is what the media path needs of the negotiation.
func (n *negotiation) format() format {
	f := format{audioPT: n.codec.PayloadType, eventPT: noEvents, fill: g711.SilenceULaw}
	if n.codec.Name == "PCMA" {
		f.alaw, f.fill = true, g711.SilenceALaw
	}
	if n.hasEvents {
		f.eventPT = n.event.PayloadType
	}
	f.muted = n.direction == sdp.RecvOnly || n.direction == sdp.Inactive || n.remote != nil && n.remote.Addr.Addr().IsUnspecified()
	return f
}

// kind tells what a payload type is; both laws are told apart by the codec agreed on alone.
func (f format) kind(pt uint8) rtpwire.Kind {
	switch int(pt) {
	case f.audioPT:
		return rtpwire.Audio
	case f.eventPT:
		return rtpwire.Telephone
	default:
		return rtpwire.Wrong
	}
}

// say returns the bot's description: the answer to what the caller said, or an offer where it said nothing yet. The
// version grows with each change (RFC 3264 §8).
func (n *negotiation) say(addr netip.AddrPort, codecs []string, offer bool) []byte {
	l := sdp.Local{SessionID: n.sessionID, Addr: addr, Direction: n.direction}
	if offer {
		l.Direction = n.wish
	}
	if n.remote == nil {
		for _, name := range codecs {
			l.Codecs = append(l.Codecs, sdp.Codec{Name: name, PayloadType: map[string]int{"PCMU": 0, "PCMA": 8}[name], ClockRate: 8000})
		}
		l.Codecs = append(l.Codecs, sdp.Codec{Name: "TELEPHONE-EVENT", PayloadType: 101, ClockRate: 8000, Fmtp: "0-16"})
	} else {
		l.Codecs = append(l.Codecs, n.codec)
		if n.hasEvents {
			l.Codecs = append(l.Codecs, n.event)
		}
	}
	if text := string(l.Bytes()); text != n.last {
		if n.last != "" {
			n.version++
		}
		n.last = text
	}
	l.Version = n.version
	return l.Bytes()
}

// negotiate opens the call's media and takes the offer of the first INVITE; a status other than 0 refuses the call.
func (c *call) negotiate(tx *inviteTx) (status int, why string) {
	c.sdp = newNegotiation()
	if len(tx.req.Body) == 0 {
		tx.offered = true
	} else {
		kind, _, _ := strings.Cut(tx.req.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(kind), "application/sdp") {
			return 415, "body is " + kind
		}
		offer, err := c.parseSDP(tx.req.Body, "offer")
		if err != nil {
			return 400, err.Error()
		}
		c.update(func(r *Call) { r.PayloadTypes = offer.PayloadTypes() })
		if why := c.sdp.accept(offer, c.behave.Codecs); why != "" {
			return 488, why
		}
	}
	m, err := newMedia(c, c.bot.local(c.from).Addr())
	if err != nil {
		return 500, err.Error()
	}
	c.mu.Lock()
	c.media = m
	c.mu.Unlock()
	if c.sdp.remote != nil {
		c.applySDP()
	}
	m.listen()
	return 0, ""
}

// applySDP hands the outcome of the negotiation to the media.
func (c *call) applySDP() {
	c.media.configure(c.sdp.format(), c.sdp.remote.Addr, c.sdp.remote.RTCP)
	c.update(func(r *Call) {
		r.Codec, r.EventPT = c.sdp.codec.Name, noEvents
		if c.sdp.hasEvents {
			r.EventPT = c.sdp.event.PayloadType
		}
	})
}

// localSDP is the bot's description as it stands.
func (c *call) localSDP() []byte {
	return c.sdp.say(c.media.addr(), c.behave.Codecs, c.sdp.remote == nil)
}

// answerInAck takes the caller's answer to an offer the bot made in its 200 (RFC 3261 §13.2.1).
func (c *call) answerInAck(tx *inviteTx, ack *sipmsg.Message) {
	if len(ack.Body) == 0 {
		c.violate("ACK without the answer to the offer in the 200")
	} else {
		c.takeAnswer(ack.Body)
	}
	if tx == c.invites[0] && c.sdp.remote != nil {
		c.media.start()
	}
}

// takeAnswer takes the caller's answer to an offer of the bot's.
func (c *call) takeAnswer(body []byte) {
	answer, err := c.parseSDP(body, "answer")
	if err != nil {
		return
	}
	before := *c.sdp
	if why := c.sdp.accept(answer, c.behave.Codecs); why != "" {
		*c.sdp = before
		c.violate("SDP answer: %s", why)
		return
	}
	c.applySDP()
}
