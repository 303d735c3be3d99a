package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// core plays the gateway over a real gRPC connection.
type core struct {
	server   *server
	conn     *grpc.ClientConn
	provider pluginv1.ProviderClient
	calls    pluginv1.Calls_ConnectClient
	media    pluginv1.Media_ConnectClient
	cancel   context.CancelFunc

	said    chan *pluginv1.PluginMessage // closed when the control stream has ended
	ended   error                        // the control stream's; after said is closed
	records chan wire.Record
	served  chan struct{} // closed when the plugin's gRPC server is gone
}

// dial serves p and connects to it as core does, without opening its streams.
func dial(t *testing.T, p Provider) *core {
	t.Helper()
	s := newServer(p, slog.New(slog.DiscardHandler))
	g := grpc.NewServer(serverOptions()...)
	s.grpc.Store(g)
	if err := s.GRPCServer(nil, g); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 16)
	c := &core{server: s, served: make(chan struct{}), said: make(chan *pluginv1.PluginMessage, 1000), records: make(chan wire.Record, 1000)}
	go func() {
		defer close(c.served)
		_ = g.Serve(l)
	}()
	options := append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///plugin", options...)
	if err != nil {
		t.Fatal(err)
	}
	c.conn, c.provider = conn, pluginv1.NewProviderClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-c.served
	})
	return c
}

// connect also opens the streams, as core does for a plugin that carries calls.
func connect(t *testing.T, p Provider) *core {
	t.Helper()
	c := dial(t, p)
	c.open(t)
	if hello := c.next(t).GetHello(); hello == nil {
		t.Fatal("the plugin's first word is not hello")
	}
	return c
}

func (c *core) open(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.openControl(ctx, t)
	var err error
	if c.media, err = pluginv1.NewMediaClient(c.conn).Connect(ctx); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		defer close(c.said)
		for {
			m, err := c.calls.Recv()
			if err != nil {
				c.ended = err
				return
			}
			c.said <- m
		}
	})
	readers.Go(func() {
		var batch wire.Batch
		for c.media.RecvMsg(&batch) == nil {
			for rest := batch.Packed; len(rest) > 0; {
				var r wire.Record
				var err error
				if rest, err = r.Parse(rest); err != nil {
					return
				}
				r.Payload = append([]byte(nil), r.Payload...)
				c.records <- r
			}
		}
	})
	t.Cleanup(func() { cancel(); readers.Wait() })
}

// openControl opens the control stream alone.
func (c *core) openControl(ctx context.Context, t *testing.T) {
	t.Helper()
	var err error
	if c.calls, err = pluginv1.NewCallsClient(c.conn).Connect(ctx); err != nil {
		t.Fatal(err)
	}
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hello{Hello: &pluginv1.CoreHello{}}})
}

func (c *core) tell(t *testing.T, m *pluginv1.CoreMessage) {
	t.Helper()
	if err := c.calls.Send(m); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// next is what the plugin says next.
func (c *core) next(t *testing.T) *pluginv1.PluginMessage {
	t.Helper()
	select {
	case m, ok := <-c.said:
		if !ok {
			t.Fatalf("control stream ended: %v", c.ended)
		}
		return m
	case <-time.After(patience):
		t.Fatal("the plugin says nothing")
		return nil
	}
}

func (c *core) record(t *testing.T) wire.Record {
	t.Helper()
	return await(t, c.records, "record from the plugin")
}

func (c *core) send(t *testing.T, records ...wire.Record) {
	t.Helper()
	var b wire.Batch
	for i := range records {
		b.Packed = records[i].Append(b.Packed)
	}
	if err := c.media.SendMsg(&b); err != nil {
		t.Fatal(err)
	}
}

func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// place asks the plugin for a call on stream id.
func (c *core) place(t *testing.T, callID string, id uint32) {
	t.Helper()
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Place{Place: &pluginv1.Place{
		CallId: callID, Destination: "+17345550100", Caller: "+17345550199",
		Headers: []*pluginv1.Header{{Name: "X-Id", Value: "7"}},
		Streams: []*pluginv1.Stream{PCMU8k().ToProto(id)},
	}}})
}

func (c *core) hangup(t *testing.T, callID string, why Termination) {
	t.Helper()
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hangup{Hangup: &pluginv1.Hangup{
		CallId: callID, Termination: why.ToProto(),
	}}})
}

// basis is what both fake providers have.
type basis struct {
	configure func(json.RawMessage) error
	opening   error
	closed    chan struct{}
}

func newBasis() basis { return basis{closed: make(chan struct{}, 1)} }

func (basis) Describe() Description {
	return Description{Name: "fake", Version: "1.2", ConfigSchema: `{"type":"object"}`, Capabilities: []string{"dtmf"}}
}

func (b basis) Configure(_ context.Context, config json.RawMessage) error {
	if b.configure == nil {
		return nil
	}
	return b.configure(config)
}

func (b basis) listeners() ([]Listener, error) {
	return []Listener{{Purpose: "stream", Address: "127.0.0.1:1"}}, b.opening
}

func (b basis) Close(context.Context) error {
	b.closed <- struct{}{}
	return nil
}

// placer is an egress provider whose Place is the test's.
type placer struct {
	basis
	place func(ctx context.Context, leg EgressLeg, to Placement) Ending
}

func (p placer) Open(context.Context) ([]Listener, error) { return p.listeners() }

func (p placer) Place(ctx context.Context, leg EgressLeg, to Placement) Ending {
	return p.place(ctx, leg, to)
}

// caller is an ingress provider that the test acts for.
type caller struct {
	basis
	gateway chan Gateway
}

func newCaller() *caller { return &caller{newBasis(), make(chan Gateway, 1)} }

func (c *caller) Open(_ context.Context, gw Gateway) ([]Listener, error) {
	c.gateway <- gw
	return c.listeners()
}
