package sim

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPacerProperty: frames keep their order, none leaves early, and none later than jitter and stalls together explain.
func TestPacerProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := func(label string, from, to int) time.Duration {
			return time.Duration(rapid.IntRange(from, to).Draw(t, label)) * time.Millisecond
		}
		o := Options{Ptime: ms("ptime", 1, 60), Jitter: ms("jitter", 0, 200), Seed: rapid.Uint64().Draw(t, "seed")}
		most := o.Jitter
		for range rapid.IntRange(0, 3).Draw(t, "stalls") {
			st := Stall{At: ms("at", 0, 2000), For: ms("for", 1, 500)}
			most += st.For
			o.Stalls = append(o.Stalls, st)
		}
		p := newPacer(&o)
		var last time.Duration
		for i := range 200 {
			late := p.release - p.due(i)
			if p.next != i || p.release < last || late < 0 || late > most {
				t.Fatalf("frame %d (%d) leaves at %v, %v late, after one at %v", i, p.next, p.release, late, last)
			}
			last = p.release
			p.advance()
		}
	})
}

// TestPlayerProperty plays against a model that moves sample by sample: all audio is heard once and in order, but for what clear
// and the end cut off, and marks come in order, each when the audio in front of it is through.
func TestPlayerProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Prebuffer: time.Duration(rapid.IntRange(0, 60).Draw(t, "prebuffer")) * time.Millisecond, MaxAudio: 1 << 20}
		p := newPlayer(&o)
		var now time.Duration
		var waiting, played []byte // the model: accepted and not yet due, and played
		var marks []string
		settle := func() { // the model's cursor is the player's line up to now
			heard := bytes.ReplaceAll(p.heard[:min(len(p.heard), samples(now))], []byte{0xFF}, nil)
			if len(heard) > len(played)+len(waiting) {
				t.Fatalf("%d heard of %d", len(heard), len(played)+len(waiting))
			}
			n := len(heard) - len(played)
			if n < 0 {
				t.Fatal("what was heard is gone")
			}
			played, waiting = append(played, waiting[:n]...), waiting[n:]
			if !bytes.Equal(heard, played) {
				t.Fatal("heard something else than was accepted")
			}
			for name, at, ok := p.nextMark(); ok && at <= now; name, at, ok = p.nextMark() {
				marks = append(marks, name)
				p.popMark()
			}
		}
		sent, cleared, next := 0, 0, byte(0)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"audio", "audio", "wait", "wait", "mark", "clear"}).Draw(t, "do") {
			case "audio":
				b := make([]byte, rapid.IntRange(1, 400).Draw(t, "length"))
				for i := range b {
					b[i] = next % 255
					next++
				}
				p.accept(now, b)
				waiting = append(waiting, b...)
			case "wait":
				now += time.Duration(rapid.IntRange(0, 100_000).Draw(t, "us")) * time.Microsecond
			case "mark":
				sent++
				p.mark(fmt.Sprint(sent))
				if at := p.marks[len(p.marks)-1].at; len(waiting) > 0 && at < samples(now) {
					t.Fatalf("mark at %d, in the past", at)
				}
			default:
				settle()
				cleared += len(waiting)
				waiting = nil
				marks = append(marks, p.clear(now)...)
			}
			settle()
		}
		p.finish(now)
		if got := len(bytes.ReplaceAll(p.heard, []byte{0xFF}, nil)); got != len(played) {
			t.Fatalf("%d bytes heard, %d played", got, len(played))
		}
		if p.unplayed != len(waiting) || p.cleared != cleared {
			t.Fatalf("%d unplayed of %d, %d cleared of %d", p.unplayed, len(waiting), p.cleared, cleared)
		}
		for i, name := range marks {
			if name != fmt.Sprint(i+1) {
				t.Fatalf("marks came as %v", marks)
			}
		}
		if len(marks)+len(p.marks) != sent {
			t.Fatalf("%d marks sent, %d echoed, %d wait", sent, len(marks), len(p.marks))
		}
	})
}

func TestPlayerKeepsWithinItsBound(t *testing.T) {
	p := newPlayer(&Options{MaxAudio: 1000})
	for i := range 20 {
		p.accept(time.Duration(i)*time.Second, ramp(400))
	}
	p.mark("end")
	if _, at, _ := p.nextMark(); len(p.heard) > 1000 || at != 19*time.Second+50*time.Millisecond {
		t.Errorf("%d bytes kept, mark due at %v", len(p.heard), at)
	}
}
