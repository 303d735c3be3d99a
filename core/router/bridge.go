package router

import (
	"sync/atomic"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/sdk/wire"
)

// bridge is the way of a frame through core: the two functions below, and
// nothing else, carry media. They are called by the one media reader of the
// plugin the record comes from; they append to the queue of the other plugin,
// take no lock held across I/O, allocate nothing and start nothing.
type bridge struct {
	// Where each direction leads; nil until media may flow there.
	toEgress, toIngress atomic.Pointer[destination]

	fromIngress, fromEgress flow

	// flooded is told when a leg's records that may not be dropped find no
	// room any more.
	flooded func(to string)
}

// destination is a stream of a plugin.
type destination struct {
	conn   *host.Conn
	stream wire.StreamID
}

// flow counts what came from one side.
type flow struct {
	audio  atomic.Uint64 // frames of sound, for the silence timeout too
	early  atomic.Uint64 // frames dropped: the other side could not take them yet
	after  atomic.Uint64 // frames dropped: the other side had ended
	queue  atomic.Uint64 // frames dropped by the queue to the other side's plugin
	over   atomic.Bool   // the other side has ended
	ledger ledger
}

// ingressToEgress carries a record of the caller's side to the bot's.
func (b *bridge) ingressToEgress(r *wire.Record, now int64) {
	b.forward(r, now, &b.fromIngress, b.toEgress.Load(), "egress")
}

// egressToIngress carries a record of the bot's side to the caller's.
func (b *bridge) egressToIngress(r *wire.Record, now int64) {
	b.forward(r, now, &b.fromEgress, b.toIngress.Load(), "ingress")
}

func (b *bridge) forward(r *wire.Record, now int64, from *flow, to *destination, name string) {
	sound := r.Kind == wire.KindAudio && len(r.Payload) > 0
	if sound {
		from.audio.Add(1)
	}
	if to == nil {
		from.miss(sound)
		return
	}
	from.ledger.observe(r.Origin, now)
	r.Stream = to.stream
	if !to.conn.Media(r) {
		b.flooded(name)
	}
}

// miss counts a record that has nowhere to go.
func (f *flow) miss(sound bool) {
	switch {
	case !sound: // a digit or mark outside of the call concerns nobody
	case f.over.Load():
		f.after.Add(1)
	default:
		f.early.Add(1)
	}
}

// lost counts a frame that the queue to the other side's plugin dropped.
func (f *flow) lost() { f.queue.Add(1) }
