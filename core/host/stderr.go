package host

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// maxLine bounds one line of a plugin's stderr, in bytes; more is cut off.
const maxLine = 16 << 10

// stderrLog turns what a plugin writes to stderr into records of core's log.
// go-plugin's own reader panics on a line whose "@message" is no string, so a
// plugin could kill the host with one line; this one takes any bytes. (Its own
// is silent only where its logger's level is Off.)
type stderrLog struct {
	log     *slog.Logger
	line    []byte
	cut     bool
	counted func() // called for each line, for the metrics
}

// Write implements io.Writer; it never fails. Calls are not concurrent.
func (s *stderrLog) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.add(p)
			return n, nil
		}
		s.add(p[:i])
		s.flush()
		p = p[i+1:]
	}
}

func (s *stderrLog) add(p []byte) {
	if room := maxLine - len(s.line); len(p) > room {
		p, s.cut = p[:room], true
	}
	s.line = append(s.line, p...)
}

func (s *stderrLog) flush() {
	line := bytes.TrimSpace(s.line)
	if len(line) > 0 {
		s.counted()
		s.emit(line)
	}
	s.line, s.cut = s.line[:0], false
}

// emit logs one line: slog's JSON keeps its level, message and attributes;
// anything else is quoted.
func (s *stderrLog) emit(line []byte) {
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil || fields == nil {
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "plugin wrote to stderr",
			slog.String("line", strings.ToValidUTF8(string(line), "?")), slog.Bool("cut", s.cut))
		return
	}
	level, msg := slog.LevelInfo, "plugin log"
	if v, ok := fields[slog.LevelKey].(string); ok {
		var l slog.Level
		if l.UnmarshalText([]byte(v)) == nil {
			level = l
		}
	}
	if v, ok := fields[slog.MessageKey].(string); ok {
		msg = v
	}
	for _, k := range []string{slog.LevelKey, slog.MessageKey, slog.TimeKey, "plugin"} {
		delete(fields, k)
	}
	attrs := make([]slog.Attr, 0, len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, slog.Any(k, fields[k]))
	}
	s.log.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // the message is the plugin's
}
