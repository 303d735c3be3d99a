package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func numbered(i int) *Record { return &Record{CallID: fmt.Sprintf("call-%05d", i), Events: []Event{}} }

// ids reads JSON Lines; every line must be whole.
func ids(t *testing.T, text []byte) []string {
	t.Helper()
	out := []string{}
	for line := range bytes.Lines(text) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil || !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("line %q: %v", line, err)
		}
		out = append(out, r.CallID)
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// want are the ids of the first n records.
func want(n int) []string {
	out := []string{}
	for i := range n {
		out = append(out, numbered(i).CallID)
	}
	return out
}

func TestWriterWritesJSONLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "records.jsonl")
	for life := range 2 { // the second appends
		w, err := Open(path, 0, quiet())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			w.Add(numbered(life*100 + i))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if s := w.Stats(); s != (Stats{Written: 100}) {
			t.Errorf("stats %+v", s)
		}
	}
	if diff := cmp.Diff(want(200), ids(t, read(t, path))); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: records hold numbers", info.Mode(), err)
	}
}

// A record's fields are what programs read: their names do not change.
func TestRecordGolden(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000000, time.UTC)
	r := Record{
		CallID: "id", Node: "gw-1", Ingress: "in", Egress: "out", App: "demo", Number: "+1734", Caller: "+1", Bot: "b", Account: "a",
		PlatformCallID: "p", Admitted: at, Offered: &at, Answered: &at, Ended: at, TalkMS: 5, Who: "bot", Reason: "hangup",
		Q850: 16, SIP: 200, Detail: "bye\nx", Result: "escalate", Target: "agents",
		ToEgress: Direction{Frames: 1, Drops: map[string]uint64{"late": 2}, DelayToCore: Delay{P50: 0.5, Count: 1}},
		Events:   []Event{{At: at, Leg: "egress", Outbound: true, Text: "INVITE"}}, EventsLost: 1,
	}
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/record.json"
	if wanted := bytes.TrimSpace(read(t, path)); !bytes.Equal(got, wanted) {
		t.Errorf("record (-want +got):\n%s", cmp.Diff(string(wanted), string(got)))
	}
}

func TestWriterRotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.jsonl")
	line, err := json.Marshal(numbered(0))
	if err != nil {
		t.Fatal(err)
	}
	w, err := Open(path, int64(10*(len(line)+1)), quiet())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 35 {
		w.Add(numbered(i))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(path + ".*")
	if err != nil || len(names) != 3 {
		t.Fatalf("rotated files: %v, %v", names, err)
	}
	var all []string
	for _, name := range append(names, path) { // their names sort by time
		got := ids(t, read(t, name))
		if len(got) > 10 {
			t.Errorf("%d records in %s", len(got), name)
		}
		all = append(all, got...)
	}
	if diff := cmp.Diff(want(35), all); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// A crash has left half a line: the next record begins a line of its own.
func TestWriterAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	if err := os.WriteFile(path, []byte("{\"call_id\":\"whole\"}\n{\"call_id\":\"ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := Open(path, 0, quiet())
	if err != nil {
		t.Fatal(err)
	}
	w.Add(numbered(1))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(read(t, path)), "\n")
	if len(lines) != 4 || lines[1] != `{"call_id":"ha` || ids(t, []byte(lines[2]+"\n"))[0] != "call-00001" {
		t.Errorf("file %q", lines)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(file, "records.jsonl"), filepath.Dir(file)} {
		if _, err := Open(path, 0, quiet()); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

// badDisk fails as it is told to.
type badDisk struct {
	mu      sync.Mutex
	text    []byte
	room    int // bytes it still takes
	opened  int
	refuses bool // to open
}

var errFull = errors.New("no space left on device")

func (d *badDisk) open(string) (disk, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuses {
		return nil, 0, errFull
	}
	d.opened++
	return d, int64(len(d.text)), nil
}

func (d *badDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.text, d.room = append(d.text, p[:n]...), d.room-n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (d *badDisk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += len(d.text) - int(size)
	d.text = d.text[:size]
	return nil
}

func (d *badDisk) Close() error { return nil }

func (d *badDisk) content() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.text)
}

func (d *badDisk) set(room int, refuses bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room, d.refuses = room, refuses
}

// run starts a writer on d.
func run(t *testing.T, d *badDisk) *Writer {
	t.Helper()
	w := newWriter("records.jsonl", 0, quiet())
	w.open = d.open
	if err := w.reopen(); err != nil {
		t.Fatal(err)
	}
	go w.run()
	return w
}

// A full disk: calls go on, no half line stays, and all is written once there
// is room, in order, whether the file can be opened again at once or not.
func TestWriterSpoolsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &badDisk{room: 1500} // four records and a half
		w := run(t, d)
		for i := range 50 {
			w.Add(numbered(i))
		}
		synctest.Wait()
		before := ids(t, d.content())
		if s := w.Stats(); s.Failures != 1 || s.Lost != 0 || s.Waiting != 50-len(before) || len(before) == 0 {
			t.Errorf("%d written, stats %+v", len(before), s)
		}
		d.set(0, true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := w.Stats(); s.Failures < 9 || s.Failures > 12 || s.Lost != 0 {
			t.Errorf("after 10 s: %+v", s)
		}
		d.set(1<<20, false)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if diff := cmp.Diff(want(50), ids(t, d.content())); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if err := w.Close(); err != nil || d.opened < 2 {
			t.Errorf("closed: %v; opened %d times", err, d.opened)
		}
		if s := w.Stats(); s.Waiting != 0 || s.Written != 50 {
			t.Errorf("stats %+v", s)
		}
	})
}

// What finds no room in memory is lost and counted; the oldest stay.
func TestWriterBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &badDisk{}
		w := run(t, d)
		big := strings.Repeat("x", 1<<20)
		const n = 20
		for i := range n {
			r := numbered(i)
			r.Detail = big
			w.Add(r)
		}
		synctest.Wait()
		s := w.Stats()
		if s.Lost == 0 || s.Waiting+int(s.Lost) != n || s.Waiting > maxSpool>>20 {
			t.Errorf("stats %+v", s)
		}
		d.set(1<<30, false)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want(s.Waiting), ids(t, d.content())); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	})
}

// The end does not wait for a disk that stays full.
func TestWriterClosesOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &badDisk{room: 100}
		w := run(t, d)
		for i := range 7 {
			w.Add(numbered(i))
		}
		start := time.Now()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2*retryAfter {
			t.Errorf("close took %v", took)
		}
		if s := w.Stats(); s.Lost != 7 || s.Waiting != 0 || len(d.content()) != 0 {
			t.Errorf("stats %+v, file %q", s, d.content())
		}
		w.Add(numbered(8)) // too late, and counted
		if s := w.Stats(); s.Lost != 8 {
			t.Errorf("stats %+v", s)
		}
	})
}

// Calls end at the same time; each record is one line.
func TestWriterConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	w, err := Open(path, 20<<10, quiet())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				w.Add(numbered(g*100 + i))
				w.Stats()
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, name := range names {
		for _, id := range ids(t, read(t, name)) {
			seen[id]++
		}
	}
	if len(seen) != 800 || len(names) < 2 {
		t.Errorf("%d records in %d files", len(seen), len(names))
	}
}
