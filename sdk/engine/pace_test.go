package engine

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const ms = int64(time.Millisecond)

// bubble is a test in a synctest bubble, with a netpoll engine on the bubble's clock.
type bubble struct {
	*testing.T
	Engine
}

// halt closes the engine; then what the paced functions wrote may be read.
func (b bubble) halt() {
	if err := b.Close(); err != nil {
		b.Error(err)
	}
}

func paced(t *testing.T, test func(b bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := bubble{T: t, Engine: openNetpoll(Clock{base: 1e12, start: time.Now()})}
		defer b.halt()
		test(b)
	})
}

func TestEveryIsExact(t *testing.T) {
	paced(t, func(b bubble) {
		var dues, calls []int64
		p := b.Every(20*time.Millisecond, func(due int64) {
			dues, calls = append(dues, due), append(calls, b.Now())
		})
		time.Sleep(2*time.Second + 10*time.Millisecond)
		p.Stop()
		p.Wait()
		if n := len(dues); n < 99 || n > 101 {
			b.Fatalf("%d calls in 2 s", n)
		}
		for i := range dues {
			if calls[i] != dues[i] {
				b.Errorf("call %d came at %d, due %d", i, calls[i], dues[i])
			}
			if i > 0 && dues[i]-dues[i-1] != 20*ms {
				b.Errorf("step %d is %d ns", i, dues[i]-dues[i-1])
			}
		}
		n := len(dues)
		time.Sleep(time.Second)
		if len(dues) != n {
			b.Error("called after Stop")
		}
	})
}

func TestEverySpreads(t *testing.T) {
	paced(t, func(b bubble) {
		slots := make(map[int64]int)
		for range 100 {
			first := true
			b.Every(20*time.Millisecond, func(due int64) {
				if first {
					slots[due%(20*ms)/ms]++
				}
				first = false
			})
		}
		time.Sleep(100 * time.Millisecond)
		b.halt()
		for slot := range int64(20) {
			if n := slots[slot]; n < 3 || n > 7 {
				b.Errorf("slot %d has %d of 100, want about 5", slot, n)
			}
		}
	})
}

// A function that stalls the tick makes the others late, and they catch up without drift.
func TestEveryCatchesUp(t *testing.T) {
	paced(t, func(b bubble) {
		var dues []int64
		b.Every(20*time.Millisecond, func(due int64) { dues = append(dues, due) })
		stalls := []time.Duration{70 * time.Millisecond, 500 * time.Millisecond}
		b.Every(time.Second, func(int64) {
			if len(stalls) > 0 {
				time.Sleep(stalls[0])
				stalls = stalls[1:]
			}
		})
		time.Sleep(5 * time.Second)
		stats := b.Stats()
		b.halt()
		var skipped int64
		for i := 1; i < len(dues); i++ {
			step := dues[i] - dues[i-1]
			if step%(20*ms) != 0 {
				b.Fatalf("step %d is %d ns: off the grid", i, step)
			}
			skipped += step/(20*ms) - 1
		}
		// The long stall passed 25 due times, of which 5 are made up for.
		if skipped < 19 || skipped > 21 {
			b.Errorf("%d due times skipped, want about 20", skipped)
		}
		if got := stats.SkippedSlots; got != uint64(skipped) {
			b.Errorf("stats say %d skipped, saw %d", got, skipped)
		}
	})
}

func TestPaceStopFromItself(t *testing.T) {
	paced(t, func(b bubble) {
		var p *Pace
		n := 0
		bound := make(chan struct{})
		p = b.Every(5*time.Millisecond, func(int64) {
			<-bound
			if n++; n == 3 {
				p.Stop()
			}
		})
		close(bound)
		other := 0
		b.Every(5*time.Millisecond, func(int64) { other++ })
		time.Sleep(time.Second)
		b.halt()
		if n != 3 {
			b.Errorf("%d calls, want 3", n)
		}
		if other < 190 {
			b.Errorf("the other function was called %d times", other)
		}
	})
}

