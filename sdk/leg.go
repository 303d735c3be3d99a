package sdk

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

// finishPatience is how long a Finish waits for the media before it
// (design §3: effective after the end record, or 200 ms).
const finishPatience = 200 * time.Millisecond

// maxEvents bounds a leg's ladder; a peer must not fill core's memory.
const maxEvents = 200

// leg is either kind of leg, as the connection to core knows it.
type leg struct {
	conn    *connection
	callID  string
	streams []Stream
	ids     []wire.StreamID

	frames atomic.Pointer[func(*Frame)]
	events atomic.Int32
	ended  atomic.Bool
	lost   atomic.Uint64 // frames the queue toward core dropped

	// Ingress.
	answered   chan struct{}
	answerOnce sync.Once
	finished   chan Finish
	mu         sync.Mutex
	pending    *Finish
	endSeen    bool
	patience   *time.Timer

	// Egress.
	cancel context.CancelCauseFunc
}

// legStream is what a media slot points to.
type legStream struct {
	leg   *leg
	index int
}

func (c *connection) newLeg(callID string, streams []*pluginv1.Stream) (*leg, error) {
	l := &leg{conn: c, callID: callID, answered: make(chan struct{}), finished: make(chan Finish, 1)}
	for i, s := range streams {
		id := wire.StreamID(s.GetId())
		if err := c.slots.Claim(id, &legStream{l, i}); err != nil {
			l.closeSlots()
			return nil, err
		}
		l.streams = append(l.streams, StreamFromProto(s))
		l.ids = append(l.ids, id)
	}
	return l, nil
}

func (l *leg) CallID() string    { return l.callID }
func (l *leg) Streams() []Stream { return l.streams }

// Write implements Leg: the frame is packed into the queue of the media sender.
func (l *leg) Write(f Frame) {
	if f.Stream < 0 || f.Stream >= len(l.ids) || l.ended.Load() {
		return
	}
	r := f.record(l.ids[f.Stream])
	if !l.conn.media.Append(&r) {
		l.conn.log.Error("leg floods its media queue", "call_id", l.callID)
		l.hangup(Termination{Who: Plugin, Reason: ReasonFailed, Detail: "the leg flooded its media queue"})
	}
}

// deliver hands a record from core to the provider. Called by the media reader.
func (l *leg) deliver(r *wire.Record, index int, f *Frame) {
	f.from(r, index)
	if fn := l.frames.Load(); fn != nil && (len(f.Payload) > 0 || f.Kind != Audio) {
		(*fn)(f)
	}
	if f.End {
		l.mediaEnd()
	}
}

func (l *leg) Hold() {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Hold{Hold: &pluginv1.Hold{CallId: l.callID}}})
}

func (l *leg) Resumed() {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Resumed{Resumed: &pluginv1.Resumed{CallId: l.callID}}})
}

func (l *leg) Event(outbound bool, text string) {
	if l.ended.Load() || l.events.Add(1) > maxEvents {
		return
	}
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Event{Event: &pluginv1.Event{
		CallId: l.callID, At: time.Now().UnixNano(), Outbound: outbound, Text: text,
	}}})
}

// Answered, Finished and End make an IngressLeg.

func (l *leg) Answered() <-chan struct{} { return l.answered }
func (l *leg) Finished() <-chan Finish   { return l.finished }

// End implements IngressLeg, and is what the end of Place does.
func (l *leg) End(e Ending) {
	if !l.ended.CompareAndSwap(false, true) {
		return
	}
	for _, id := range l.ids {
		l.conn.media.Append(&wire.Record{Kind: wire.KindAudio, Flags: wire.FlagEnd, Stream: id})
	}
	l.closeSlots()
	if n := l.lost.Load(); n > 0 {
		drops := maps.Clone(e.Stats.Drops)
		if drops == nil {
			drops = map[string]uint64{}
		}
		drops["media_queue"] += n
		e.Stats.Drops = drops
	}
	l.mu.Lock()
	if l.patience != nil {
		l.patience.Stop()
	}
	l.mu.Unlock()
	l.conn.forget(l.callID)
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Ended{Ended: &pluginv1.Ended{
		CallId: l.callID, Termination: e.ToProto(), Headers: HeadersToProto(e.Headers),
		Target: e.Target, Stats: e.Stats.ToProto(),
	}}})
}

func (l *leg) closeSlots() {
	for _, id := range l.ids {
		l.conn.slots.Close(id)
	}
}

// finish takes core's Finish; it is handed on when the media before it is.
func (l *leg) finish(f Finish) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending != nil || l.ended.Load() {
		return
	}
	l.pending = &f
	if l.endSeen {
		l.finished <- f
		return
	}
	l.patience = time.AfterFunc(finishPatience, l.mediaEnd)
}

// mediaEnd: no more media will come, or nobody waits longer for it.
func (l *leg) mediaEnd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endSeen {
		return
	}
	l.endSeen = true
	if l.pending != nil {
		l.finished <- *l.pending // capacity 1, sent once
	}
}

// hangup ends the leg from outside: core is lost, or the leg ran wild.
func (l *leg) hangup(t Termination) {
	if l.cancel != nil {
		l.cancel(&hangup{t})
		return
	}
	l.finish(Finish{Result: ResultError, Termination: t})
	l.mediaEnd()
}

// OnFrame, Progress, Answer, Transfer and Checkpoint make an EgressLeg.

func (l *leg) OnFrame(fn func(*Frame)) { l.frames.Store(&fn) }

func (l *leg) Progress(status int, earlyMedia bool) {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Progress{Progress: &pluginv1.Progress{
		CallId: l.callID, Status: uint32(max(status, 0)), EarlyMedia: earlyMedia,
	}}})
}

func (l *leg) Answer(headers []Header) {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Answered{Answered: &pluginv1.Answered{
		CallId: l.callID, Headers: HeadersToProto(headers), Streams: l.streamsToProto(),
	}}})
}

func (l *leg) Transfer(target string, headers []Header) {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Transfer{Transfer: &pluginv1.Transfer{
		CallId: l.callID, Target: target, Headers: HeadersToProto(headers),
	}}})
}

func (l *leg) Checkpoint(state []byte) {
	l.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Checkpoint{Checkpoint: &pluginv1.Checkpoint{
		CallId: l.callID, Opaque: state,
	}}})
}

func (l *leg) streamsToProto() []*pluginv1.Stream {
	out := make([]*pluginv1.Stream, len(l.streams))
	for i, s := range l.streams {
		out[i] = s.ToProto(uint32(l.ids[i]))
	}
	return out
}
