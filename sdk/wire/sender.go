package wire

import (
	"context"
	"time"
)

// FlushInterval is the least time between two batches under load: a lone frame
// leaves at once, many share a batch (design §4: leading edge plus 1 ms).
const FlushInterval = time.Millisecond

// Send empties q through send until ctx ends or send fails. It is the queue's
// only consumer; send may block, which is why nobody else calls it.
func Send(ctx context.Context, q *Queue, send func(*Batch) error) error {
	var batch Batch
	buf := make([]byte, 0, MaxBatch)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.Ready():
		}
		for more := true; more; {
			batch.Packed, more = q.Take(buf)
			if len(batch.Packed) == 0 {
				continue
			}
			if err := send(&batch); err != nil {
				return err
			}
		}
		time.Sleep(FlushInterval) // the cheapest wait there is; not a race to win
	}
}