func TestPaceWaitSeesTheEnd(t *testing.T) {
	paced(t, func(b bubble) {
		entered := make(chan struct{})
		done := false
		p := b.Every(20*time.Millisecond, func(int64) {
			close(entered)
			time.Sleep(300 * time.Millisecond)
			done = true
		})
		<-entered
		p.Stop()
		p.Wait()
		if !done {
			b.Error("Wait returned while the function ran")
		}
		p.Stop() // again: no harm
		p.Wait()
	})
}

func TestEveryIsAtLeastATick(t *testing.T) {
	paced(t, func(b bubble) {
		n := 0
		b.Every(0, func(int64) { n++ })
		time.Sleep(105 * time.Millisecond)
		b.halt()
		if n < 90 || n > 110 {
			b.Errorf("%d calls in 100 ms", n)
		}
	})
}

// Whatever is added, stopped and however late the wheel runs: calls come in order of due times, never early, at most
// maxCatchUp in a row, on each Pace's own grid, and what is not called is counted.
func TestWheelProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1e12)
		w := newWheel(func() int64 { return now })
		type entry struct {
			p                 *Pace
			interval, last    int64
			called, inThisRun int
		}
		var live []*entry
		var skipped, lastDue int64
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				en := &entry{interval: rapid.Int64Range(1, 60).Draw(t, "interval") * ms}
				en.p = w.add(time.Duration(en.interval), func(due int64) {
					if due > now || due < lastDue {
						t.Fatalf("due %d at %d after %d", due, now, lastDue)
					}
					if en.called > 0 {
						if (due-en.last)%en.interval != 0 || due <= en.last {
							t.Fatalf("due %d after %d is off the grid of %d", due, en.last, en.interval)
						}
						skipped += (due-en.last)/en.interval - 1
					}
					if en.inThisRun++; en.inThisRun > maxCatchUp {
						t.Fatalf("more than %d calls in one run", maxCatchUp)
					}
					en.last, lastDue = due, due
					en.called++
				})
				if first := en.p.due; first < now+maxNap || first >= now+maxNap+en.interval+tick {
					t.Fatalf("first due %d is %d after now", first, first-now)
				}
				live = append(live, en)
			},
			"stop": func(t *rapid.T) {
				if len(live) == 0 {
					t.Skip("nothing to stop")
				}
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				live[i].p.Stop()
				live = slices.Delete(live, i, i+1)
			},
			"run": func(t *rapid.T) {
				now += rapid.Int64Range(0, 300).Draw(t, "elapsed") * ms
				lastDue = 0
				for _, en := range live {
					en.inThisRun = 0
				}
				w.run(now)
			},
			"": func(t *rapid.T) {
				if len(w.heap) != len(live) {
					t.Fatalf("%d in the heap, %d live", len(w.heap), len(live))
				}
				for i, p := range w.heap {
					if p.index != i || (i > 0 && w.heap[(i-1)/2].due > p.due) {
						t.Fatalf("heap broken at %d", i)
					}
				}
			},
		})
	})
}

func TestWheelRunDoesNotAllocate(t *testing.T) {
	now := int64(1e12)
	w := newWheel(func() int64 { return now })
	for range 100 {
		w.add(20*time.Millisecond, func(int64) {})
	}
	if n := testing.AllocsPerRun(100, func() {
		now += ms
		w.run(now)
	}); n != 0 {
		t.Errorf("a tick allocates %v", n)
	}
}

// On the real clock the pace holds too.
func TestEveryRealTime(t *testing.T) {
	e := open(t)
	done := make(chan []int64, 1)
	var at []int64
	var p *Pace
	bound := make(chan struct{})
	p = e.Every(2*time.Millisecond, func(int64) {
		<-bound
		if at = append(at, e.Now()); len(at) == 101 {
			p.Stop()
			done <- at
		}
	})
	close(bound)
	got := within(t, done, "paced calls")
	// 100 intervals of 2 ms; a loaded machine may be late and skip, but is never early.
	if span := got[100] - got[0]; span < 190*ms {
		t.Errorf("100 intervals of 2 ms took %v", time.Duration(span))
	}
}
