package host

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// halfDead is a plugin in another language that has lost its media stream.
type halfDead struct {
	pluginv1.UnimplementedCallsServer
	pluginv1.UnimplementedMediaServer
}

type halfDeadMedia struct{ halfDead }

func (halfDead) Connect(stream pluginv1.Calls_ConnectServer) error {
	if err := stream.Send(&pluginv1.PluginMessage{Message: &pluginv1.PluginMessage_Hello{Hello: &pluginv1.PluginHello{}}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (halfDeadMedia) Connect(pluginv1.Media_ConnectServer) error { return nil }

// A plugin whose media stream has ended carries no calls: it does not go on
// for ever with its control stream alone.
func TestMediaStreamEndsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		g := grpc.NewServer()
		pluginv1.RegisterCallsServer(g, halfDead{})
		pluginv1.RegisterMediaServer(g, halfDeadMedia{})
		served := make(chan error, 1)
		go func() { served <- g.Serve(l) }()
		conn, err := grpc.NewClient("passthrough:///plugin", append(sdk.DialOptions(),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := dial(t.Context(), &Process{conn: conn}, func() int64 { return 0 }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err = c.run(t.Context(), func(*pluginv1.PluginMessage) {}); err == nil {
			t.Error("ended without an error")
		}
		if took := time.Since(start); took != streamGrace {
			t.Errorf("ended after %v, want %v", took, streamGrace)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
