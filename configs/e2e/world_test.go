package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// deadline bounds each wait; nothing here takes a tenth of it on an idle machine.
const deadline = 45 * time.Second

const secret = "end-to-end-test-secret-0123456789"

// trunk is an egress plugin instance and the route to it.
type trunk struct {
	name          string
	targets       []string // SIP URIs
	ca            string   // CA file, for TLS
	defaultResult string   // default: ok
	ports         string   // RTP; default: a range of its own
}

// number is what is dialled to be routed to the i-th trunk.
func number(i int) string { return fmt.Sprintf("+1734555%04d", 100+i) }

// world is a running gateway with its surroundings.
type world struct {
	*harness.Gateway
	dir, file string
	stream    string // where the ingress plugin listens
	pids      []int
}

// settings are what a test changes of the configuration.
type settings struct {
	maxCalls    int    // of the node
	appCalls    int    // of the app
	numbers     string // default: all of the trunks'
	drain       string
	listen      string // of the ingress plugin; default: a free port
	trunks      []trunk
	unconfirmed bool // do not expect a clean end: the test kills the gateway
}

// yaml writes the configuration file.
func (s *settings) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, `node: {name: e2e, public_url: "ws://%[1]s"}
admin: {listen: "127.0.0.1:0"}
limits: {max_calls: %[2]d, calls_per_second: 5000, drain_timeout: %[3]s}
records: {path: records.jsonl}
plugins:
  talkdesk:
    config: {listen: "%[1]s", close_grace: 2s}
`, s.listen, orDefault(s.maxCalls, 5000), orDefault(s.drain, "20s"))
	for _, t := range s.trunks {
		fmt.Fprintf(&b, `  %s:
    plugin: smartassist
    config:
      listen: 127.0.0.1:0
      rtp_ports: %s
      trunk:
        targets: ["%s"]
`, t.name, t.ports, strings.Join(t.targets, `", "`))
		if t.ca != "" {
			fmt.Fprintf(&b, "        tls: {ca_file: %q}\n", t.ca)
		}
	}
	fmt.Fprintf(&b, `apps:
  - name: demo
    app_id: cs-e2e
    secrets: [%q]
    bots: [st-e2e]
    accounts: [account-e2e]
    numbers: ["%s"]
    max_calls: %d
routes:
`, secret, orDefault(s.numbers, "+1734555*"), orDefault(s.appCalls, 5000))
	for i, t := range s.trunks {
		fmt.Fprintf(&b, `  - from: talkdesk
    to: %s
    match: {number: "%s"}
    headers: {X-ExternalCallId: "{{.interaction_id}}"}
    outcomes:
      - when: {header: {name: X-Queue-Name}}
        result: escalate
        target: "{{.header}}"
    default_target: agents
    default_result: %s
`, t.name, number(i), orDefault(t.defaultResult, "ok"))
	}
	return b.String()
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// nextPorts hands every trunk a range of RTP ports of its own.
var nextPorts atomic.Int32

func rtpPorts() string {
	const first, width = 24000, 40
	from := first + width*int(nextPorts.Add(1)-1)
	return fmt.Sprintf("%d-%d", from, from+width-1)
}

// settle chooses the ports that are left open.
func (s *settings) settle(t *testing.T) {
	t.Helper()
	for i := range s.trunks {
		if s.trunks[i].ports == "" {
			s.trunks[i].ports = rtpPorts()
		}
	}
	if s.listen != "" {
		return
	}
	var err error
	if s.listen, err = stage.FreeAddress(within(t)); err != nil {
		t.Fatal(err)
	}
}

// start runs a gateway; at the test's end it is drained, must exit with 0 and leave no process.
func start(t *testing.T, s settings) *world {
	t.Helper()
	ctx := within(t)
	s.settle(t)
	w := &world{dir: t.TempDir(), stream: s.listen}
	w.file = filepath.Join(w.dir, "patchbay.yaml")
	life, end := context.WithCancel(context.Background())
	var err error
	if w.Gateway, err = harness.StartGateway(ctx, life, programs, s.yaml(), harness.Options{Dir: w.dir}); err != nil {
		end()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer func() { end(); <-w.Done() }()
		if s.unconfirmed {
			return
		}
		over, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := w.Drain(over); err != nil {
			t.Errorf("the gateway does not end well on SIGTERM: %v", err)
			return
		}
		if err := stage.Gone(over, w.pids...); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", w.Stderr())
		}
	})
	if w.pids, err = stage.PIDs(ctx, w.Gateway); err != nil {
		t.Fatal(err)
	}
	return w
}

