package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/patchbay/patchbay/plugins/talkdesk/sim"
	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

// TestSimulatedCall runs a call of the simulator, which was written from the
// protocol alone, against the plugin: an echoing bot hears speech and digits and
// hands over; what the caller hears is what he said.
func TestSimulatedCall(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	dir := t.TempDir()
	said := make([]byte, 60*frameBytes)
	for i := range said {
		said[i] = byte(i/frameBytes)<<1 | byte(i%7) // differs from frame to frame
	}
	play, record := filepath.Join(dir, "said.wav"), filepath.Join(dir, "heard.wav")
	var file bytes.Buffer
	if err := wav.WriteMuLaw(&file, said); err != nil {
		t.Fatal(err)
	}
	writeFile(t, play, file.Bytes())

	var stdout, stderr bytes.Buffer
	exit := make(chan int, 1)
	go func() {
		exit <- sim.Main(t.Context(), []string{
			"--json", "--play", play, "--record", record, "--dtmf", "1400ms:12#", "--expect", "escalate → agents",
			"ws://" + g.addr + defaultPath + "/?" + goodQuery,
		}, &stdout, &stderr)
	}()
	leg := receive(t, g.gw.legs, "offer")
	close(leg.answered)
	var digits string
	for digits != "12#" {
		f := receive(t, leg.written, "frame")
		if d, _, ok := f.Digit(); ok {
			digits += string(d)
			continue
		}
		leg.toPlatform(&f)
	}
	leg.finish(sdk.ResultEscalate, "agents")
	if code := receive(t, exit, "end of the simulator"); code != 0 {
		t.Fatalf("exit %d: %s%s", code, stderr.String(), stdout.String())
	}
	stats := leg.ending(t).Stats
	delete(stats.Drops, dropAfterEnd.String()) // the caller is heard on while the last audio plays
	if stats.FramesOut < 60 || len(stats.Drops) > 0 {
		t.Errorf("stats: %+v", stats)
	}
	var report sim.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if report.MarksEchoed != 1 || report.AfterStop != 0 || report.CloseCode == 1006 {
		t.Errorf("report: %s", stdout.String())
	}
	f, err := os.Open(filepath.Clean(record))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	heard, err := wav.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	// The recording is the line as the caller heard it: where this machine was
	// late it holds silence of any length between two frames.
	rest := heard.Data
	for i, frame := range slices.Collect(slices.Chunk(said, frameBytes)) {
		at := bytes.Index(rest, frame)
		if at < 0 {
			t.Fatalf("frame %d of what was said is not heard after those before it", i)
		}
		rest = rest[at+len(frame):]
	}
}
