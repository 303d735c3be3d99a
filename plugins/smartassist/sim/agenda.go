package sim

import (
	"slices"
	"time"
)

// agenda is the timers of one call, run by the call's own goroutine, so that no timer needs a goroutine or a lock.
type agenda struct {
	entries []*entry
	timer   *time.Timer
}

// entry is one thing to do later.
type entry struct {
	due  time.Time
	what func()
}

func newAgenda() *agenda {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &agenda{timer: t}
}

// after has what run once d has passed; the result's cancel stops it.
func (a *agenda) after(d time.Duration, what func()) *entry {
	e := &entry{due: time.Now().Add(d), what: what}
	a.entries = append(a.entries, e)
	slices.SortStableFunc(a.entries, func(x, y *entry) int { return x.due.Compare(y.due) })
	a.arm()
	return e
}

// cancel takes an entry off; nil and entries that have run are ignored.
func (a *agenda) cancel(e *entry) {
	if i := slices.Index(a.entries, e); e != nil && i >= 0 {
		a.entries = slices.Delete(a.entries, i, i+1)
		a.arm()
	}
}

// run does what is due; it is called when the timer fires.
func (a *agenda) run() {
	for len(a.entries) > 0 && !a.entries[0].due.After(time.Now()) {
		e := a.entries[0]
		a.entries = slices.Delete(a.entries, 0, 1)
		e.what()
	}
	a.arm()
}

func (a *agenda) arm() {
	if len(a.entries) == 0 {
		a.timer.Stop()
		return
	}
	a.timer.Reset(time.Until(a.entries[0].due))
}

// backoff has send run after first, then after twice that, up to limit (RFC 3261 §17.1.1.2, §17.1.2.2), until stop is
// called; it gives up after total and runs expired instead.
func (a *agenda) backoff(first, limit, total time.Duration, send, expired func()) (stop func()) {
	var next, last *entry
	wait := first
	var again func()
	again = func() {
		send()
		wait = min(2*wait, limit)
		next = a.after(wait, again)
	}
	if send != nil {
		next = a.after(wait, again)
	}
	stop = func() { a.cancel(next); a.cancel(last) }
	last = a.after(total, func() { a.cancel(next); expired() })
	return stop
}
