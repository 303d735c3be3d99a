package sim

import (
	"fmt"
	"slices"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// Hangup has the bot end a call by BYE with headers.
func (b *Bot) Hangup(callID string, headers ...sipmsg.Header) error {
	return b.do(callID, func(c *call) { c.whenAcked(func() { c.hangup(slices.Clone(headers)) }) })
}

// Refer has the bot transfer a call to a URI.
func (b *Bot) Refer(callID, target string) error {
	return b.do(callID, func(c *call) { c.whenAcked(func() { c.refer(target) }) })
}

// Reinvite has the bot send a re-INVITE.
func (b *Bot) Reinvite(callID string, kind ReinviteKind) error {
	return b.do(callID, func(c *call) { c.whenAcked(func() { c.reinvite(kind) }) })
}

// Send has the bot send any other request in the dialog, such as INFO or UPDATE.
func (b *Bot) Send(callID, method string, headers []sipmsg.Header, contentType string, body []byte) error {
	return b.do(callID, func(c *call) {
		c.requestInDialog(method, slices.Clone(headers), contentType, slices.Clone(body), func(*sipmsg.Message) []byte { return nil })
	})
}

// SendDTMF has the bot send keys, one after the other, each for 160 ms.
func (b *Bot) SendDTMF(callID, keys string) error {
	for i := range len(keys) {
		if _, ok := rtpwire.Code(keys[i]); !ok {
			return fmt.Errorf("%w: %q is no dtmf key", ErrOptions, keys[i])
		}
	}
	return b.do(callID, func(c *call) {
		if c.media == nil {
			return
		}
		c.media.mu.Lock()
		defer c.media.mu.Unlock()
		for i := range len(keys) {
			c.media.keys = append(slices.Clip(c.media.keys), Digit{Key: keys[i], Duration: defaultDigit})
		}
	})
}

func (b *Bot) do(callID string, what func(*call)) error {
	c := b.find(callID)
	if c == nil || c.over() {
		return fmt.Errorf("%w: %s", ErrNoCall, callID)
	}
	c.post(func() {
		if !c.over() {
			what(c)
		}
	})
	return nil
}
