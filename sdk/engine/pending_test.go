package engine

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

type queued struct {
	data  []byte
	class Class
	op    Op
	at    int64
}

// model is the queue's contract in the plainest form.
type model struct {
	q                       []queued
	droppedFull, droppedOld uint64
	bound                   [2]int
	maxAge                  int64
}

func (m *model) used(c Class) (n int) {
	for _, x := range m.q {
		if x.class == c {
			n += len(x.data) + recordOverhead
		}
	}
	return n
}

func (m *model) dropOldestMedia() bool {
	for i, x := range m.q {
		if x.class == Media {
			m.q = append(m.q[:i:i], m.q[i+1:]...)
			return true
		}
	}
	return false
}

func (m *model) expire(now int64) {
	kept := m.q[:0:0]
	for _, x := range m.q {
		if x.class == Media && now-x.at > m.maxAge {
			m.droppedOld++
			continue
		}
		kept = append(kept, x)
	}
	m.q = kept
}

func (m *model) push(x queued) error {
	size := len(x.data) + recordOverhead
	if size > m.bound[x.class] {
		return ErrTooLarge
	}
	if x.class == Media {
		m.expire(x.at)
		for m.used(Media)+size > m.bound[Media] && m.dropOldestMedia() {
			m.droppedFull++
		}
	} else if m.used(Control)+size > m.bound[Control] {
		return ErrOverflow
	}
	m.q = append(m.q, x)
	return nil
}

func TestPendingAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{bound: [2]int{rapid.IntRange(24, 6000).Draw(t, "media"), rapid.IntRange(24, 3000).Draw(t, "control")}, maxAge: 100}
		p := newPending(m.bound[Media], m.bound[Control], m.maxAge)
		var now int64
		var buf []byte
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				x := queued{
					data:  bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.IntRange(0, 900).Draw(t, "size")),
					class: Class(rapid.IntRange(0, 1).Draw(t, "class")),
					op:    Op(rapid.IntRange(1, 2).Draw(t, "op")),
					at:    now,
				}
				got, want := p.push(x.op, x.data, x.class, now), m.push(x)
				if !errors.Is(got, want) {
					t.Fatalf("push: %v, want %v", got, want)
				}
			},
			"next": func(t *rapid.T) {
				op, data, ok := p.next(now, buf[:0])
				buf = data
				m.expire(now)
				if ok != (len(m.q) > 0) {
					t.Fatalf("next: ok %v with %d queued", ok, len(m.q))
				}
				if !ok {
					return
				}
				if want := m.q[0]; op != want.op || !bytes.Equal(data, want.data) {
					t.Fatalf("next: %d %q, want %d %q", op, data, want.op, want.data)
				}
				m.q = m.q[1:]
			},
			"time": func(t *rapid.T) { now += rapid.Int64Range(0, 60).Draw(t, "elapsed") },
			"": func(t *rapid.T) {
				if p.media.used > p.media.bound || p.control.used > p.control.bound {
					t.Fatalf("over the bound: %d/%d %d/%d", p.media.used, p.media.bound, p.control.used, p.control.bound)
				}
				if len(p.media.buf) > max(p.media.bound, firstRing) || len(p.control.buf) > max(p.control.bound, firstRing) {
					t.Fatalf("memory over the bound: %d %d", len(p.media.buf), len(p.control.buf))
				}
				if p.droppedFull != m.droppedFull || p.droppedOld != m.droppedOld {
					t.Fatalf("dropped %d full %d old, want %d %d", p.droppedFull, p.droppedOld, m.droppedFull, m.droppedOld)
				}
				if got := p.media.count + p.control.count; got != len(m.q) {
					t.Fatalf("%d queued, want %d", got, len(m.q))
				}
			},
		})
	})
}

func TestPendingDoesNotAllocate(t *testing.T) {
	p := newPending(16<<10, 16<<10, 1<<40)
	frame := make([]byte, 380)
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		if p.push(Text, frame, Media, 0) != nil || p.push(Text, frame, Control, 0) != nil {
			t.Error("push failed")
		}
		_, buf, _ = p.next(0, buf[:0])
		_, buf, _ = p.next(0, buf[:0])
	}); n != 0 {
		t.Errorf("a message through the queue allocates %v", n)
	}
}
