package sim

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// until makes a script that ends the call with ok after d.
func until(d time.Duration) func(*gateway) {
	return func(g *gateway) {
		time.Sleep(d)
		g.stop(resultOK)
	}
}

func payloads(t *testing.T, media []got) []byte {
	t.Helper()
	var all []byte
	for _, m := range media {
		text, _ := m.field("media", "payload").(string)
		ulaw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatalf("payload %q: %v", text, err)
		}
		all = append(all, ulaw...)
	}
	return all
}

func TestOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		_, err := call(t, Options{
			StreamSID: "MZ1", CallSID: "CA1", AccountSID: "6471",
			Params: map[string]string{"interaction_id": "i-1", "caller_id": "", "extra": "x"},
		}, serve(t, &g, until(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		want := []map[string]any{
			{"event": "connected", "protocol": "Call", "version": "1.0.0"},
			{"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": map[string]any{
				"streamSid": "MZ1", "callSid": "CA1", "accountSid": "6471", "tracks": []any{"inbound"},
				"customParameters": map[string]any{
					"interaction_id": "i-1", "account_id": "6471", "caller_id": "", "type": "bot", "business_hours": "", "extra": "x",
				},
				"mediaFormat": map[string]any{"encoding": "audio/x-mulaw", "sampleRate": 8000., "channels": 1.},
			}},
			{"event": "media", "sequenceNumber": "2", "streamSid": "MZ1", "media": map[string]any{
				"track": "inbound", "chunk": "1", "timestamp": "0",
				"payload": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xFF}, 160)),
			}},
		}
		for i, w := range want {
			if diff := cmp.Diff(w, g.messages[i].m); diff != "" {
				t.Errorf("message %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestFramesLeaveOnTime(t *testing.T) {
	speech := ramp(1000) // ends inside the seventh frame
	tests := map[string]struct {
		opt   Options
		ptime time.Duration
		audio []byte
	}{
		"20 ms, then silence": {Options{Play: speech}, 20 * time.Millisecond, speech},
		"30 ms":               {Options{Play: speech, Ptime: 30 * time.Millisecond}, 30 * time.Millisecond, speech},
		"loop":                {Options{Play: speech, Loop: true}, 20 * time.Millisecond, bytes.Repeat(speech, 20)},
		"nothing to play":     {Options{}, 20 * time.Millisecond, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g gateway
				r, err := call(t, tt.opt, serve(t, &g, until(1995*time.Millisecond)))
				if err != nil {
					t.Fatal(err)
				}
				media := g.events("media")
				if want := int(1995*time.Millisecond/tt.ptime) + 1; len(media) != want || r.FramesSent != want {
					t.Errorf("%d frames arrived and %d were reported, want %d", len(media), r.FramesSent, want)
				}
				for i, m := range media {
					due := time.Duration(i) * tt.ptime
					if m.at != due {
						t.Errorf("frame %d left at %v, want %v", i, m.at, due)
					}
					gotNumbers := []any{m.field("sequenceNumber"), m.field("media", "chunk"), m.field("media", "timestamp")}
					want := []any{strconv.Itoa(i + 2), strconv.Itoa(i + 1), strconv.FormatInt(due.Milliseconds(), 10)}
					if diff := cmp.Diff(want, gotNumbers); diff != "" {
						t.Errorf("frame %d numbers (-want +got):\n%s", i, diff)
					}
				}
				all := payloads(t, media)
				spoken := min(len(all), len(tt.audio))
				if !bytes.Equal(all[:spoken], tt.audio[:spoken]) {
					t.Error("what arrived is not what was played")
				}
				if rest := bytes.Trim(all[spoken:], "\xff"); len(rest) > 0 {
					t.Errorf("%d bytes behind the file are not silence", len(rest))
				}
				if r.SendLate != 0 {
					t.Errorf("late by %v under a virtual clock", r.SendLate)
				}
			})
		})
	}
}

func TestJitterAndStall(t *testing.T) {
	run := func(t *testing.T, o Options) []got {
		t.Helper()
		var g gateway
		if _, err := call(t, o, serve(t, &g, until(4*time.Second))); err != nil {
			t.Fatal(err)
		}
		return g.events("media")
	}
	t.Run("stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			media := run(t, Options{Stalls: []Stall{{At: 1010 * time.Millisecond, For: 290 * time.Millisecond}}})
			for i, m := range media {
				want := time.Duration(i) * 20 * time.Millisecond
				if want > time.Second && want < 1300*time.Millisecond {
					want = 1300 * time.Millisecond
				}
				if m.at != want {
					t.Errorf("frame %d left at %v, want %v", i, m.at, want)
				}
			}
		})
	})
	t.Run("jitter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const most = 90 * time.Millisecond
			o := Options{Jitter: most, Seed: 7, Play: ramp(16000)}
			first, again := run(t, o), run(t, o)
			bursts := 0
			for i, m := range first {
				if late := m.at - time.Duration(i)*20*time.Millisecond; late < 0 || late > most {
					t.Errorf("frame %d is late by %v", i, late)
				}
				if i > 0 && m.at == first[i-1].at {
					bursts++
				}
				if m.field("media", "chunk") != strconv.Itoa(i+1) {
					t.Errorf("frame %d has the chunk %v", i, m.field("media", "chunk"))
				}
				if i < len(again) && again[i].at != m.at {
					t.Errorf("frame %d left at %v and, with the same seed, at %v", i, m.at, again[i].at)
				}
			}
			if bursts == 0 {
				t.Error("no two frames left together")
			}
			if all := payloads(t, first); !bytes.Equal(all[:16000], ramp(16000)) {
				t.Error("audio out of order")
			}
		})
	})
}

func TestDigitsAreSentOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		r, err := call(t, Options{DTMF: []Keys{
			{At: 1500 * time.Millisecond, Digits: "12#"},
			{At: 100 * time.Millisecond, Gap: 50 * time.Millisecond, Digits: "A*"},
		}}, serve(t, &g, until(3*time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		var digits []string
		for _, m := range g.events("dtmf") {
			if m.field("dtmf", "track") != "inbound_track" {
				t.Errorf("track %v", m.field("dtmf", "track"))
			}
			digits = append(digits, fmt.Sprint(m.at, " ", m.field("dtmf", "digit")))
		}
		want := []string{"100ms A", "150ms *", "1.5s 1", "1.7s 2", "1.9s #"}
		if diff := cmp.Diff(want, digits); diff != "" {
			t.Errorf("digits (-want +got):\n%s", diff)
		}
		if r.DTMFSent != "A*12#" {
			t.Errorf("reported %q", r.DTMFSent)
		}
		var numbers []string
		for i, m := range g.messages[1:] {
			if n := m.field("sequenceNumber"); n != strconv.Itoa(i+1) {
				numbers = append(numbers, fmt.Sprint(m.event(), " ", n))
			}
		}
		if len(numbers) > 0 {
			t.Errorf("out of sequence: %s", strings.Join(numbers, ", "))
		}
	})
}

func TestMarksFollowTheirAudio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		r, err := call(t, Options{}, serve(t, &g, func(g *gateway) {
			g.mark("empty") // nothing to wait for
			time.Sleep(100 * time.Millisecond)
			for range 10 {
				g.media(ramp(160))
			}
			g.mark("played")
			time.Sleep(900 * time.Millisecond)
			g.media(ramp(8000))
			g.mark("cut 1")
			g.mark("cut 2")
			time.Sleep(300 * time.Millisecond)
			g.clear()
			time.Sleep(200 * time.Millisecond)
			g.media(ramp(80))
			g.mark("last")
			time.Sleep(200 * time.Millisecond)
			g.stop(resultOK)
		}))
		if err != nil {
			t.Fatal(err)
		}
		var marks []string
		for _, m := range g.events("mark") {
			marks = append(marks, fmt.Sprint(m.at, " ", m.field("mark", "name")))
		}
		// The platform holds 40 ms before it plays.
		want := []string{"0s empty", "340ms played", "1.3s cut 1", "1.3s cut 2", "1.55s last"}
		if diff := cmp.Diff(want, marks); diff != "" {
			t.Errorf("marks (-want +got):\n%s", diff)
		}
		if r.Marks != 5 || r.MarksEchoed != 5 || r.Clears != 1 || r.Cleared != Millis(740*time.Millisecond) {
			t.Errorf("%d marks, %d echoed, %d clears of %v", r.Marks, r.MarksEchoed, r.Clears, r.Cleared)
		}
		if r.MaxBacklog != Millis(time.Second) || r.Pauses != 1 || r.Underruns != 0 {
			t.Errorf("backlog %v, %d pauses, %d underruns", r.MaxBacklog, r.Pauses, r.Underruns)
		}
		if want := slices.Concat(bytes.Repeat(ramp(160), 10), ramp(8000), ramp(80)); !bytes.Equal(r.Received, want) {
			t.Errorf("received %d bytes, not the %d sent", len(r.Received), len(want))
		}
		heard := slices.Concat(silent(140), bytes.Repeat(ramp(160), 10), silent(700), ramp(2080), silent(240), ramp(80))
		if !bytes.Equal(r.Heard, heard) {
			t.Errorf("heard %d bytes, not the %d played", len(r.Heard), len(heard))
		}
	})
}

func silent(ms int) []byte { return bytes.Repeat([]byte{0xFF}, 8*ms) }

func TestGapsAndUnderruns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gateway
		r, err := call(t, Options{}, serve(t, &g, func(g *gateway) {
			for i := range 100 {
				g.media(ramp(160))
				switch i {
				case 30:
					time.Sleep(55 * time.Millisecond) // inside the prebuffer
				case 60:
					time.Sleep(150 * time.Millisecond)
				default:
					time.Sleep(20 * time.Millisecond)
				}
			}
			g.media(ramp(1600))
			g.stop(`"command":"escalate","ringGroup":"agents"`)
		}))
		if err != nil {
			t.Fatal(err)
		}
		if r.Gaps != 2 || r.Underruns != 1 || r.Pauses != 0 {
			t.Errorf("%d gaps, %d underruns, %d pauses", r.Gaps, r.Underruns, r.Pauses)
		}
		if r.IntervalP50 != Millis(20*time.Millisecond) || r.IntervalMax != Millis(150*time.Millisecond) || r.IntervalP99 != Millis(55*time.Millisecond) {
			t.Errorf("intervals p50 %v, p99 %v, max %v", r.IntervalP50, r.IntervalP99, r.IntervalMax)
		}
		// After the underrun the prebuffer was refilled; the last 200 ms came at once, and the stop cut nearly all of them off.
		if r.Unplayed != Millis(240*time.Millisecond) {
			t.Errorf("%v unplayed", r.Unplayed)
		}
		if r.Outcome != "escalate → agents" || r.EndedBy != SideGateway || r.CloseCode != websocket.CloseNormalClosure {
			t.Errorf("outcome %q by %s, close code %d", r.Outcome, r.EndedBy, r.CloseCode)
		}
	})
}
