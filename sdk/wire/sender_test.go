package wire

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sent is one batch as the transport saw it.
type sent struct {
	At        time.Duration
	Sequences []uint32
}

type transport struct {
	start time.Time
	mu    sync.Mutex
	log   []sent
	err   error
}

func (tr *transport) send(t *testing.T, b *Batch) error {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.log = append(tr.log, sent{time.Since(tr.start), sequences(parseAll(t, b.Packed))})
	return tr.err
}

// A lone frame leaves at once; those that follow share a batch each interval.
func TestSendLeadingEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		q := NewQueue(DefaultLimits, func() int64 { return int64(time.Since(start)) })
		tr := &transport{start: start}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Send(ctx, q, func(b *Batch) error { return tr.send(t, b) }) }()
		for seq := range uint32(8) { // at 0, 300, 600 … 2100 µs
			q.Append(sound(seq))
			time.Sleep(300 * time.Microsecond)
		}
		time.Sleep(10 * time.Millisecond)
		q.Append(sound(8))
		synctest.Wait()
		at := time.Since(start)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("send ended with %v", err)
		}
		want := []sent{
			{0, []uint32{0}},
			{time.Millisecond, []uint32{1, 2, 3}},
			{2 * time.Millisecond, []uint32{4, 5, 6}},
			{3 * time.Millisecond, []uint32{7}},
			{at, []uint32{8}},
		}
		if diff := cmp.Diff(want, tr.log); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
}

// A backlog larger than a message leaves in several, at once and whole.
func TestSendBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(DefaultLimits, func() int64 { return 0 })
		for seq := range uint32(1000) {
			q.Append(sound(seq))
		}
		tr := &transport{start: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Send(ctx, q, func(b *Batch) error { return tr.send(t, b) }) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("send ended with %v", err)
		}
		next := uint32(0)
		for _, s := range tr.log {
			for _, seq := range s.Sequences {
				if seq != next || s.At != 0 {
					t.Fatalf("record %d at %v, want %d at once", seq, s.At, next)
				}
				next++
			}
		}
		if next != 1000 || len(tr.log) != 3 { // 184 KB in messages of 64 KiB
			t.Errorf("%d records in %d messages", next, len(tr.log))
		}
	})
}

func TestSendEndsWithTheTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(DefaultLimits, func() int64 { return 0 })
		q.Append(sound(1))
		broken := errors.New("broken pipe")
		tr := &transport{start: time.Now(), err: broken}
		if err := Send(t.Context(), q, func(b *Batch) error { return tr.send(t, b) }); !errors.Is(err, broken) {
			t.Errorf("send ended with %v", err)
		}
	})
}
