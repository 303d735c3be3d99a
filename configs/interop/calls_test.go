//go:build interop

package interop

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/configs/harness"
)

const (
	// frame is how long a frame lasts.
	frame = 20 * time.Millisecond
	// overtaking is how many of a peer's first frames may reach the gateway before the peer's answer does.
	overtaking = 3
	// knowing is how many frames of a speaker may be missing at a change that the two sides of the gateway learn of one
	// after the other.
	knowing = 5
	// punctual is by how much, in milliseconds, the platform may be late with a frame at worst on a machine that has time
	// for these calls.
	punctual = 10
)

// TestSIPp calls a bot that echoes and then hands the caller over: what the platform hears is what it sent.
func TestSIPp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	file, speech := callerSpeech(ctx, t)
	peer := startSIPp(ctx, t, lasting(speech)+time.Second)
	g := startGateway(ctx, t, peer.sip)
	said, heard := g.call(ctx, t, file, "--expect", "escalate → agents")
	if err := peer.finish(ctx); err != nil {
		t.Errorf("the peer's call: %v", err)
	}
	cdr := g.finish(ctx, t)
	check(t, cdr, said)
	if cdr.Who != "bot" || cdr.Reason != "hangup" || cdr.Result != "escalate" || cdr.Target != "agents" {
		t.Errorf("the record: %s by the %s, result %s to %q", cdr.Reason, cdr.Who, cdr.Result, cdr.Target)
	}
	arrived(t, "the echo", compare(speech, heard), cdr, said)
}

// TestBaresip calls a bot that speaks and listens until the caller hangs up: each side hears what the other said.
func TestBaresip(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	file, speech := callerSpeech(ctx, t)
	promptFile, prompt := botPrompt(ctx, t)
	peer := startBaresip(ctx, t, number, promptFile)
	g := startGateway(ctx, t, peer.sip)
	said, heard := g.call(ctx, t, file, "--hangup-after", (lasting(speech) + 2*time.Second).String(), "--expect", "hangup")
	cdr := g.finish(ctx, t)
	check(t, cdr, said)
	if cdr.Who != "caller" || cdr.Reason != "hangup" || cdr.Result != "none" || cdr.Target != "" {
		t.Errorf("the record: %s by the %s, result %s to %q", cdr.Reason, cdr.Who, cdr.Result, cdr.Target)
	}
	recording, err := peer.recording(ctx)
	if err != nil {
		t.Fatal(err)
	}
	noted, err := readDecoded(recording)
	if err != nil {
		t.Fatal(err)
	}
	arrived(t, "the caller's speech", compare(speech, noted), cdr, said)

	// The prompt is longer than the call.
	r, talk := compare(prompt, heard), cdr.TalkMS/int(frame.Milliseconds())
	t.Logf("the bot's prompt: %v", r)
	if !r.Intact() || r.MissingFront > overtaking || r.Matched+r.Fills < talk-knowing {
		t.Errorf("in %d frames of time the caller did not hear what the bot said: %v", talk, r)
	}
}

// arrived checks that of the caller's speech everything said from the answer on arrived, to its end.
func arrived(t *testing.T, what string, r harness.Result, cdr record, said report) {
	t.Helper()
	t.Logf("%s: %v", what, r)
	early := int(cdr.Answered.Sub(cdr.Offered) / frame)
	cut := 0
	if said.SendLate > punctual {
		cut = shortened(cdr.ToEgress)
		t.Logf("the machine was busy, frames came %.0f ms late: the %d that the record says were cut may be missing", said.SendLate, cut)
	}
	if r.Matched == 0 || r.Extra > 0 || r.MissingMiddle > cut || r.MissingEnd > 0 || r.MissingFront > early+knowing {
		t.Errorf("%s is not what the caller said from the answer on, %d frames after the offer: %v", what, early, r)
	}
}

// shortened is how many frames the gateway says it cut so that what came late would not stay late.
func shortened(d direction) int {
	n := 0
	for reason, frames := range d.Drops {
		if strings.HasPrefix(reason, "to_playout_") {
			n += frames
		}
	}
	return n
}

// check looks at what holds for each of these calls: answered, nothing lost or late on the way, nothing against the
// platform's protocol.
func check(t *testing.T, cdr record, said report) {
	t.Helper()
	t.Logf("the platform: %+v", said)
	t.Logf("the record: %+v", cdr)
	if cdr.Answered.IsZero() || cdr.TalkMS == 0 {
		t.Error("not answered")
	}
	for way, d := range map[string]direction{"to the bot": cdr.ToEgress, "to the caller": cdr.ToIngress} {
		if d.Frames == 0 || d.Lost+d.Late+d.Duplicates > 0 {
			t.Errorf("%s: %d frames; %d lost, %d late, %d twice", way, d.Frames, d.Lost, d.Late, d.Duplicates)
		}
	}
	if len(said.Violations) > 0 {
		t.Errorf("the platform's protocol was broken: %s", said.Violations)
	}
}

// lasting is how long one-byte samples at 8 kHz last.
func lasting(ulaw []byte) time.Duration {
	return time.Duration(len(ulaw)) * time.Second / 8000
}
