package wire

import (
	"errors"
	"sync"
	"sync/atomic"
)

// StreamID numbers a stream on one plugin's media connection: bits 0-19 are
// the slot, bits 20-31 its generation, so that a late record of an ended leg
// never reaches the slot's next owner.
type StreamID uint32

const (
	slotBits   = 20
	slotMask   = 1<<slotBits - 1
	generation = 1 << slotBits
)

// Slot is the index part of the id.
func (id StreamID) Slot() int { return int(id & slotMask) }

// ErrNoSlot says that all of a table's slots are in use.
var ErrNoSlot = errors.New("no free media slot")

// errTaken says that an id given to Claim is in use.
var errTaken = errors.New("media stream number is in use")

const chunkSize = 256

type chunk[T any] [chunkSize]atomic.Pointer[entry[T]]

type entry[T any] struct {
	id    StreamID
	owner *T
}

// Slots maps stream ids to their owners. Lookup is lock-free and meant for a
// media reader; Open, Claim and Close are for call set-up and end.
type Slots[T any] struct {
	chunks [1 << slotBits / chunkSize]atomic.Pointer[chunk[T]]

	mu   sync.Mutex
	free []StreamID // the ids their slots will get next, oldest first
	next int        // first slot never used
	used int
	max  int
}

// NewSlots makes a table of at most limit slots (0: as many as ids can name).
func NewSlots[T any](limit int) *Slots[T] {
	if limit <= 0 || limit > slotMask+1 {
		limit = slotMask + 1
	}
	return &Slots[T]{max: limit}
}

// Lookup finds the owner of id; nil when the slot is empty or of another
// generation.
func (s *Slots[T]) Lookup(id StreamID) *T {
	c := s.chunks[id.Slot()/chunkSize].Load()
	if c == nil {
		return nil
	}
	e := c[id.Slot()%chunkSize].Load()
	if e == nil || e.id != id {
		return nil
	}
	return e.owner
}

// Open gives owner a slot and returns its id.
func (s *Slots[T]) Open(owner *T) (StreamID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.take()
	if err != nil {
		return 0, err
	}
	s.put(id, owner)
	return id, nil
}

// take picks the id to hand out. A freed slot rests as long as others are
// there: the longest-free one goes first once fresh slots are used up.
func (s *Slots[T]) take() (StreamID, error) {
	if len(s.free) > 0 && (s.next == s.max || len(s.free) >= chunkSize) {
		id := s.free[0]
		s.free = s.free[1:]
		return id, nil
	}
	if s.next == s.max {
		return 0, ErrNoSlot
	}
	id := StreamID(s.next)
	s.next++
	return id, nil
}

// Claim puts owner under an id that the other side has chosen.
func (s *Slots[T]) Claim(id StreamID, owner *T) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.chunks[id.Slot()/chunkSize].Load(); c != nil && c[id.Slot()%chunkSize].Load() != nil {
		return errTaken
	}
	s.put(id, owner)
	return nil
}

func (s *Slots[T]) put(id StreamID, owner *T) {
	p := &s.chunks[id.Slot()/chunkSize]
	c := p.Load()
	if c == nil {
		c = new(chunk[T])
		p.Store(c)
	}
	c[id.Slot()%chunkSize].Store(&entry[T]{id: id, owner: owner})
	s.used++
}

// Close frees id's slot. Closing an id that is not open does nothing. Only
// ids from Open are handed out again.
func (s *Slots[T]) Close(id StreamID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Lookup(id) == nil {
		return
	}
	s.chunks[id.Slot()/chunkSize].Load()[id.Slot()%chunkSize].Store(nil)
	s.used--
	if id.Slot() < s.next {
		s.free = append(s.free, id+generation) // wraps over 12 bits by itself
	}
}

// Used counts the open slots.
func (s *Slots[T]) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Each calls fn for every open slot's owner. It may miss or see slots that
// open or close meanwhile.
func (s *Slots[T]) Each(fn func(StreamID, *T)) {
	for i := range s.chunks {
		c := s.chunks[i].Load()
		if c == nil {
			continue
		}
		for j := range c {
			if e := c[j].Load(); e != nil {
				fn(e.id, e.owner)
			}
		}
	}
}
