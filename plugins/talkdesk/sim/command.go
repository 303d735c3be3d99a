package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/patchbay/patchbay/sdk/media/wav"
)

// The exit statuses of Main.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main is the command `talkdesk sim`. args are what follows that word; the report goes to stdout, everything else to stderr, and
// a URL given as - is read from the process's standard input. It returns the exit status: 0 done, 1 failed, 2 used wrongly.
// When ctx ends, the caller hangs up.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return command(ctx, args, os.Stdin, stdout, stderr)
}

func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c, err := parse(args, stdin, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		complain(stderr, err)
		return exitUsage
	}
	var record *os.File
	if c.record != "" { // before the call, which would be lost on a file that cannot be written
		if record, err = os.Create(c.record); err != nil {
			complain(stderr, fmt.Errorf("create --record: %w", err))
			return exitFailed
		}
	}
	report, err := Run(ctx, c.opt)
	if record != nil {
		werr := wav.WriteMuLaw(record, report.Heard)
		if werr = errors.Join(werr, record.Close()); werr != nil {
			complain(stderr, fmt.Errorf("write --record: %w", werr))
			return exitFailed
		}
	}
	if errors.Is(err, ErrOptions) {
		complain(stderr, err)
		return exitUsage
	}
	if perr := c.print(stdout, &report); perr != nil {
		complain(stderr, perr)
		return exitFailed
	}
	// An interrupted simulator has hung up in good order.
	if err != nil && !errors.Is(err, context.Canceled) {
		complain(stderr, err)
		if report.Outcome != OutcomeUnreachable {
			return exitFailed
		}
	}
	return c.judge(&report, stderr)
}

// judge turns the report into the exit status.
func (c *settings) judge(r *Report, stderr io.Writer) int {
	switch {
	case r.ViolationCount > 0:
		complain(stderr, fmt.Errorf("the gateway broke the protocol %d times; the report lists how", r.ViolationCount))
		return exitFailed
	case c.expect == "":
		if r.Failed() {
			return exitFailed
		}
	case !meets(c.expect, r.Outcome):
		complain(stderr, fmt.Errorf("outcome %q, expected %q", r.Outcome, c.expect))
		return exitFailed
	}
	return exitDone
}

// meets compares an outcome with what was expected: -> may stand for the arrow, and "escalate" alone for any ring group.
func meets(expect, outcome string) bool {
	expect = strings.Join(strings.Fields(strings.ReplaceAll(expect, "->", " → ")), " ")
	if expect == OutcomeEscalate {
		outcome, _, _ = strings.Cut(outcome, " → ")
	}
	return expect == strings.Join(strings.Fields(outcome), " ")
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintf(stderr, "talkdesk sim: %v\n", err) // nowhere left to report a failure of stderr
}

// print writes the report as JSON or as a table for people.
func (c *settings) print(stdout io.Writer, r *Report) error {
	var err error
	if c.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	} else {
		err = r.WriteTable(stdout)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// WriteTable writes r for people to read.
func (r *Report) WriteTable(w io.Writer) error {
	out := bufio.NewWriter(w)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		// bufio keeps the first error for Flush.
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	row("target", "%s", r.Target)
	row("outcome", "%s%s", r.Outcome, prefixed(", ended by the ", string(r.EndedBy)))
	if r.UpgradeStatus != 0 {
		row("upgrade", "%d%s%s", r.UpgradeStatus, prefixed(", retry after ", r.RetryAfter), prefixed(": ", quoted(r.Refusal)))
	}
	if r.StreamSID != "" && r.UpgradeStatus == 101 {
		r.callRows(row)
	}
	for _, v := range r.Violations {
		row("violation", "%v %s: %s", v.At, v.Rule, v.Detail)
	}
	if more := r.ViolationCount - len(r.Violations); more > 0 {
		row("violation", "and %d more", more)
	}
	if err := errors.Join(t.Flush(), out.Flush()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func (r *Report) callRows(row func(name, format string, args ...any)) {
	row("stream", "%s", r.StreamSID)
	row("duration", "%v", r.Duration)
	if r.FramesReceived > 0 {
		row("first audio", "after %v", r.FirstAudio)
	} else {
		row("first audio", "never")
	}
	row("sent", "%d frames, at worst %v late by this program%s", r.FramesSent, r.SendLate, prefixed(", DTMF ", r.DTMFSent))
	row("received", "%d frames, %v of audio", r.FramesReceived, Millis(duration(int(r.BytesReceived))))
	row("intervals", "p50 %v, p99 %v, max %v, %d gaps over %v", r.IntervalP50, r.IntervalP99, r.IntervalMax, r.Gaps, gapLength)
	row("playback", "%d underruns, %d pauses, at most %v ahead, %v cleared, %v cut off by the end",
		r.Underruns, r.Pauses, r.MaxBacklog, r.Cleared, r.Unplayed)
	row("marks", "%d, %d echoed; %d clears", r.Marks, r.MarksEchoed, r.Clears)
	if r.Stop != nil {
		row("stop", "%s%s after %v, %d messages after it", r.Stop.Command, prefixed(" → ", r.Stop.RingGroup), r.Stop.At, r.AfterStop)
	}
	row("close", "%d%s", r.CloseCode, prefixed(" ", quoted(r.CloseText)))
}

// prefixed puts prefix before s, or is empty if s is.
func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// printable keeps what a peer wrote from playing with the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%q", s)
}
