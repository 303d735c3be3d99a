package wire

import (
	"errors"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotsGeneration(t *testing.T) {
	s := NewSlots[string](1)
	first, second := "first", "second"
	a, err := s.Open(&first)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Lookup(a); got != &first {
		t.Fatalf("lookup gives %v", got)
	}
	if _, err = s.Open(&second); !errors.Is(err, ErrNoSlot) {
		t.Fatalf("second slot of one: %v", err)
	}
	s.Close(a)
	if s.Lookup(a) != nil {
		t.Error("closed slot has an owner")
	}
	b, err := s.Open(&second)
	if err != nil {
		t.Fatal(err)
	}
	if b.Slot() != a.Slot() || b == a {
		t.Errorf("reuse of %#x is %#x, want the slot in a new generation", a, b)
	}
	if s.Lookup(a) != nil || s.Lookup(b) != &second {
		t.Error("a late record of the ended leg reaches the next owner")
	}
	s.Close(a) // a second time, late
	if s.Lookup(b) != &second || s.Used() != 1 {
		t.Error("closing an old id closed the slot's next owner")
	}
}

func TestSlotsGenerationWraps(t *testing.T) {
	s := NewSlots[int](1)
	owner := 1
	seen := map[StreamID]bool{}
	for range 1 << 12 {
		id, err := s.Open(&owner)
		if err != nil {
			t.Fatal(err)
		}
		if seen[id] {
			t.Fatalf("id %#x came twice within 4096 generations", id)
		}
		seen[id] = true
		s.Close(id)
	}
	if id, err := s.Open(&owner); err != nil || id != 0 {
		t.Errorf("after all generations %#x, %v; want the first again", id, err)
	}
}

func TestSlotsBound(t *testing.T) {
	s := NewSlots[int](1 << 21) // more than ids can name
	owner := 1
	for i := range 1 << slotBits {
		if id, err := s.Open(&owner); err != nil || id.Slot() != i {
			t.Fatalf("slot %d: %#x, %v", i, id, err)
		}
	}
	if _, err := s.Open(&owner); !errors.Is(err, ErrNoSlot) {
		t.Errorf("slot %d: %v", 1<<slotBits, err)
	}
	if s.Used() != 1<<slotBits {
		t.Errorf("%d used", s.Used())
	}
	if s.Lookup(1<<slotBits-1) != &owner || s.Lookup(1<<32-1) != nil {
		t.Error("the last slot is not found by its id alone")
	}
}

func TestSlotsClaim(t *testing.T) {
	s := NewSlots[int](0)
	a, b := 1, 2
	const id = StreamID(5<<slotBits | 12345)
	if err := s.Claim(id, &a); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(id+generation, &b); !errors.Is(err, errTaken) {
		t.Errorf("claim of a slot in use: %v", err)
	}
	s.Close(id + generation)
	if s.Lookup(id) != &a {
		t.Error("closing another generation freed the slot")
	}
	seen := 0
	s.Each(func(got StreamID, owner *int) {
		if seen++; got != id || owner != &a {
			t.Errorf("each gives %#x, %v", got, owner)
		}
	})
	if seen != 1 {
		t.Errorf("each saw %d slots", seen)
	}
	s.Close(id)
	if err := s.Claim(id+generation, &b); err != nil {
		t.Errorf("claim of a freed slot: %v", err)
	}
}

// TestSlotsModel: an id names its owner from Open to Close, and no other id
// does.
func TestSlotsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 600).Draw(t, "limit")
		s := NewSlots[int](limit)
		open, closed := map[StreamID]*int{}, []StreamID{}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "n") {
					owner := new(int)
					id, err := s.Open(owner)
					if full := len(open) == limit; full != errors.Is(err, ErrNoSlot) {
						t.Fatalf("%d of %d open: %v", len(open), limit, err)
					} else if full {
						return
					}
					if open[id] != nil {
						t.Fatalf("id %#x given out twice", id)
					}
					open[id] = owner
				}
			},
			"close": func(t *rapid.T) {
				n := rapid.IntRange(0, len(open)).Draw(t, "n")
				for id := range open {
					if n--; n < 0 {
						break
					}
					s.Close(id)
					delete(open, id)
					closed = append(closed, id)
				}
			},
			"": func(t *rapid.T) {
				if s.Used() != len(open) {
					t.Fatalf("%d used, %d open", s.Used(), len(open))
				}
				for id, owner := range open {
					if s.Lookup(id) != owner {
						t.Fatalf("id %#x lost its owner", id)
					}
				}
				for _, id := range closed {
					if open[id] == nil && s.Lookup(id) != nil {
						t.Fatalf("closed id %#x has an owner", id)
					}
				}
			},
		})
	})
}

// Readers run beside set-up and end; the race detector watches.
func TestSlotsConcurrent(t *testing.T) {
	s := NewSlots[StreamID](0)
	ids := make(chan StreamID, 64)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				owner := new(StreamID)
				id, err := s.Open(owner)
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case ids <- id:
				default:
				}
				if s.Lookup(id) != owner {
					t.Errorf("id %#x is another's", id)
				}
				s.Close(id)
			}
		})
	}
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case id := <-ids:
				s.Lookup(id)
				s.Each(func(StreamID, *StreamID) {})
			case <-done:
				return
			}
		}
	})
	wg.Wait()
	close(done)
	reader.Wait()
	if s.Used() != 0 {
		t.Errorf("%d slots left", s.Used())
	}
}
