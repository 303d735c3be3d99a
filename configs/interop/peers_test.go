//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/patchbay/patchbay/configs/harness"
)

// pollEvery is how often a state that nothing announces is looked at.
const pollEvery = 20 * time.Millisecond

// baresip is a running baresip that plays the bot.
type baresip struct {
	*harness.Process
	sip netAddress
	dir string
}

// startBaresip runs baresip as a bot with the given number that plays prompt, a WAV file of 16 bits at 8 kHz.
func startBaresip(ctx context.Context, t *testing.T, number, prompt string) *baresip {
	t.Helper()
	dir, ports := t.TempDir(), freePorts(ctx, t, 12)
	b := &baresip{sip: netAddress(ports), dir: dir}
	modules, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	text, err := template.ParseFiles("testdata/baresip.config")
	if err != nil {
		t.Fatal(err)
	}
	var config bytes.Buffer
	err = text.Execute(&config, map[string]any{
		"SIP": b.sip, "FirstPort": ports + 2, "LastPort": ports + 11, "Modules": modules, "Prompt": prompt, "Dir": dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	account := fmt.Sprintf("<sip:%s@127.0.0.1>;regint=0;answermode=auto\n", number)
	for name, content := range map[string]string{"config": config.String(), "accounts": account, "contacts": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Process = startPeer(ctx, t, "baresip", "-f", dir, "-4", "-s")
	awaitSocket(ctx, t, b.Process, ports)
	return b
}

// moduleDir is where Debian's baresip keeps its modules: one folder for all machines, or one below the machine's.
func moduleDir() (string, error) {
	for _, pattern := range []string{"/usr/lib/baresip/modules", "/usr/lib/*/baresip/modules"} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			return strings.Join(found, ""), err
		}
	}
	return "", errors.New("baresip's modules are not there; run make interop, which installs it")
}

// recording waits for the end of baresip, which completes its file of what it heard, and returns that file's path.
func (b *baresip) recording(ctx context.Context) (string, error) {
	if err := b.Stop(ctx); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(b.dir, "dump-*-dec.wav"))
	if err != nil || len(found) != 1 {
		return "", errors.Join(fmt.Errorf("%d recordings of baresip", len(found)), err)
	}
	return found[0], nil
}

// sipp is a running sipp that plays a bot by the scenario testdata/uas.xml.
type sipp struct {
	*harness.Process
	sip netAddress
}

// startSIPp runs sipp as a bot that ends each call itself, talk after the ACK.
func startSIPp(ctx context.Context, t *testing.T, talk time.Duration) *sipp {
	t.Helper()
	scenario, err := filepath.Abs("testdata/uas.xml")
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(ctx, t, 6)
	messages := filepath.Join(t.TempDir(), "messages.log")
	s := &sipp{sip: netAddress(ports)}
	s.Process = startPeer(ctx, t, "sipp", "-sf", scenario, "-nostdin", "-rtp_echo",
		"-i", "127.0.0.1", "-p", strconv.Itoa(ports), "-mi", "127.0.0.1", "-mp", strconv.Itoa(ports+2),
		"-d", strconv.FormatInt(talk.Milliseconds(), 10), "-trace_msg", "-message_file", messages)
	t.Cleanup(func() {
		if log, err := os.ReadFile(messages); t.Failed() {
			t.Logf("sipp's messages (%v):\n%s", err, log)
		}
	})
	awaitSocket(ctx, t, s.Process, ports)
	return s
}

// finish waits for the end of sipp's calls; it is an error when one of them did not go by the scenario.
func (s *sipp) finish(ctx context.Context) error {
	if err := s.Signal(syscall.SIGUSR1); err != nil { // what sipp takes for "no more calls"
		return err
	}
	return s.Wait(ctx)
}

// startPeer starts a Debian program. At the test's end it is killed if it still runs, and what it said is logged if
// the test failed.
func startPeer(ctx context.Context, t *testing.T, program string, args ...string) *harness.Process {
	t.Helper()
	// Not every place that runs tests names a terminal; sipp does not start without.
	p, err := harness.Start(ctx, harness.Command{Path: program, Args: args, Dir: t.TempDir(), Env: []string{"TERM=dumb"}})
	if err != nil {
		t.Fatalf("%v; make interop installs what is missing", err)
	}
	t.Cleanup(func() {
		if err := p.Signal(os.Kill); err != nil {
			t.Error(err)
		}
		<-p.Done()
		logOutput(t, program, p)
	})
	return p
}

// logOutput logs what a program said if the test failed.
func logOutput(t *testing.T, name string, p *harness.Process) {
	t.Helper()
	if t.Failed() {
		t.Logf("%s said:\n%s\n%s", name, p.Stdout(), p.Stderr())
	}
}

// netAddress is a port on 127.0.0.1.
type netAddress int

func (a netAddress) String() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a))) }

// freePorts finds n UDP ports in a row that nobody uses, the first one even, below those the system gives away itself.
func freePorts(ctx context.Context, t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first := 22000 + 2*rand.IntN(5000)
		if portsAreFree(ctx, first, n) {
			return first
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func portsAreFree(ctx context.Context, first, n int) bool {
	for port := first; port < first+n; port++ {
		c, err := new(net.ListenConfig).ListenPacket(ctx, "udp", netAddress(port).String())
		if err != nil {
			return false
		}
		defer c.Close()
	}
	return true
}

// awaitSocket waits until the peer has bound its UDP port: what is sent to it from then on is not lost, however long
// the rest of its start takes. It asks the kernel, because these peers say nothing, or say it late, when ready.
func awaitSocket(ctx context.Context, t *testing.T, p *harness.Process, port int) {
	t.Helper()
	want := fmt.Sprintf(" 0100007F:%04X ", port) // 127.0.0.1, as proc(5) writes it
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		table, err := os.ReadFile("/proc/net/udp")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(table), want) {
			return
		}
		select {
		case <-tick.C:
		case <-p.Done():
			t.Fatalf("the peer ended before it listened: %v", p.Wait(ctx))
		case <-ctx.Done():
			t.Fatalf("the peer does not listen on port %d: %v", port, ctx.Err())
		}
	}
}
