package main

import (
	"slices"
	"sync"
	"time"
)

// badFor is how long a target that failed is tried after the others.
const badFor = 30 * time.Second

// health remembers which targets failed lately.
type health struct {
	now func() time.Time

	mu    sync.Mutex
	until map[target]time.Time // until when
}

func newHealth() *health { return &health{now: time.Now, until: map[target]time.Time{}} }

// order is the configured order, with those that failed lately behind the others: a dead SBC then costs one caller
// four seconds, not each of them.
func (h *health) order(targets []target) []target {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	failed := func(t target) bool { return now.Before(h.until[t]) }
	out := make([]target, 0, len(targets))
	for _, t := range targets {
		if !failed(t) {
			out = append(out, t)
		}
	}
	return slices.Concat(out, slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !failed(t) }))
}

func (h *health) bad(t target) {
	h.mu.Lock()
	h.until[t] = h.now().Add(badFor)
	h.mu.Unlock()
}

func (h *health) good(t target) {
	h.mu.Lock()
	delete(h.until, t)
	h.mu.Unlock()
}

// failing is the number of targets that failed lately.
func (h *health) failing() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, until := range h.until {
		if h.now().Before(until) {
			n++
		}
	}
	return n
}
