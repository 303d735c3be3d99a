package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

// Port is what a media slot of a plugin points to: where a record from that
// stream goes. Forward is called by the plugin's one media reader and must not
// block; the record is valid only during the call. now is CLOCK_MONOTONIC in
// ns, read once per batch.
type Port struct {
	Forward func(r *wire.Record, now int64)
	// Dropped, when set, is told of each frame of sound toward this stream
	// that the queue to the plugin lost. It must not block.
	Dropped func()
}

// Conn is a plugin that carries calls: its control and media streams.
//
// Three goroutines: the control sender, the media sender, and the media
// reader; the control reader is Run's own. Nobody else sends.
type Conn struct {
	*Process
	Kind      pluginv1.Kind
	Listeners []*pluginv1.Listener
	Slots     *wire.Slots[Port]
	Since     time.Time

	control *sdk.ControlQueue[*pluginv1.CoreMessage]
	media   *wire.Queue
	calls   pluginv1.Calls_ConnectClient
	frames  pluginv1.Media_ConnectClient
	log     *slog.Logger
	now     func() int64
	cancel  context.CancelFunc
	down    chan struct{} // closed when the streams have ended
	reads   mediaReads
}

// mediaReads count what the media reader met.
type mediaReads struct{ records, unknown, truncated, malformed atomic.Uint64 }

// MediaStats are a plugin's media figures on core's side.
type MediaStats struct {
	Queue                                  wire.QueueStats
	Held                                   int // bytes waiting to be sent
	Records, Unknown, Truncated, Malformed uint64
	Slots                                  int
}

// streamGrace is how long the control stream may outlive the media stream: a
// plugin that ends closes both, with a farewell in between.
const streamGrace = 3 * time.Second

// dial opens the two streams of a configured process.
func dial(ctx context.Context, p *Process, now func() int64, log *slog.Logger) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{
		Process: p, Kind: p.Description.GetKind(), Since: time.Now(),
		Slots:   wire.NewSlots[Port](0),
		control: sdk.NewControlQueue[*pluginv1.CoreMessage](),
		media:   wire.NewQueue(wire.DefaultLimits, now),
		log:     log,
		now:     now,
		cancel:  cancel,
		down:    make(chan struct{}),
	}
	c.media.OnDrop(func(id wire.StreamID) {
		if p := c.Slots.Lookup(id); p != nil && p.Dropped != nil {
			p.Dropped()
		}
	})
	if err := c.hello(ctx); err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

func (c *Conn) hello(ctx context.Context) error {
	var err error
	if c.calls, err = pluginv1.NewCallsClient(c.conn).Connect(ctx); err != nil {
		return fmt.Errorf("open control stream of %s: %w", c.Spec.Instance, err)
	}
	hello := &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hello{Hello: &pluginv1.CoreHello{CoreVersion: c.Spec.Version}}}
	if err = c.calls.Send(hello); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("greet plugin %s: %w", c.Spec.Instance, err)
	}
	answer := make(chan error, 1)
	var first *pluginv1.PluginMessage
	go func() {
		var e error
		first, e = c.calls.Recv()
		answer <- e
	}()
	select {
	case err = <-answer:
	case <-time.After(startTimeout):
		err = errors.New("no hello within 10 s")
	}
	if err != nil {
		return fmt.Errorf("plugin %s does not open: %s", c.Spec.Instance, status.Convert(err).Message())
	}
	if first.GetHello() == nil {
		return fmt.Errorf("plugin %s speaks before its hello", c.Spec.Instance)
	}
	c.Listeners = first.GetHello().GetListeners()
	if c.frames, err = pluginv1.NewMediaClient(c.conn).Connect(ctx, grpc.StaticMethod()); err != nil {
		return fmt.Errorf("open media stream of %s: %w", c.Spec.Instance, err)
	}
	return nil
}

// run serves the streams until they end; handle gets each control message, in
// order.
func (c *Conn) run(ctx context.Context, handle func(*pluginv1.PluginMessage)) error {
	defer close(c.down)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	fail := make(chan error, 3)
	spawn := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				fail <- err
			}
		})
	}
	spawn(func() error {
		err := c.control.Send(ctx, c.calls.Send)
		_ = c.calls.CloseSend() // the plugin ends its legs and the process
		return err
	})
	spawn(func() error {
		return wire.Send(ctx, c.media, func(b *wire.Batch) error { return c.frames.SendMsg(b) })
	})
	spawn(func() error {
		err := c.readMedia()
		select {
		case <-ctx.Done():
		case <-time.After(streamGrace):
			c.log.Error("plugin has ended its media stream alone: it will be restarted", "error", err)
			c.cancel()
		}
		return err
	})
	err := c.readControl(handle)
	cancel()
	c.cancel()
	wg.Wait()
	select {
	case first := <-fail:
		if errors.Is(first, sdk.ErrHung) {
			return first
		}
	default:
	}
	return err
}

func (c *Conn) readControl(handle func(*pluginv1.PluginMessage)) error {
	for {
		m, err := c.calls.Recv()
		if err != nil {
			return err
		}
		handle(m)
	}
}

// readMedia is the plugin's one media reader. It never sends: it appends to
// the queues of other plugins, which never block.
func (c *Conn) readMedia() error {
	var batch wire.Batch
	var r wire.Record
	for {
		if err := c.frames.RecvMsg(&batch); err != nil {
			return err
		}
		c.reads.malformed.Add(uint64(max(batch.Malformed, 0)))
		c.route(batch.Packed, &r)
	}
}

// route hands each record of a batch to its port. r is the reader's own, so
// that a batch allocates nothing.
func (c *Conn) route(packed []byte, r *wire.Record) {
	now := c.now()
	for len(packed) > 0 {
		rest, err := r.Parse(packed)
		if err != nil {
			c.reads.truncated.Add(1)
			return
		}
		packed = rest
		c.reads.records.Add(1)
		if port := c.Slots.Lookup(r.Stream); port != nil {
			port.Forward(r, now)
		} else {
			c.reads.unknown.Add(1)
		}
	}
}

// Tell queues a control message; it never blocks. A plugin that lets 1 MiB of
// them wait hangs and is restarted.
func (c *Conn) Tell(m *pluginv1.CoreMessage) {
	if err := c.control.Put(m); errors.Is(err, sdk.ErrHung) {
		c.log.Error("plugin does not read its control messages: it will be restarted")
		c.cancel()
	}
}

// Media queues a record toward the plugin; it never blocks. False: the record
// may not be dropped and found no room, so its leg is out of control.
func (c *Conn) Media(r *wire.Record) bool { return c.media.Append(r) }

// MediaStats returns the media figures.
func (c *Conn) MediaStats() MediaStats {
	return MediaStats{
		Queue: c.media.Stats(), Held: c.media.Held(), Slots: c.Slots.Used(),
		Records: c.reads.records.Load(), Unknown: c.reads.unknown.Load(),
		Truncated: c.reads.truncated.Load(), Malformed: c.reads.malformed.Load(),
	}
}
