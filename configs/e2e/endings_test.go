package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// Both sides speak for a second. The key that ends some of the calls is pressed well after.
const (
	endKey     = "7"
	pressEnd   = "1800ms:" + endKey
	leaveAfter = "1900ms"
)

// ending is one way for a call to end, and what everybody is to be told.
type ending struct {
	name          string
	defaultResult string
	bot           []string // how the bot behaves
	caller        []string // how the caller behaves
	outcome       string   // what the platform says
	result        string   // the record's, with its target
	who, reason   string
	bye           string // how the bot's dialog ends
}

func endings() []ending {
	byKey := func(args ...string) []string { return append([]string{"--hangup-on-dtmf", endKey}, args...) }
	press := []string{"--dtmf", pressEnd}
	return []ending{
		{"bye-ok", "ok", byKey(), press, "ok", "ok", "bot", "hangup", "bot-bye"},
		{"bye-escalate", "escalate", byKey(), press, "escalate → agents", "escalate agents", "bot", "hangup", "bot-bye"},
		{
			"queue-ok", "ok", byKey("--bye-header", "X-Queue-Name: billing"), press,
			"escalate → billing", "escalate billing", "bot", "hangup", "bot-bye",
		},
		{
			"queue-escalate", "escalate", byKey("--bye-header", "X-Queue-Name: billing"), press,
			"escalate → billing", "escalate billing", "bot", "hangup", "bot-bye",
		},
		{
			"kore-reason", "ok", byKey("--bye-header", "kore-reason: TransferToAgent"), press,
			"escalate → agents", "escalate agents", "bot", "transfer", "bot-bye",
		},
		{
			"refer", "ok",
			[]string{"--refer", "sip:sales@bot.example.com", "--refer-after", "1900ms"},
			nil,
			"escalate → sales", "escalate sales", "bot", "transfer", "",
		},
		{"caller-stop", "escalate", nil, []string{"--hangup-after", leaveAfter}, "hangup", "none", "caller", "hangup", "caller-bye"},
		{"caller-drop", "escalate", nil, []string{"--drop-after", leaveAfter}, "dropped", "none", "caller", "hangup", "caller-bye"},
	}
}

// Every way to end a call, over both transports, with sound both ways.
func TestEndings(t *testing.T) {
	for _, transport := range []string{"udp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			all := endings()
			bots := make([]*stage.Bot, len(all))
			said, botSays := sound(t, 1)
			var s settings
			for i, e := range all {
				args := append([]string{"--play", said, "--record", heardBy(t, e.name)}, e.bot...)
				tr := trunk{name: e.name, defaultResult: e.defaultResult}
				if transport == "tls" {
					bots[i] = tlsBot(t, args...)
					tr.targets, tr.ca = []string{"sip:" + bots[i].TLSAddress + ";transport=tls"}, bots[i].CAFile
				} else {
					bots[i] = bot(t, args...)
					tr.targets = []string{"sip:" + bots[i].Address}
				}
				s.trunks = append(s.trunks, tr)
			}
			w := start(t, s)
			t.Run("calls", func(t *testing.T) {
				for i, e := range all {
					t.Run(e.name, func(t *testing.T) {
						t.Parallel()
						play(t, w, i, &e, bots[i], transport, botSays)
					})
				}
			})
			w.records(t, len(all))
		})
	}
}

// recordings is where bots write what they hear; heardBy is called by the parent test, whose folder outlives its parts.
func heardBy(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(t.TempDir(), name+".wav")
}