// within is a context that ends with the test, after the deadline at the latest.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// url is a signed stream URL for the i-th trunk.
func (w *world) url(t *testing.T, i int) string {
	t.Helper()
	return w.urlOf(t, number(i))
}

func (w *world) urlOf(t *testing.T, number string) string {
	t.Helper()
	url, err := stage.StreamURL(within(t), programs, w.file,
		"--app", "demo", "--number", number, "--bot", "st-e2e", "--account", "account-e2e")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// dial starts a call.
func dial(t *testing.T, url string, args ...string) *stage.Caller {
	t.Helper()
	life, end := context.WithCancel(context.Background())
	c, err := stage.StartCaller(life, programs, url, append(args, "--timeout", deadline.String())...)
	if err != nil {
		end()
		t.Fatal(err)
	}
	t.Cleanup(func() { end(); <-c.Done() })
	return c
}

// report waits for a call's end.
func report(t *testing.T, c *stage.Caller) *stage.CallerReport {
	t.Helper()
	r, err := c.Report(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("the gateway broke the platform's protocol: %s: %s", v.Rule, v.Detail)
	}
	return r
}

// call runs a whole call.
func call(t *testing.T, url string, args ...string) *stage.CallerReport {
	t.Helper()
	return report(t, dial(t, url, args...))
}

// bot starts a simulated bot.
func bot(t *testing.T, args ...string) *stage.Bot {
	t.Helper()
	return keep(t, func(ctx, life context.Context) (*stage.Bot, error) {
		return stage.StartBot(ctx, life, programs, args...)
	})
}

// tlsBot starts a simulated bot with TLS under a certificate of its own.
func tlsBot(t *testing.T, args ...string) *stage.Bot {
	t.Helper()
	dir := t.TempDir()
	return keep(t, func(ctx, life context.Context) (*stage.Bot, error) {
		return stage.StartTLSBot(ctx, life, programs, dir, args...)
	})
}

func keep(t *testing.T, start func(ctx, life context.Context) (*stage.Bot, error)) *stage.Bot {
	t.Helper()
	life, end := context.WithCancel(context.Background())
	b, err := start(within(t), life)
	if err != nil {
		end()
		t.Fatal(err)
	}
	t.Cleanup(func() { end(); <-b.Done() })
	return b
}

// account ends a bot and returns what it has seen; it must have found no fault with the gateway.
func account(t *testing.T, b *stage.Bot) *stage.BotReport {
	t.Helper()
	r, err := b.Report(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Errorf("the gateway broke SIP: %s", v)
	}
	for i := range r.Calls {
		for _, v := range r.Calls[i].Violations {
			t.Errorf("the gateway broke SIP or RTP: %s", v)
		}
	}
	return r
}

// records waits for n call records.
func (w *world) records(t *testing.T, n int) []stage.Record {
	t.Helper()
	all, err := harness.Records[stage.Record](within(t), w.Gateway, "records.jsonl", n)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// talking waits until one call is answered.
func (w *world) talking(t *testing.T) {
	t.Helper()
	ctx := within(t)
	err := stage.Poll(ctx, func() (bool, error) {
		var answer struct {
			Calls []struct {
				State string `json:"state"`
			} `json:"calls"`
		}
		if err := w.Get(ctx, "/api/v1/calls", &answer); err != nil {
			return false, err
		}
		have := 0
		for _, c := range answer.Calls {
			if c.State == "answered" {
				have++
			}
		}
		return have == 1, fmt.Errorf("%d calls are answered, not one", have)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// metric is the sum of a metric over all its labels.
func (w *world) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.AdminURL()+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("ask for metrics: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask for metrics: %w", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(body)) {
		full, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, _, _ := strings.Cut(full, "{"); n != name {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

// signalFrames is how long both sides speak: a second.
const signalFrames = 50

// sound writes a test signal and returns it with its file.
func sound(t *testing.T, seed byte) (file string, ulaw []byte) {
	t.Helper()
	ulaw = stage.Signal(signalFrames, seed)
	file = filepath.Join(t.TempDir(), fmt.Sprintf("signal-%d.wav", seed))
	if err := stage.WriteWAV(file, ulaw); err != nil {
		t.Fatal(err)
	}
	return file, ulaw
}

// rewrite replaces the gateway's configuration file.
func (w *world) rewrite(t *testing.T, s settings) {
	t.Helper()
	if err := os.WriteFile(w.file, []byte(s.yaml()), 0o600); err != nil {
		t.Fatal(err)
	}
}
