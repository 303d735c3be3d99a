package sdk

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/protobuf/proto"
)

// maxControl bounds the control messages waiting for a peer, in bytes. They
// are never dropped: a peer that lets so many wait hangs.
const maxControl = 1 << 20

// ErrHung says that the other side does not read its control messages.
var ErrHung = errors.New("control queue is full: the other side does not read")

// ControlQueue holds control messages between those who have something to say,
// who never block, and the one sender.
type ControlQueue[M proto.Message] struct {
	mu    sync.Mutex
	queue []M
	bytes int
	err   error
	ready chan struct{}
}

// NewControlQueue makes an empty queue.
func NewControlQueue[M proto.Message]() *ControlQueue[M] {
	return &ControlQueue[M]{ready: make(chan struct{}, 1)}
}

// Put queues m. It fails when the queue is full (ErrHung, for ever after) or
// closed.
func (q *ControlQueue[M]) Put(m M) error {
	size := proto.Size(m)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	if q.bytes+size > maxControl {
		q.err = ErrHung
	} else {
		q.queue = append(q.queue, m)
		q.bytes += size
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return q.err
}

// Close makes Put fail with err and Send return once it has sent what waits.
func (q *ControlQueue[M]) Close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Send empties the queue through send, in order, until ctx ends, send fails or
// the queue is closed.
func (q *ControlQueue[M]) Send(ctx context.Context, send func(M) error) error {
	for {
		q.mu.Lock()
		batch, err := q.queue, q.err
		q.queue, q.bytes = nil, 0
		q.mu.Unlock()
		if errors.Is(err, ErrHung) {
			return err
		}
		for _, m := range batch {
			if e := send(m); e != nil {
				q.Close(e)
				return e
			}
		}
		if err != nil && len(batch) == 0 {
			return err
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			q.Close(ctx.Err())
			return ctx.Err()
		case <-q.ready:
		}
	}
}
