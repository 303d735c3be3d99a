package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// demoBot is where the demo's configuration looks for the bot.
const demoBot = "127.0.0.1:5070"

// serve runs the gateway until it ends and returns its exit code. SIGINT and SIGTERM are handed on: the first one lets
// it drain, a second SIGINT ends the calls that are left.
func serve(config string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx := context.Background()
	b, err := harness.Find(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	code, err := runGateway(ctx, b, config, signals)
	if err = errors.Join(err, b.Remove()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return code
}

func runGateway(ctx context.Context, b *harness.Binaries, config string, signals <-chan os.Signal) (code int, err error) {
	if sameFile(config, demoConfig) {
		var bot *program
		if bot, err = apart(ctx, nil, b.Plugin("smartassist"), "sim", "--listen", demoBot, "--play", botSound,
			"--hangup-on-dtmf", endDigit, "--bye-header", "X-Queue-Name: "+queue); err != nil {
			return 1, err
		}
		defer bot.end()
		if err = invite(ctx, b, config); err != nil {
			return 1, err
		}
	}
	g, err := apart(ctx, []string{"PATCHBAY_PLUGIN_DIR=" + b.PluginDir()}, b.Patchbay(), "run", "--config", config)
	if err != nil {
		return 1, err
	}
	for {
		select {
		case s := <-signals:
			if err := g.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 1, fmt.Errorf("hand %v on: %w", s, err)
			}
		case <-g.done:
			return g.cmd.ProcessState.ExitCode(), nil
		}
	}
}

// program is a running program in a process group of its own, which Ctrl-C in the terminal does not reach: the gateway
// would hear it twice, and its drain still needs the bot.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func apart(ctx context.Context, env []string, path string, args ...string) (*program, error) {
	p := &program{cmd: exec.CommandContext(ctx, path, args...), done: make(chan struct{})} //nolint:gosec // our own programs
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the exit code says it
	}()
	return p, nil
}

// end asks the program to end and waits for it.
func (p *program) end() {
	const patience = 5 * time.Second
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// invite prints what there is to try.
func invite(ctx context.Context, b *harness.Binaries, config string) error {
	url, err := stage.StreamURL(ctx, b, config, "--app", "demo", "--number", number, "--bot", "st-demo", "--account", "demo-account")
	if err != nil {
		return err
	}
	fmt.Printf(`
Ctrl-C drains the gateway and ends it. Its admin interface: http://127.0.0.1:8080 (/healthz, /metrics, /api/v1/calls)
A stream URL to try, which the simulated bot at %s answers:

  %s

Call it with a simulated Talkdesk (key %s after ten seconds has the bot hand over to an agent):

  %s sim talkdesk --play %s --record heard.wav --dtmf 10s:%s '%s'

`, demoBot, url, endDigit, relative(b.Patchbay()), callerSound, endDigit, url)
	return nil
}

// sameFile reports whether both names are of one file.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
