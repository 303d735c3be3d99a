package engine

import (
	"sync"
	"time"
)

const (
	// tick is the grid due times lie on: all functions due within one tick share one wake-up.
	tick = int64(time.Millisecond)
	// maxNap bounds a sleep of the tick. First due times are at least that far off, so a new Pace never waits for a
	// sleeper.
	maxNap = 5 * tick
	// maxCatchUp is how many due times of a Pace are made up for after a stall; at 20 ms this is 100 ms.
	maxCatchUp = 5
)

// Pace is one function called at a steady rate; see Engine.Every.
type Pace struct {
	w        *wheel
	fn       func(due int64)
	interval int64
	due      int64
	index    int // in wheel.heap; -1 when stopped
}

// Stop ends the calls: none begins after it returns, one in progress may still run. It may be called by anyone at any
// time, by the paced function too.
func (p *Pace) Stop() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.index >= 0 {
		p.w.remove(p.index)
	}
}

// Wait waits until a call in progress has returned. It must not be called from the paced function itself, nor while
// holding a lock that function takes. Stop then Wait means: fn has ended for good.
func (p *Pace) Wait() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for p.w.running == p {
		p.w.ran.Wait()
	}
}

// wheel keeps all Paces of an engine in order of their due times, in a binary heap, and calls those that are due.
// One goroutine at a time may call run.
type wheel struct {
	now func() int64

	mu      sync.Mutex
	wake    sync.Cond // the heap is no longer empty, or closed
	ran     sync.Cond // running changed
	heap    []*Pace
	running *Pace
	added   uint64
	skipped uint64
	closed  bool
}

func newWheel(now func() int64) *wheel {
	w := &wheel{now: now}
	w.wake.L, w.ran.L = &w.mu, &w.mu
	return w
}

// add registers fn. On a closed wheel it returns a Pace that never calls.
func (w *wheel) add(interval time.Duration, fn func(due int64)) *Pace {
	p := &Pace{w: w, fn: fn, interval: max(int64(interval), tick), index: -1}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return p
	}
	p.due = firstDue(w.now()+maxNap, p.interval, w.added)
	w.added++
	p.index = len(w.heap)
	w.heap = append(w.heap, p)
	w.up(p.index)
	w.wake.Signal()
	return p
}

// firstDue is the first time from earliest on that lies on the phase of the n-th Pace.
func firstDue(earliest, interval int64, n uint64) int64 {
	// Multiples of the golden ratio, modulo one, spread evenly however many there are (Fibonacci hashing).
	fraction := (n * 0x9E3779B97F4A7C15) >> 32
	slots := uint64(interval / tick)
	phase := int64((fraction*slots)>>32) * tick
	due := earliest - earliest%interval + phase // on the phase, within an interval of earliest
	for due < earliest {
		due += interval
	}
	return due
}

// run calls what is due at now, in order of due times.
func (w *wheel) run(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 && !w.closed {
		p := w.heap[0]
		late := now - p.due
		if late < 0 {
			return
		}
		if behind := late / p.interval; behind >= maxCatchUp {
			p.due += (behind - maxCatchUp + 1) * p.interval
			w.skipped += uint64(behind - maxCatchUp + 1)
			w.down(0)
			continue
		}
		due := p.due
		p.due += p.interval
		w.down(0)
		w.call(p, due)
	}
}

// call runs one function without the lock.
func (w *wheel) call(p *Pace, due int64) {
	w.running = p
	w.mu.Unlock()
	p.fn(due)
	w.mu.Lock()
	w.running = nil
	w.ran.Broadcast()
}

// nap is how long nothing is due. It waits while there is no Pace at all; ok is false when the wheel is closed.
func (w *wheel) nap() (d time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) == 0 && !w.closed {
		w.wake.Wait()
	}
	if w.closed {
		return 0, false
	}
	return time.Duration(min(w.heap[0].due-w.now(), maxNap)), true
}

// loop is the tick goroutine of backends that have no thread of their own.
func (w *wheel) loop() {
	for {
		d, ok := w.nap()
		if !ok {
			return
		}
		if d > 0 {
			time.Sleep(d) // the cheapest way to sleep a millisecond; timers and tickers cost a channel send more
		}
		w.run(w.now())
	}
}

// close stops every Pace and lets loop end.
func (w *wheel) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, p := range w.heap {
		p.index = -1
	}
	w.heap = nil
	w.wake.Broadcast()
}

func (w *wheel) stats() (paces int, skipped uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.heap), w.skipped
}

func (w *wheel) remove(i int) {
	last := len(w.heap) - 1
	w.heap[i].index = -1
	if i != last {
		w.heap[i] = w.heap[last]
		w.heap[i].index = i
	}
	w.heap[last] = nil
	w.heap = w.heap[:last]
	if i < last {
		w.down(i)
		w.up(i)
	}
}

func (w *wheel) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if w.heap[parent].due <= w.heap[i].due {
			return
		}
		w.swap(i, parent)
		i = parent
	}
}

func (w *wheel) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(w.heap) {
			return
		}
		if right := child + 1; right < len(w.heap) && w.heap[right].due < w.heap[child].due {
			child = right
		}
		if w.heap[i].due <= w.heap[child].due {
			return
		}
		w.swap(i, child)
		i = child
	}
}

func (w *wheel) swap(i, j int) {
	w.heap[i], w.heap[j] = w.heap[j], w.heap[i]
	w.heap[i].index, w.heap[j].index = i, j
}
