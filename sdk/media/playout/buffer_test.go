package playout_test

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/patchbay/patchbay/sdk/media/playout"
)

func newBuffer(t interface{ Fatal(...any) }, config playout.Config) *playout.Buffer {
	b, err := playout.NewBuffer(config)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkAccount checks what must hold after every step.
func checkAccount(t interface{ Fatalf(string, ...any) }, b *playout.Buffer) {
	s := b.Stats()
	held := uint64(b.Depth() / (125 * time.Microsecond))
	if b.Depth() < 0 || b.Depth() > 120*time.Millisecond {
		t.Fatalf("depth is %v", b.Depth())
	}
	if s.Pushed != s.Played+s.Silence+s.Speech+s.Overflow+s.Preroll+s.Cleared+held {
		t.Fatalf("%d samples held, stats %+v", held, s)
	}
	if target := b.Target(); target < 10*time.Millisecond || target > 120*time.Millisecond {
		t.Fatalf("target is %v", target)
	}
}

// TestClean: whatever the phase, with up to 3 ms of jitter nothing is lost or
// altered, and a frame waits at most a frame and the jitter.
func TestClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		phase := rapid.Int64Range(0, ptime-1).Draw(t, "phase")
		jitter := rapid.Int64Range(0, 3*ms).Draw(t, "jitter")
		size := rapid.SampledFrom([]int{160, 160, 80, 320, 100}).Draw(t, "size")
		seed := rapid.Uint64().Draw(t, "seed")
		audio := stream(seed, 1500, always)
		b := newBuffer(t, playout.Config{})
		out := play(b, arrivals(audio, size, jittered(seed, jitter)), phase, func() { checkAccount(t, b) })
		if !bytes.HasPrefix(heard(out), audio) {
			t.Fatalf("%d samples heard of %d, stats %+v", len(heard(out)), len(audio), b.Stats())
		}
		// In whole frames there is at most the first wait to fill, and once a slot that jitter missed.
		if n := fills(out, 100*ms, 29900*ms); n > 1 {
			t.Fatalf("%d fills, stats %+v", n, b.Stats())
		}
		if size == frame {
			list := waits(out, 100*ms, math.MaxInt64)
			if p99 := list[len(list)*99/100]; p99 > 25*ms {
				t.Fatalf("p99 of the wait is %v", time.Duration(p99))
			}
		}
	})
}

// TestCleanDelay: over all phases and a jitter of 1 ms, the wait is p50 ≤ 12 ms and p99 ≤ 25 ms.
func TestCleanDelay(t *testing.T) {
	var all []int64
	for phase := int64(0); phase < ptime; phase += ms / 2 {
		audio := stream(uint64(phase), 500, always)
		b := newBuffer(t, playout.Config{})
		out := play(b, arrivals(audio, frame, jittered(uint64(phase), ms)), phase, func() {})
		all = append(all, waits(out, 0, math.MaxInt64)...)
	}
	slices.Sort(all)
	p50, p99 := time.Duration(all[len(all)/2]), time.Duration(all[len(all)*99/100])
	t.Logf("wait p50 %v, p99 %v, max %v", p50, p99, time.Duration(all[len(all)-1]))
	if p50 > 12*time.Millisecond || p99 > 25*time.Millisecond {
		t.Errorf("wait p50 %v, p99 %v", p50, p99)
	}
}

// TestStall: two seconds after a stall of 200 ms or more the wait is what it was,
// even in unbroken speech. After a shorter one, which may be the first sign of
// jitter, up to one frame may be kept for some seconds.
func TestStall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		phase := rapid.Int64Range(0, ptime-1).Draw(t, "phase")
		jitter := rapid.Int64Range(0, 4*ms).Draw(t, "jitter")
		length := rapid.Int64Range(60, 1000).Draw(t, "ms") * ms
		seed := rapid.Uint64().Draw(t, "seed")
		speech := always
		if rapid.Bool().Draw(t, "pauses") {
			speech = talk
		}
		audio := stream(seed, 1000, speech)
		b := newBuffer(t, playout.Config{})
		out := play(b, arrivals(audio, frame, stalled(8000*ms, length, jittered(seed, jitter))), phase, func() { checkAccount(t, b) })
		before, after := waits(out, 2000*ms, 8000*ms), waits(out, 8000*ms+length+2000*ms, 19000*ms)
		longest := after[len(after)-1]
		if longest > before[len(before)-1]+ptime+2*jitter {
			t.Fatalf("longest wait %v before the stall, %v after it, stats %+v",
				time.Duration(before[len(before)-1]), time.Duration(longest), b.Stats())
		}
		if length >= 200*ms && longest > 5*ms+ptime+2*jitter {
			t.Fatalf("a stall of %v left a wait of %v, stats %+v", time.Duration(length), time.Duration(longest), b.Stats())
		}
	})
}

