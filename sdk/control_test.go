package sdk

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

func hold(id string) *pluginv1.CoreMessage {
	return &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Hold{Hold: &pluginv1.Hold{CallId: id}}}
}

func TestControlQueueOrderAndClose(t *testing.T) {
	q := NewControlQueue[*pluginv1.CoreMessage]()
	want := strings.Split("a b c d e", " ")
	for _, id := range want {
		if err := q.Put(hold(id)); err != nil {
			t.Fatal(err)
		}
	}
	q.Close(io.EOF)
	q.Close(errors.New("the first counts"))
	if err := q.Put(hold("late")); !errors.Is(err, io.EOF) {
		t.Errorf("put after close: %v", err)
	}
	var got []string
	err := q.Send(t.Context(), func(m *pluginv1.CoreMessage) error {
		got = append(got, m.GetHold().GetCallId())
		return nil
	})
	if !errors.Is(err, io.EOF) {
		t.Errorf("send ended with %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestControlQueueHung(t *testing.T) {
	q := NewControlQueue[*pluginv1.CoreMessage]()
	big := hold(strings.Repeat("x", 1000))
	n := 0
	for ; q.Put(big) == nil; n++ {
		if n > maxControl/1000 {
			t.Fatal("the queue has no bound")
		}
	}
	if n < maxControl/1100 {
		t.Errorf("full after %d messages", n)
	}
	if err := q.Put(hold("x")); !errors.Is(err, ErrHung) {
		t.Errorf("put to a hung queue: %v", err)
	}
	if err := q.Send(t.Context(), func(*pluginv1.CoreMessage) error { return nil }); !errors.Is(err, ErrHung) {
		t.Errorf("send ended with %v", err)
	}
}

func TestControlQueueSendEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewControlQueue[*pluginv1.CoreMessage]()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Send(ctx, func(*pluginv1.CoreMessage) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("send ended with %v", err)
		}
		if err := q.Put(hold("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put after the sender's end: %v", err)
		}
		broken := errors.New("broken")
		q = NewControlQueue[*pluginv1.CoreMessage]()
		_ = q.Put(hold("x"))
		if err := q.Send(t.Context(), func(*pluginv1.CoreMessage) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("send ended with %v", err)
		}
		if err := q.Put(hold("x")); !errors.Is(err, broken) {
			t.Errorf("put after a failed send: %v", err)
		}
	})
}

// A core that stops reading and comes back has missed something: the plugin
// ends rather than go on with half of the truth.
func TestHungCoreEndsThePlugin(t *testing.T) {
	flooded := make(chan struct{})
	p := placer{newBasis(), func(ctx context.Context, leg EgressLeg, _ Placement) Ending {
		// What the transport takes in, what one round of the sender holds, and
		// the queue: three times over its bound is enough for all of them.
		for range 100 {
			leg.Checkpoint(make([]byte, 64<<10))
		}
		close(flooded)
		<-ctx.Done()
		return Ending{Termination: HangupCause(ctx)}
	}}
	c := dial(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.openControl(ctx, t)
	c.place(t, "call-1", 1)
	await(t, flooded, "end of the flood") // core reads nothing meanwhile
	if err := c.server.conn.control.Put(&pluginv1.PluginMessage{}); !errors.Is(err, ErrHung) {
		t.Fatalf("control queue after 6 MiB: %v", err)
	}
	for {
		if _, err := c.calls.Recv(); err != nil {
			break
		}
	}
	await(t, p.closed, "Close of the provider")
	await(t, c.served, "end of the gRPC server")
}

func TestWatchParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parents := make(chan int, 10)
		for _, pid := range []int{100, 100, 100, 1} {
			parents <- pid
		}
		p := placer{basis: newBasis()}
		s := newServer(p, quiet().log)
		start := time.Now()
		stop := s.watchParent(func() int { return <-parents })
		<-s.ended
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("ended after %v", took)
		}
		<-p.closed
		stop()

		s = newServer(p, quiet().log)
		stop = s.watchParent(func() int { return 7 })
		time.Sleep(10 * time.Second)
		stop() // the parent stays: nothing ends
		select {
		case <-s.ended:
			t.Error("ended without need")
		default:
		}
	})
}
