package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

const (
	// maxOutput bounds what is kept of each of a program's outputs, in bytes.
	maxOutput = 64 << 20
	// killAfter is how long a program may take to end after its context ended and it was interrupted.
	killAfter = 5 * time.Second
)

// Command is a program to start.
type Command struct {
	Path string
	Args []string
	Dir  string    // where it runs; default: here
	Env  []string  // added to this process's environment
	Echo io.Writer // gets what it writes on stderr, too
}

// Process is a running program whose output is followed line by line.
type Process struct {
	cmd  *exec.Cmd
	name string
	done chan struct{}
	err  error // set before done is closed

	out, log output
}

// Start starts a program. When ctx ends it is interrupted, and killed if that does not end it. Somebody must call
// Wait or Stop.
func Start(ctx context.Context, c Command) (*Process, error) {
	p := &Process{name: filepath.Base(c.Path), done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, c.Path, c.Args...)
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = killAfter
	p.out.changed, p.log.changed = make(chan struct{}), make(chan struct{})
	p.log.echo = c.Echo
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go p.reap()
	return p, nil
}

func (p *Process) reap() {
	defer close(p.done)
	if err := p.cmd.Wait(); err != nil {
		p.err = fmt.Errorf("%s: %w\n%s", p.name, err, tail(p.log.bytes(), 4000))
	}
	p.out.end()
	p.log.end()
}

// tail is the end of b, at most n bytes, from the start of a line.
func tail(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	b = b[len(b)-n:]
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	return b
}

// Wait waits for the program's end. An exit code other than 0 is an error that ends with what it said on stderr.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.name, ctx.Err())
	}
}

// Done is closed at the program's end.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal; it is no error when the program has ended.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// Stop asks the program to end and waits for it; when ctx ends first the program is killed, which is an error.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		if err := p.Signal(os.Kill); err != nil {
			return err
		}
		<-p.done
		return fmt.Errorf("%s did not end when asked to and was killed: %w", p.name, ctx.Err())
	}
}

// Stdout is what the program has printed so far.
func (p *Process) Stdout() []byte { return p.out.bytes() }

// Stderr is what the program has written on stderr so far.
func (p *Process) Stderr() []byte { return p.log.bytes() }

// Line waits for a line of stdout that match accepts.
func (p *Process) Line(ctx context.Context, match func(line string) bool) (string, error) {
	line, err := p.out.wait(ctx, match)
	if err != nil {
		return "", fmt.Errorf("wait for a line of %s: %w\n%s", p.name, err, tail(p.log.bytes(), 4000))
	}
	return line, nil
}

// LogLine is a line of a JSON log.
type LogLine map[string]any

// Text is the value of key when it is a string, else "".
func (l LogLine) Text(key string) string {
	s, _ := l[key].(string)
	return s
}

// Log waits for a line of the JSON log on stderr that match accepts. Lines that are no JSON object are passed over.
func (p *Process) Log(ctx context.Context, match func(LogLine) bool) (LogLine, error) {
	var found LogLine
	_, err := p.log.wait(ctx, func(line string) bool {
		var l LogLine
		if json.Unmarshal([]byte(line), &l) != nil || !match(l) {
			return false
		}
		found = l
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a log line of %s: %w\n%s", p.name, err, tail(p.log.bytes(), 4000))
	}
	return found, nil
}

// JSONLines decodes each line of r into a T. A last line without its line end is still being written and left out.
func JSONLines[T any](r io.Reader) ([]T, error) {
	var all []T
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("read line %d: %w", len(all)+1, err)
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return all, fmt.Errorf("decode line %d: %w", len(all)+1, err)
		}
		all = append(all, v)
	}
}

// errEnded: the program ended, so nothing more comes.
var errEnded = errors.New("the program has ended")

// output keeps what a program writes and lets others wait for a line.
type output struct {
	echo io.Writer

	mu      sync.Mutex
	buf     []byte
	ended   bool
	changed chan struct{} // closed and replaced when buf or ended changes
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	if len(o.buf)+len(b) <= maxOutput {
		o.buf = append(o.buf, b...)
	}
	close(o.changed)
	o.changed = make(chan struct{})
	o.mu.Unlock()
	if o.echo != nil {
		_, _ = o.echo.Write(b) // who watches may go away
	}
	return len(b), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.buf)
}

// wait looks at each whole line, from the first on, until match accepts one.
func (o *output) wait(ctx context.Context, match func(line string) bool) (string, error) {
	seen := 0
	for {
		o.mu.Lock()
		fresh, ended, changed := o.buf[seen:], o.ended, o.changed
		o.mu.Unlock()
		for {
			i := bytes.IndexByte(fresh, '\n')
			if i < 0 {
				break
			}
			line := string(fresh[:i])
			fresh = fresh[i+1:]
			seen += i + 1
			if match(line) {
				return line, nil
			}
		}
		if ended {
			return "", errEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}