// TestSpeechIsRemovedSlowly: between ceiling and target at most 5 frames of speech go per second.
func TestSpeechIsRemovedSlowly(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(1, 600, always)
	var times []int64
	var last uint64
	var now int64
	list := arrivals(audio, frame, stalled(5000*ms, 200*ms, none))
	play(b, list, 5*ms, func() {
		if s := b.Stats(); s.Frames > 0 {
			now = int64(s.Frames) * ptime
			if s.Speech != last {
				times = append(times, now)
				last = s.Speech
			}
		}
	})
	if len(times) < 4 || last != uint64(len(times)*frame) {
		t.Fatalf("%d samples of speech removed at %d times", last, len(times))
	}
	for i := 1; i < len(times); i++ {
		if times[i]-times[i-1] < 200*ms {
			t.Errorf("two frames of speech removed within %d ms", (times[i]-times[i-1])/ms)
		}
	}
}

// TestSilenceGoesFirst: a backlog that ends in a silence costs no speech but the overflow's.
func TestSilenceGoesFirst(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(1, 600, func(frame int) bool { return frame < 240 || frame > 300 })
	out := play(b, arrivals(audio, frame, stalled(5000*ms, 100*ms, none)), 5*ms, func() { checkAccount(t, b) })
	if s := b.Stats(); s.Speech != 0 || s.Overflow != 0 || s.Silence != 4*frame {
		t.Errorf("stats %+v, want 4 frames of silence removed", s)
	}
	if after := waits(out, 5500*ms, math.MaxInt64); after[len(after)-1] > 40*ms {
		t.Errorf("longest wait after the silence is %v", time.Duration(after[len(after)-1]))
	}
}

// TestDrift: for an hour the sender's clock is off by 500 ppm; the wait does not grow.
func TestDrift(t *testing.T) {
	for _, test := range []struct {
		name   string
		drift  float64
		speech func(int) bool
	}{{"fast", 500, talk}, {"slow", -500, talk}, {"fast, unbroken speech", 500, always}, {"slow, unbroken speech", -500, always}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const hour = int64(time.Hour)
			audio := stream(7, 600, test.speech)
			b := newBuffer(t, playout.Config{})
			input := drifting(audio, int(hour/ptime)/600, frame, test.drift, jittered(7, 2*ms))
			run(b, input, 3*ms, func() {}, func(p played) {
				if p.kind == playout.Audio && p.at > 1000*ms && p.wait > 65*ms {
					t.Fatalf("a wait of %v after %v", time.Duration(p.wait), time.Duration(p.at))
				}
			})
			checkAccount(t, b)
			s := b.Stats()
			off := int64(s.Silence + s.Speech)
			if test.drift < 0 {
				off = int64(s.Fills) * frame
			}
			if drifted := int64(3600 * 8000 * 500e-6); off < drifted-10*frame || off > drifted*3/2+60*frame {
				t.Errorf("%d samples put right, the drift was %d; stats %+v", off, drifted, s)
			}
			if !test.speech(140) && s.Speech != 0 {
				t.Errorf("%d samples of speech removed where there was silence", s.Speech)
			}
		})
	}
}

// TestJitterIsLearned: with 60 ms of jitter the buffer soon misses few slots, and no more than it must.
func TestJitterIsLearned(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(3, 3000, talk)
	out := play(b, arrivals(audio, frame, jittered(3, 60*ms)), 3*ms, func() { checkAccount(t, b) })
	if n := fills(out, 10000*ms, 60000*ms); n > 25 {
		t.Errorf("%d of 2500 slots missed, stats %+v", n, b.Stats())
	}
	list := waits(out, 10000*ms, 60000*ms)
	if p99 := list[len(list)*99/100]; p99 > 100*ms {
		t.Errorf("p99 of the wait is %v", time.Duration(p99))
	}
	if target := b.Target(); target < 40*time.Millisecond || target > 80*time.Millisecond {
		t.Errorf("target is %v", target)
	}
}

