package harness

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"github.com/patchbay/patchbay/sdk/media/wav"
)

// FrameBytes is one frame of 20 ms at 8000 one-byte samples a second.
const FrameBytes = 160

// Result says how a recording relates to what was sent, in frames. Frames that are nothing but fill count on neither
// side: fill is what stands in for missing audio, and senders use it for silence too.
type Result struct {
	Matched       int // heard as sent, in order
	MissingFront  int // sent before the first one heard, as what is said before the answer
	MissingMiddle int // sent between the first and the last one heard, and lost
	MissingEnd    int // sent after the last one heard, as what is said when the call ends
	Extra         int // heard but not sent, or not there
	Fills         int // frames of fill in the recording
}

func (r Result) String() string {
	return fmt.Sprintf("%d frames as sent, %d missing in front, %d in the middle, %d at the end, %d not sent, %d of fill",
		r.Matched, r.MissingFront, r.MissingMiddle, r.MissingEnd, r.Extra, r.Fills)
}

// Intact reports whether something was heard and, from its first frame to its last, nothing was lost, changed,
// repeated or out of order. What is missing in front and at the end is the caller's to judge.
func (r Result) Intact() bool { return r.Matched > 0 && r.MissingMiddle == 0 && r.Extra == 0 }

// ReadULaw reads a WAV file, 8 kHz mono, as µ-law.
func ReadULaw(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	defer f.Close()
	w, err := wav.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", file, err)
	}
	ulaw, err := w.MuLaw8k()
	if err != nil {
		return nil, fmt.Errorf("read recording %s: %w", file, err)
	}
	return ulaw, nil
}

// CompareULaw compares a recording with what was sent, byte for byte, in frames of FrameBytes aligned to the start of
// each; a last short frame is filled up. It works for any one-byte codec.
func CompareULaw(sent, heard []byte, fill byte) Result {
	s, _ := frames(sent, fill)
	h, fills := frames(heard, fill)
	r := Result{Fills: fills}
	matched := common(s, h)
	r.Matched = len(matched)
	r.Extra = len(h) - r.Matched
	if r.Matched == 0 {
		r.MissingFront = len(s)
		return r
	}
	first, last := place(s, matched)
	r.MissingFront = first
	r.MissingMiddle = last - first + 1 - r.Matched
	r.MissingEnd = len(s) - 1 - last
	return r
}

// frames cuts audio into frames and leaves out those that are all fill.
func frames(audio []byte, fill byte) (kept []string, fills int) {
	blank := bytes.Repeat([]byte{fill}, FrameBytes)
	for f := range slices.Chunk(audio, FrameBytes) {
		if short := FrameBytes - len(f); short > 0 {
			f = slices.Concat(f, blank[:short])
		}
		if bytes.Equal(f, blank) {
			fills++
			continue
		}
		kept = append(kept, string(f))
	}
	return kept, fills
}

// common is the longest subsequence of heard that is one of sent (Hunt and Szymanski's algorithm: frames of speech
// seldom repeat, so there are few pairs to look at).
func common(sent, heard []string) []string {
	at := make(map[string][]int, len(sent))
	for i, f := range sent {
		at[f] = append(at[f], i)
	}
	type link struct {
		frame string
		prev  *link
	}
	var ends []int    // ends[k]: the smallest place in sent where a subsequence of length k+1 ends
	var chain []*link // and that subsequence, backwards
	for _, f := range heard {
		for _, i := range slices.Backward(at[f]) { // backwards, so that one frame heard is used once
			k, _ := slices.BinarySearch(ends, i)
			l := &link{frame: f}
			if k > 0 {
				l.prev = chain[k-1]
			}
			if k == len(ends) {
				ends, chain = append(ends, i), append(chain, l)
			} else {
				ends[k], chain[k] = i, l
			}
		}
	}
	if len(chain) == 0 {
		return nil
	}
	var found []string
	for l := chain[len(chain)-1]; l != nil; l = l.prev {
		found = append(found, l.frame)
	}
	slices.Reverse(found)
	return found
}

// place finds where in sent the subsequence lies: the first of the shortest stretches that hold it. Where frames repeat
// there may be several, and the shortest supposes the fewest losses.
func place(sent, matched []string) (first, last int) {
	first, last = -1, -1
	for i, f := range sent {
		if f != matched[0] {
			continue
		}
		end, ok := follow(sent, matched, i)
		if !ok {
			break // nor from further on
		}
		if first < 0 || end-i < last-first {
			first, last = i, end
		}
	}
	return first, last
}

// follow is where matched ends in sent at the earliest when its first frame is at i.
func follow(sent, matched []string, i int) (end int, ok bool) {
	k := 0
	for ; i < len(sent); i++ {
		if sent[i] == matched[k] {
			if k++; k == len(matched) {
				return i, true
			}
		}
	}
	return 0, false
}
