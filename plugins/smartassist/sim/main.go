package sim

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/patchbay/patchbay/sdk/media/wav"
)

// Exit codes of Main.
const (
	exitOK    = 0
	exitWrong = 1
	exitUsage = 2
)

// Main is the command: it runs a Bot until ctx ends or --calls calls have ended, and returns the exit code: 0 when all
// is well, 1 when a call broke a rule or was not as expected, 2 for wrong usage.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "sim: %v; try --help\n", err)
		return exitUsage
	}
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	bot, err := Start(c.opts) //nolint:contextcheck // a Bot lives until Close, which is called below
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "sim: %v\n", err)
		if errors.Is(err, ErrOptions) {
			return exitUsage
		}
		return exitWrong
	}
	_, _ = fmt.Fprintf(stderr, "sim: listening on %s (udp, tcp)\n", bot.Addr())
	if a := bot.TLSAddr(); a.IsValid() {
		_, _ = fmt.Fprintf(stderr, "sim: listening on %s (tls)\n", a)
	}
	r := &reporter{command: c, bot: bot, stdout: stdout, stderr: stderr}
	r.follow(ctx)
	return r.finish()
}

// reporter prints each call once it is done.
type reporter struct {
	*command
	bot            *Bot
	stdout, stderr io.Writer
	done           int
	wrong          bool
}

// follow reports calls until enough have ended or ctx has.
func (r *reporter) follow(ctx context.Context) {
	for r.calls == 0 || r.done < r.calls {
		if err := r.bot.waitEnded(ctx, r.done+1); err != nil {
			return
		}
		r.report()
	}
}

// finish closes the bot, reports the calls that were on, and returns the exit code.
func (r *reporter) finish() int {
	enough := r.calls == 0 || r.done >= r.calls
	if err := r.bot.Close(); err != nil {
		r.complain("%v", err)
	}
	r.report()
	if !enough {
		r.complain("%d of %d calls have ended", r.done, r.calls)
	}
	for _, v := range r.bot.Totals().Violations {
		r.complain("outside of calls: %s", v)
	}
	if r.wrong {
		return exitWrong
	}
	return exitOK
}

func (r *reporter) complain(format string, args ...any) {
	r.wrong = true
	_, _ = fmt.Fprintf(r.stderr, "sim: "+format+"\n", args...)
}

// report prints the calls that have ended since the last time.
func (r *reporter) report() {
	for _, ended := range r.bot.endedFrom(r.done) {
		c := ended.snapshot()
		r.done++
		r.print(&c)
		for _, v := range c.Violations {
			r.complain("%s: %s", c.ID, v)
		}
		for _, e := range r.expect {
			if got := e.check(&c); got != "" {
				r.complain("%s: expected %s", c.ID, got)
			}
		}
		if r.record != "" {
			if err := r.writeRecording(ended); err != nil {
				r.complain("%s: %v", c.ID, err)
			}
		}
	}
}

func (r *reporter) print(c *Call) {
	if !r.json {
		if err := printCall(r.stdout, c, r.ladder); err != nil {
			r.complain("print call: %v", err)
		}
		return
	}
	raw, err := json.Marshal(c)
	if err == nil {
		_, err = r.stdout.Write(append(raw, '\n'))
	}
	if err != nil {
		r.complain("print call: %v", err)
	}
}

func (r *reporter) writeRecording(c *call) error {
	path := r.record
	if r.done > 1 {
		ext := filepath.Ext(path)
		path = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(path, ext), r.done, ext)
	}
	f, err := os.Create(path) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	err = wav.WriteMuLaw(f, c.recording())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write recording %s: %w", path, err)
	}
	return nil
}
