package host

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logged writes pieces to a stderrLog and returns core's log records.
func logged(tb testing.TB, pieces ...[]byte) (records []map[string]any, lines int) {
	tb.Helper()
	var out bytes.Buffer
	s := &stderrLog{log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), counted: func() { lines++ }}
	for _, p := range pieces {
		if n, err := s.Write(p); n != len(p) || err != nil {
			tb.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
		}
	}
	for line := range bytes.Lines(out.Bytes()) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			tb.Fatalf("core's log line %q: %v", line, err)
		}
		delete(r, slog.TimeKey)
		records = append(records, r)
	}
	return records, lines
}

func TestStderrLog(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   string
		want []map[string]any
	}{
		{
			"slog's own", `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"m","call_id":"c","n":1,"plugin":"another"}` + "\n",
			[]map[string]any{{"level": "WARN", "msg": "m", "call_id": "c", "n": 1.0}},
		},
		{"hclog's", `{"@level":"info","@message":1}` + "\n", []map[string]any{{"level": "INFO", "msg": "plugin log", "@level": "info", "@message": 1.0}}},
		{"odd types", `{"level":7,"msg":{"a":[null]}}` + "\n", []map[string]any{{"level": "INFO", "msg": "plugin log"}}},
		{"unknown level", `{"level":"LOUD","msg":"m"}` + "\n", []map[string]any{{"level": "INFO", "msg": "m"}}},
		{"text", "panic: x\r\n\n  \n", []map[string]any{{"level": "INFO", "msg": "plugin wrote to stderr", "line": "panic: x", "cut": false}}},
		{"null", "null\n", []map[string]any{{"level": "INFO", "msg": "plugin wrote to stderr", "line": "null", "cut": false}}},
		{"no UTF-8", "\xff\xfe\n", []map[string]any{{"level": "INFO", "msg": "plugin wrote to stderr", "line": "?", "cut": false}}},
		{"no end of line", "half", nil},
		{
			"too long", strings.Repeat("x", maxLine+1) + "\nnext\n",
			[]map[string]any{
				{"level": "INFO", "msg": "plugin wrote to stderr", "line": strings.Repeat("x", maxLine), "cut": true},
				{"level": "INFO", "msg": "plugin wrote to stderr", "line": "next", "cut": false},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			whole, lines := logged(t, []byte(tc.in))
			if diff := cmp.Diff(tc.want, whole); diff != "" || lines != len(tc.want) {
				t.Errorf("%d lines (-want +got):\n%s", lines, diff)
			}
			var pieces [][]byte
			for i := range len(tc.in) {
				pieces = append(pieces, []byte{tc.in[i]})
			}
			piecemeal, _ := logged(t, pieces...)
			if diff := cmp.Diff(whole, piecemeal); diff != "" {
				t.Errorf("byte by byte (-whole +pieces):\n%s", diff)
			}
		})
	}
}

// FuzzStderr: whatever a plugin writes, each line that is not blank is one
// well-formed record of bounded length, however it was cut into writes.
func FuzzStderr(f *testing.F) {
	f.Add([]byte(`{"@level":"info","@message":1}`+"\n"), 5)
	f.Add([]byte(`{"level":"ERROR","msg":"m","":{}}`+"\nplain\n\n\x00\xff\n"), 1)
	f.Add(bytes.Repeat([]byte("x"), maxLine+10), 100)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		cut = min(max(cut, 0), len(in))
		records, lines := logged(t, in[:cut], in[cut:])
		want := 0
		for line := range bytes.SplitSeq(in[:bytes.LastIndexByte(in, '\n')+1], []byte{'\n'}) {
			if len(bytes.TrimSpace(line[:min(len(line), maxLine)])) > 0 {
				want++
			}
		}
		if len(records) != want || lines != want {
			t.Fatalf("%d records and %d counted of %d lines", len(records), lines, want)
		}
		for _, r := range records {
			if s, ok := r["line"].(string); ok && len(s) > 3*maxLine {
				t.Fatalf("a line of %d bytes", len(s))
			}
		}
	})
}