// TestChunks: a platform that sends 100 ms at once loses nothing.
func TestChunks(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(4, 1000, always)
	out := play(b, arrivals(audio, 800, none), 7*ms, func() { checkAccount(t, b) })
	if !bytes.Equal(heard(out), audio) {
		t.Errorf("%d samples heard of %d, stats %+v", len(heard(out)), len(audio), b.Stats())
	}
	if n := fills(out, 200*ms, 20000*ms); n != 0 {
		t.Errorf("%d fills", n)
	}
}

// TestNothingAccumulates: after many minutes of stalls, jitter and pauses, drawn
// at random, a minute of clean input brings the wait back to that of clean input.
func TestNothingAccumulates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const episode, calm = 5000 * ms, 60000 * ms
		kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"clean", "jitter", "heavy", "stall", "short stall"}), 20, 60).Draw(t, "episodes")
		seed := rapid.Uint64().Draw(t, "seed")
		phase := rapid.Int64Range(0, ptime-1).Draw(t, "phase")
		bad := int64(len(kinds)) * episode
		light, heavy := jittered(seed, 15*ms), jittered(seed, 150*ms)
		delay := func(at int64) int64 {
			if at >= bad {
				return 0
			}
			start := at / episode * episode
			switch kinds[at/episode] {
			case "jitter":
				return light(at)
			case "heavy":
				return heavy(at)
			case "stall":
				return stalled(start+1000*ms, 900*ms, none)(at)
			case "short stall":
				return stalled(start+1000*ms, 100*ms, none)(at)
			default:
				return 0
			}
		}
		const block = 12000 * ms
		audio := stream(seed, int(block/ptime), talk)
		end := (bad + calm + block - 1) / block * block
		ppm := rapid.Float64Range(-500, 500).Draw(t, "ppm")
		b := newBuffer(t, playout.Config{})
		next := phase
		run(b, drifting(audio, int(end/block), frame, ppm, delay), phase, func() { checkAccount(t, b) }, func(p played) {
			if p.at != next {
				t.Fatalf("slot at %d, want %d", p.at, next)
			}
			next += ptime
			if p.kind == playout.Audio && p.wait > 160*ms {
				t.Fatalf("a wait of %v", time.Duration(p.wait))
			}
			if p.kind == playout.Audio && p.at > end-10000*ms && p.wait > ptime+6*ms {
				t.Fatalf("a wait of %v at the end, target %v, stats %+v", time.Duration(p.wait), b.Target(), b.Stats())
			}
		})
	})
}

// TestAnyArrivals: whatever comes whenever, there is a frame for each slot, the
// ceiling holds, and what is heard are whole pieces of the input in order.
func TestAnyArrivals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBuffer(t, playout.Config{})
		var now int64
		dst := make([]byte, frame)
		lastOrigin := int64(-1)
		steps := rapid.IntRange(100, 400).Draw(t, "steps")
		for range steps {
			switch rapid.SampledFrom([]string{"push", "push", "pop", "pop", "pop", "wait", "clear"}).Draw(t, "step") {
			case "push":
				size := rapid.SampledFrom([]int{0, 1, 33, 160, 160, 160, 161, 800, 5000}).Draw(t, "size")
				b.Push(now, make([]byte, size), now)
			case "pop":
				now += ptime
				origin, kind := b.Pop(now, dst)
				if kind != playout.Audio && kind != playout.Fill {
					t.Fatalf("kind %d", kind)
				}
				if kind == playout.Audio && (origin < lastOrigin || origin > now) {
					t.Fatalf("origin %d after %d at %d", origin, lastOrigin, now)
				}
				if kind == playout.Audio {
					lastOrigin = origin
				}
			case "wait":
				now += rapid.Int64Range(0, 5000*ms).Draw(t, "ns")
			case "clear":
				b.Clear()
			}
			checkAccount(t, b)
		}
	})
}
