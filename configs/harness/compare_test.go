package harness

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const fill = 0xFF

// audio makes a frame of each letter; '_' is fill.
func audio(letters string) []byte {
	return repeated(bytes.ReplaceAll([]byte(letters), []byte{'_'}, []byte{fill}))
}

func repeated(values []byte) []byte {
	var out []byte
	for _, v := range values {
		out = append(out, bytes.Repeat([]byte{v}, FrameBytes)...)
	}
	return out
}

func TestCompareULaw(t *testing.T) {
	for _, test := range []struct {
		name, sent, heard string
		want              Result
	}{
		{"all of it", "abcd", "abcd", Result{Matched: 4}},
		{"fill on both sides does not count", "a__bc_d_", "_ab_____cd", Result{Matched: 4, Fills: 6}},
		{"answered late", "abcdef", "__def", Result{Matched: 3, MissingFront: 3, Fills: 2}},
		{"ended early", "abcdef", "abc", Result{Matched: 3, MissingEnd: 3}},
		{"lost in the middle", "abcdef", "ab_ef", Result{Matched: 4, MissingMiddle: 2, Fills: 1}},
		{"concealed", "abcdef", "abXdef", Result{Matched: 5, MissingMiddle: 1, Extra: 1}},
		{"repeated", "abcdef", "abccdef", Result{Matched: 6, Extra: 1}},
		{"swapped", "abcdef", "abdcef", Result{Matched: 5, MissingMiddle: 1, Extra: 1}},
		{"foreign from the start", "abcd", "Xabcd", Result{Matched: 4, Extra: 1}},
		{"a later frame too early does not hide the rest", "abcdefgh", "habcdefg", Result{Matched: 7, MissingEnd: 1, Extra: 1}},
		{"repeats in front", "aab", "ab", Result{Matched: 2, MissingFront: 1}},
		{"repeats at the end", "abb", "ab", Result{Matched: 2, MissingEnd: 1}},
		{"the shortest stretch", "abxxaxb", "ab", Result{Matched: 2, MissingEnd: 5}},
		{"nothing heard", "abc", "__", Result{MissingFront: 3, Fills: 2}},
		{"nothing sent", "_", "ab", Result{Extra: 2}},
		{"nothing at all", "", "", Result{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := CompareULaw(audio(test.sent), audio(test.heard), fill); got != test.want {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

func TestCompareULawShortLastFrame(t *testing.T) {
	sent := audio("abc")[:2*FrameBytes+40]
	heard := slices.Concat(sent, bytes.Repeat([]byte{fill}, 120))
	if got, want := CompareULaw(sent, heard, fill), (Result{Matched: 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever is cut off in front, lost, and put between: the counts add up, and a recording is intact exactly when
// nothing between its first and last frame was touched (with frames that do not repeat).
func TestCompareULawProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(t, "sent")
		letters := make([]byte, n)
		for i := range letters {
			letters[i] = byte(i)
		}
		front := rapid.IntRange(0, n-1).Draw(t, "front")
		end := rapid.IntRange(front+1, n).Draw(t, "end")
		var heard []byte
		want := Result{MissingFront: front, MissingEnd: n - end}
		for i := front; i < end; i++ {
			inside := i > front && i < end-1
			if inside && rapid.IntRange(0, 9).Draw(t, "lose") == 0 {
				want.MissingMiddle++
				continue
			}
			if rapid.IntRange(0, 9).Draw(t, "foreign") == 0 {
				heard = append(heard, 200)
				want.Extra++
			}
			if rapid.IntRange(0, 4).Draw(t, "fill") == 0 {
				heard = append(heard, fill)
				want.Fills++
			}
			heard = append(heard, letters[i])
			want.Matched++
		}
		got := CompareULaw(repeated(letters), repeated(heard), fill)
		if got != want {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		if got.Intact() != (want.MissingMiddle == 0 && want.Extra == 0) {
			t.Fatalf("intact %v: %v", got.Intact(), got)
		}
	})
}

// The demo's own recordings: long enough to say something, speech rather than silence, and equal to themselves.
func TestReadULawDemoSpeech(t *testing.T) {
	for _, file := range []string{"../demo/caller.wav", "../demo/bot.wav"} {
		ulaw, err := ReadULaw(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(ulaw); n < 4*8000 || n > 8*8000 {
			t.Errorf("%s lasts %d ms", file, n/8)
		}
		r := CompareULaw(ulaw, ulaw, fill)
		if !r.Intact() || r.MissingFront+r.MissingEnd != 0 || r.Matched < r.Fills {
			t.Errorf("%s: %v", file, r)
		}
	}
	if _, err := ReadULaw("compare.go"); err == nil {
		t.Error("a file that is no recording: no error")
	}
	if _, err := ReadULaw("no.wav"); err == nil {
		t.Error("no file: no error")
	}
}