// play runs one of the calls and compares everything.
func play(t *testing.T, w *world, i int, e *ending, b *stage.Bot, transport string, botSays []byte) {
	t.Helper()
	said, callerSays := sound(t, 2)
	callerHeard := filepath.Join(t.TempDir(), "caller.wav")
	args := append([]string{"--play", said, "--record", callerHeard, "--param", "interaction_id=e2e-" + e.name}, e.caller...)
	r := call(t, w.url(t, i), args...)
	if r.Outcome != e.outcome {
		t.Errorf("the platform was told %q, want %q", r.Outcome, e.outcome)
	}
	if r.AfterStop != 0 {
		t.Errorf("%d messages after stop", r.AfterStop)
	}
	record := recordOf(t, w, number(i))
	if got := strings.TrimSpace(record.Result + " " + record.Target); got != e.result || record.Who != e.who || record.Reason != e.reason {
		t.Errorf("the record says %q by %s %s, want %q by %s %s", got, record.Who, record.Reason, e.result, e.who, e.reason)
	}
	told := account(t, b)
	if len(told.Calls) != 1 {
		t.Fatalf("the bot got %d calls, want 1", len(told.Calls))
	}
	c := &told.Calls[0]
	if !strings.EqualFold(c.Transport, transport) || !c.Answered || !c.Acked || c.Header("X-ExternalCallId") != "e2e-"+e.name {
		t.Errorf("the bot's call: over %s, answered %v, acknowledged %v, headers %v", c.Transport, c.Answered, c.Acked, c.Headers)
	}
	if e.bye != "" && c.Ended != e.bye {
		t.Errorf("the dialog ended by %s, want %s", c.Ended, e.bye)
	}
	if c.Ended == "caller-bye" && c.Byes != 1 {
		t.Errorf("%d BYE, want exactly one", c.Byes)
	}
	want := strings.TrimPrefix(strings.Join(e.caller, ""), "--dtmf1800ms:")
	if strings.Contains(strings.Join(e.caller, ""), "--dtmf") && c.Digits != want {
		t.Errorf("the bot got the keys %q, want %q", c.Digits, want)
	}
	compare(t, toBot, callerSays, b.Recording, record)
	compare(t, toCaller, botSays, callerHeard, record)
	balance(t, toBot, &record.ToEgress, c.RTP.Audio, keyFrames*len(c.Digits))
	unheard := 0
	if e.who == "caller" { // who leaves does not hear what is still on its way
		unheard = int(record.ToIngress.Frames)
	}
	balance(t, toCaller, &record.ToIngress, r.FramesReceived, unheard)
}

// keyFrames bounds how long a key takes the place of the sound, in frames.
const keyFrames = 25

// recordOf waits for the record of the call to a number.
func recordOf(t *testing.T, w *world, number string) *stage.Record {
	t.Helper()
	for n := 1; ; n++ {
		for _, r := range w.records(t, n) {
			if r.Number == number {
				return &r
			}
		}
	}
}

// compare demands that what was said was heard in order, nothing else, and nothing missing but what the gateway admits
// to have lost, each frame of it counted. An idle machine loses nothing; a loaded one may.
func compare(t *testing.T, way string, said []byte, file string, record *stage.Record) {
	t.Helper()
	d := &record.ToEgress
	if way == toCaller {
		d = &record.ToIngress
	}
	heard, err := harness.ReadULaw(file)
	if err != nil {
		t.Error(err)
		return
	}
	r := harness.CompareULaw(said, stage.Align(said, heard, stage.Fill), stage.Fill)
	t.Logf("%s: %v; the record: %d frames, %d lost, %d late, %d fills, drops %v, delay at most %.0f ms to core, %.0f ms in all",
		way, r, d.Frames, d.Lost, d.Late, d.Fills, d.Drops, d.DelayToCore.Max, d.DelayToLeave.Max)
	if r.Matched == 0 || r.Extra != 0 {
		t.Errorf("%s: %v", way, r)
	}
	admitted := d.Missing()
	missing := r.MissingMiddle
	const late = 500 // ms; who leaves does not wait for what is still on its way
	if record.Who != "caller" || way == toBot && max(d.DelayToCore.Max, d.DelayToLeave.Max) < late {
		missing += r.MissingEnd
	}
	if missing > admitted {
		t.Errorf("%s: %v, but the gateway admits %d: drops %v", way, r, admitted, d.Drops)
	}
}

// The two ways through the gateway.
const (
	toBot    = "to the bot"
	toCaller = "to the caller"
)

// inFlight is how many frames may be on their way through the gateway when a call ends.
const inFlight = 25

// balance demands that as many frames left the gateway as came in, but for those it says it dropped. displaced is what
// keys may have taken the place of, or nobody was there to hear.
func balance(t *testing.T, way string, d *stage.Direction, left, displaced int) {
	t.Helper()
	carried := int(d.Frames)
	for reason, n := range d.Drops {
		if !strings.HasPrefix(reason, "from_") { // those never came as far as core, which counts the frames
			carried -= int(n)
		}
	}
	out := left - int(d.Fills)
	if out > carried {
		t.Errorf("%s: %d frames left the gateway beside %d fills, only %d came in and were not dropped: %v", way, out, d.Fills, carried, d.Drops)
	}
	// Where a process stood still for a while, so much more was under way.
	const frameMS = 20
	flying := inFlight + displaced + int(max(d.DelayToCore.Max, d.DelayToLeave.Max))/frameMS
	if under := carried - out; under > flying {
		t.Errorf("%s: %d frames came in and were not dropped, only %d left the gateway: %v", way, carried, out, d.Drops)
	}
}
