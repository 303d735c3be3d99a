package sim

import (
	"cmp"
	"slices"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/sdk/media/g711"
)

// Packets returns the RTP packets of a call in the order of their arrival, duplicates left out. It needs
// Options.KeepPackets.
func (b *Bot) Packets(callID string) []rtpwire.Packet {
	if c := b.find(callID); c != nil {
		return c.packets()
	}
	return nil
}

// Recording returns the audio a call has received so far as 8 kHz µ-law, in the order of the sequence numbers, without
// filling in what was lost. It needs Options.KeepPackets.
func (b *Bot) Recording(callID string) []byte {
	if c := b.find(callID); c != nil {
		return c.recording()
	}
	return nil
}

func (c *call) packets() []rtpwire.Packet {
	c.mu.Lock()
	m := c.media
	c.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.packets()
}

func (c *call) recording() []byte {
	c.mu.Lock()
	alaw := c.rep.Codec == "PCMA"
	c.mu.Unlock()
	packets := c.packets()
	slices.SortStableFunc(packets, func(x, y rtpwire.Packet) int {
		return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.ExtSeq, y.ExtSeq))
	})
	var out []byte
	for _, p := range packets {
		if p.Kind == rtpwire.Audio {
			out = append(out, p.Payload...)
		}
	}
	if alaw {
		g711.ALawToULaw(out, out)
	}
	return out
}
