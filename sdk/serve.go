package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/patchbay/patchbay/sdk/engine"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

const (
	// farewell bounds how long a plugin that has lost core takes to end its
	// legs.
	farewell = 2500 * time.Millisecond
	// lastWords bounds how long core may take to read what the plugin said last.
	lastWords = 500 * time.Millisecond
)

// Serve runs the plugin: p must be an Ingress or an Egress. It returns when
// core has ended the process' work; main has nothing to do after it.
//
// Serve sets slog's default logger: JSON lines on stderr, which core reads.
// Log with a call_id attribute where a call is concerned.
func Serve(p Provider) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()}))
	slog.SetDefault(log)
	// When core dies, stderr is a pipe nobody reads: a log line must fail, not
	// kill the process before it has ended its legs.
	signal.Ignore(syscall.SIGPIPE)
	s := newServer(p, log)
	stop := s.watchParent(os.Getppid)
	defer stop()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{ContractVersion: {PluginName: s}},
		Logger:           hclog.NewNullLogger(),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			g := grpc.NewServer(append(opts, serverOptions()...)...)
			s.grpc.Store(g)
			return g
		},
	})
}

func logLevel() slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(os.Getenv("PATCHBAY_LOG_LEVEL"))); err != nil {
		return slog.LevelInfo
	}
	return l
}

// server is the plugin's side of the contract.
type server struct {
	goplugin.NetRPCUnsupportedPlugin
	pluginv1.UnimplementedProviderServer
	pluginv1.UnimplementedCallsServer
	pluginv1.UnimplementedMediaServer

	provider Provider
	log      *slog.Logger
	grpc     atomic.Pointer[grpc.Server]
	conn     *connection
	counters mediaCounters

	mu     sync.Mutex
	calls  bool // the control stream is open, or was
	ending sync.Once
	ended  chan struct{}
}

// mediaCounters count what the media reader threw away.
type mediaCounters struct{ unknown, truncated, malformed atomic.Uint64 }

func newServer(p Provider, log *slog.Logger) *server {
	return &server{provider: p, log: log, conn: newConnection(log, engine.NewClock().Now), ended: make(chan struct{})}
}

// GRPCServer implements goplugin.GRPCPlugin.
func (s *server) GRPCServer(_ *goplugin.GRPCBroker, g *grpc.Server) error {
	pluginv1.RegisterProviderServer(g, providerServer{server: s})
	pluginv1.RegisterCallsServer(g, callsServer{server: s})
	pluginv1.RegisterMediaServer(g, mediaServer{server: s})
	return nil
}

// GRPCClient implements goplugin.GRPCPlugin; a plugin dials nobody.
func (s *server) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("this is the plugin's side")
}

// watchParent ends the plugin's work when its parent is another one than at
// the start: core has died without a word. A parent that is merely stopped
// keeps its number.
func (s *server) watchParent(parent func() int) (stop func()) {
	first, done, gone := parent(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if parent() != first {
				s.end("core has died")
				return
			}
		}
	}()
	return func() { close(done); <-gone }
}

// end says goodbye for all legs, closes the provider and stops the process.
func (s *server) end(why string) {
	s.ending.Do(func() {
		s.log.Info("ending", "reason", why, "legs", s.conn.open())
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		s.conn.lost()
		if err := s.closeProvider(ctx); err != nil {
			s.log.Warn("close provider", "error", err)
		}
		s.conn.settle(ctx)
		s.conn.control.Close(io.EOF)
		s.conn.media.Close()
		close(s.ended)
		if g := s.grpc.Load(); g != nil {
			go stopServer(g) // waits for the very handler that may be calling us
		}
	})
	<-s.ended
}

// stopServer lets the streams deliver what was said last: the ends of the legs,
// or why the provider does not open.
func stopServer(g *grpc.Server) {
	hurry := time.AfterFunc(lastWords, g.Stop)
	defer hurry.Stop()
	g.GracefulStop()
}

func (s *server) closeProvider(ctx context.Context) error {
	switch p := s.provider.(type) {
	case Ingress:
		return p.Close(ctx)
	case Egress:
		return p.Close(ctx)
	}
	return nil
}

func (s *server) openProvider(ctx context.Context) ([]Listener, error) {
	switch p := s.provider.(type) {
	case Ingress:
		return p.Open(ctx, s.conn)
	case Egress:
		return p.Open(ctx)
	}
	return nil, fmt.Errorf("provider %T is neither an Ingress nor an Egress", s.provider)
}

type callsServer struct{ *server }

// Connect is the control stream: it opens the provider, and its end is the
// plugin's.
func (s callsServer) Connect(stream pluginv1.Calls_ConnectServer) error {
	s.mu.Lock()
	again := s.calls
	s.calls = true
	s.mu.Unlock()
	if again {
		return status.Error(codes.AlreadyExists, "the control stream is open already")
	}
	defer s.end("core closed the control stream")
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "the first message must be hello")
	}
	listeners, err := s.openProvider(stream.Context())
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	hello := &pluginv1.PluginHello{Capabilities: s.capabilities()}
	for _, l := range listeners {
		hello.Listeners = append(hello.Listeners, &pluginv1.Listener{Purpose: l.Purpose, Address: l.Address})
	}
	s.conn.tell(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Hello{Hello: hello}})
	return s.talk(stream)
}

func (s callsServer) talk(stream pluginv1.Calls_ConnectServer) error {
	ctx := stream.Context()
	var sender sync.WaitGroup
	sender.Go(func() {
		err := s.conn.control.Send(ctx, stream.Send)
		if errors.Is(err, ErrHung) { // what was not said cannot be made up for
			s.end("core does not read its control messages") //nolint:contextcheck // the farewell outlives the stream
		}
	})
	// Legs outlive the stream's context: they end politely, by lost.
	legs := context.WithoutCancel(ctx)
	for {
		m, err := stream.Recv()
		if err != nil {
			s.end("core closed the control stream")
			sender.Wait()
			return nil //nolint:nilerr // the stream's end is the plugin's, not a failure
		}
		s.conn.dispatch(legs, s.provider, m)
	}
}

type mediaServer struct{ *server }

// Connect is the media stream: one reader here, one sender beside it.
func (s mediaServer) Connect(stream pluginv1.Media_ConnectServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var sender sync.WaitGroup
	sender.Go(func() {
		// Its error is the stream's end, which the reader sees too.
		_ = wire.Send(ctx, s.conn.media, func(b *wire.Batch) error { return stream.SendMsg(b) })
	})
	defer sender.Wait()
	defer cancel()
	var batch wire.Batch
	var frame Frame
	for {
		if err := stream.RecvMsg(&batch); err != nil {
			return nil
		}
		s.counters.malformed.Add(uint64(max(batch.Malformed, 0)))
		s.read(batch.Packed, &frame)
	}
}

// read hands the batch's records to their legs.
func (s mediaServer) read(packed []byte, frame *Frame) {
	var r wire.Record
	for len(packed) > 0 {
		rest, err := r.Parse(packed)
		if err != nil {
			s.counters.truncated.Add(1)
			return
		}
		packed = rest
		if st := s.conn.slots.Lookup(r.Stream); st != nil {
			st.leg.deliver(&r, st.index, frame)
		} else {
			s.counters.unknown.Add(1)
		}
	}
}
