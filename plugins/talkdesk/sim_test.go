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
	// The recording may hold fills where this machine was late; without them it
	// must begin with what was said.
	frames := slices.Collect(slices.Chunk(heard.Data, frameBytes))
	next := 0
	for _, frame := range frames {
		if next < 60 && bytes.Equal(frame, said[next*frameBytes:(next+1)*frameBytes]) {
			next++
		}
	}
	if next != 60 && !bytes.Contains(heard.Data, said) {
		t.Errorf("%d of 60 frames came back in order", next)
	}
}
