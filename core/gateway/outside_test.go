package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/gateway"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outside builds the fixture module's two plugins, once: they live outside of
// this module, as an integrator's do.
var outside = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "outside")
	if err != nil {
		return "", err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS("testdata/outside")); err != nil {
		return "", err
	}
	mod := filepath.Join(dir, "src", "go.mod")
	text, err := os.ReadFile(mod)
	if err != nil {
		return "", err
	}
	text = bytes.Replace(text, []byte("=> ../../../.."), []byte("=> "+root), 1)
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(mod, text, 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "go.sum"), sum, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-mod=mod", "-o", dir+"/bin/", "./...")
	cmd.Dir = filepath.Join(dir, "src")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fixture: %w\n%s", err, out)
	}
	return dir, nil
})

type node struct {
	*gateway.Gateway
	records string
	log     *syncBuffer
	done    chan struct{}
	file    string
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const yaml = `
node: {name: test}
admin: {listen: "127.0.0.1:0"}
limits: {max_calls: 5, silence_timeout: 30s, drain_timeout: 5s}
records: {path: %q}
plugin_dir: %q
plugins:
  dialer: {config: {listen: %q}}
  echo: {}
apps:
  - {name: local, auth: peer, bots: ["*"], accounts: ["*"], numbers: ["+1734*"]}
routes:
  - from: dialer
    to: echo
    outcomes: [{when: {header: {name: x-queue-name}}, result: escalate, target: "{{.header}}"}]
    default_target: desk
    default_result: ok
`

func start(t *testing.T) *node {
	t.Helper()
	n, err := tryStart(t, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.done = make(chan struct{})
	hurry, now := context.WithCancel(context.Background())
	go func() { defer close(n.done); n.Run(hurry) }()
	t.Cleanup(func() { n.BeginDrain(); now(); <-n.done })
	return n
}

func tryStart(t *testing.T, listen string) (*node, error) {
	t.Helper()
	dir, err := outside()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{records: filepath.Join(t.TempDir(), "records.jsonl"), log: &syncBuffer{}}
	n.file = filepath.Join(t.TempDir(), "patchbay.yaml")
	if err := os.WriteFile(n.file, fmt.Appendf(nil, yaml, n.records, dir+"/bin", listen), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() (*config.Config, error) { return config.Load(n.file, config.Options{Environ: []string{}}) }
	cfg, err := read()
	if err != nil {
		t.Fatal(err)
	}
	n.Gateway, err = gateway.Start(t.Context(), gateway.Options{
		Config: cfg, Reread: read, Level: new(slog.LevelVar), Log: slog.New(slog.NewJSONHandler(n.log, nil)),
	})
	return n, err
}

func (n *node) address(t *testing.T) string {
	t.Helper()
	for _, p := range n.Plugins() {
		for _, a := range p.Addresses {
			return a.Address
		}
	}
	t.Fatal("no plugin listens")
	return ""
}

type caller struct {
	net.Conn
	in *bufio.Reader
}

func (n *node) dial(t *testing.T, number string) *caller {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.address(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c, number)
	return &caller{c, bufio.NewReader(c)}
}

func (c *caller) line(t *testing.T) string {
	t.Helper()
	s, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatalf("read: %v (got %q)", err, s)
	}
	return strings.TrimSpace(s)
}

func (c *caller) say(t *testing.T, b byte) {
	t.Helper()
	if _, err := c.Write(bytes.Repeat([]byte{b}, 160)); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 160)
	if _, err := io.ReadFull(c.in, back); err != nil {
		t.Fatal(err)
	}
	if back[0] != b || back[159] != b {
		t.Fatalf("said %#x, heard % x", b, back[:4])
	}
}

// last waits for the n-th call record.
func (n *node) last(t *testing.T, count int) records.Record {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(n.records)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) < count || lines[0] == "" {
			continue
		}
		var r records.Record
		if err := json.Unmarshal([]byte(lines[count-1]), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Fatalf("record %d does not come; log:\n%s", count, n.log)
	return records.Record{}
}

func TestOutsidePluginsCarryACall(t *testing.T) {
	n := start(t)
	c := n.dial(t, "+17341234")
	if got := c.line(t); got != "answered" {
		t.Fatal(got)
	}
	for i := range 50 {
		c.say(t, byte(i+2))
	}
	if _, err := c.Write(append([]byte{1, '9'}, make([]byte, 158)...)); err != nil {
		t.Fatal(err)
	}
	if got := c.line(t); got != "finish escalate agents" {
		t.Fatal(got)
	}
	r := n.last(t, 1)
	if r.Who != "bot" || r.Reason != "hangup" || r.Result != "escalate" || r.Target != "agents" || r.Answered == nil {
		t.Errorf("record %+v", r)
	}
	if r.ToEgress.Frames != 50 || r.ToIngress.Frames != 50 {
		t.Errorf("frames %d and %d, want 50 each", r.ToEgress.Frames, r.ToIngress.Frames)
	}
}

func TestCallEnds(t *testing.T) {
	n := start(t)
	for i, tc := range []struct {
		number, says        string
		who, reason, result string
	}{
		{"+17340000", "finish error", "bot", "failed", "error"},
		{"+17340666", "finish error", "plugin", "failed", "error"},
	} {
		if got := n.dial(t, tc.number).line(t); got != tc.says {
			t.Errorf("%s: %q, want %q", tc.number, got, tc.says)
		}
		if r := n.last(t, i+1); r.Who != tc.who || r.Reason != tc.reason || r.Result != tc.result {
			t.Errorf("%s: record %s %s %s", tc.number, r.Who, r.Reason, r.Result)
		}
	}
	c := n.dial(t, "+17341111")
	c.line(t)
	c.Close()
	if r := n.last(t, 3); r.Who != "caller" || r.Result != "none" {
		t.Errorf("caller's hang-up: record %s %s", r.Who, r.Result)
	}
	c = n.dial(t, "+17341111")
	c.line(t)
	if !n.HangupCall(n.Calls()[0].ID) {
		t.Error("no such call")
	}
	if got := c.line(t); got != "finish error" {
		t.Errorf("operator's hang-up: %q", got)
	}
	if r := n.last(t, 4); r.Who != "gateway" {
		t.Errorf("operator's hang-up: record %s", r.Who)
	}
	for number, want := range map[string]string{"+491": "refused forbidden", "x": "refused malformed"} {
		if got := n.dial(t, number).line(t); got != want {
			t.Errorf("%s: %q, want %q", number, got, want)
		}
	}
}

func TestPluginDies(t *testing.T) {
	n := start(t)
	c := n.dial(t, "+17341111")
	c.line(t)
	n.kill(t, "echo")
	if got := c.line(t); got != "finish error" {
		t.Errorf("after the egress plugin's death: %q", got)
	}
	if r := n.last(t, 1); r.Who != "plugin" || r.Reason != "lost" {
		t.Errorf("record %s %s", r.Who, r.Reason)
	}
	n.takesCallsAgain(t, "echo")
}

func TestIngressPluginDies(t *testing.T) {
	n := start(t)
	c := n.dial(t, "+17341111")
	c.line(t)
	n.kill(t, "dialer")
	if r := n.last(t, 1); r.Who != "plugin" || r.Reason != "lost" || r.Result != "none" {
		t.Errorf("record %s %s %s", r.Who, r.Reason, r.Result)
	}
	if left := n.Calls(); len(left) != 0 { // the record is written when the egress leg has ended too
		t.Errorf("%d calls left", len(left))
	}
	n.takesCallsAgain(t, "dialer")
}

// status is the plugin's as the operator sees it.
func (n *node) status(t *testing.T, instance string) host.Status {
	t.Helper()
	for _, p := range n.Plugins() {
		if p.Instance == instance {
			return p
		}
	}
	t.Fatalf("no plugin is named %s", instance)
	return host.Status{}
}

// kill ends a plugin's process without a word.
func (n *node) kill(t *testing.T, instance string) {
	t.Helper()
	p, err := os.FindProcess(n.status(t, instance).PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// takesCallsAgain waits for the plugin's next life and places a call.
func (n *node) takesCallsAgain(t *testing.T, instance string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(n.NotReady()) > 0 || n.status(t, instance).Restarts == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready again: %v", n.NotReady())
		}
	}
	if got := n.dial(t, "+17341111").line(t); got != "answered" {
		t.Errorf("call after the restart: %q", got)
	}
}

func TestDrainLetsCallsEnd(t *testing.T) {
	n := start(t)
	c := n.dial(t, "+17341111")
	c.line(t)
	n.BeginDrain()
	if got := n.dial(t, "+17341111").line(t); got != "refused draining" {
		t.Errorf("new call while draining: %q", got)
	}
	c.say(t, 7)
	c.Close()
	select {
	case <-n.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("does not end with the last call\n%s", n.log)
	}
}

func TestPluginRefusesItsBlock(t *testing.T) {
	_, err := tryStart(t, "bad")
	if err == nil || !strings.Contains(err.Error(), "patchbay.yaml:8:") || !strings.Contains(err.Error(), "is bad") {
		t.Errorf("error %v, want the place in the file and the plugin's words", err)
	}
}

func TestReload(t *testing.T) {
	n := start(t)
	text, err := os.ReadFile(n.file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(old, with string) {
		t.Helper()
		if err := os.WriteFile(n.file, bytes.ReplaceAll(text, []byte(old), []byte(with)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := n.dial(t, "+17341111")
	c.line(t)
	write("default_result: ok", "default_result: perhaps")
	if _, err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "default_result") {
		t.Errorf("bad file: %v", err)
	}
	write("+1734*", "+4930*")
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.dial(t, "+17341111").line(t); got != "refused forbidden" {
		t.Errorf("after the reload: %q", got)
	}
	c.say(t, 9)
}

func TestAdminEndpoint(t *testing.T) {
	n := start(t)
	base := "http://" + n.AdminAddr()
	get := func(path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	c := n.dial(t, "+17341111")
	c.line(t)
	for path, want := range map[string]string{
		"/healthz": `"ok"`, "/readyz": `"ready"`, "/api/v1/plugins": `"state": "running"`,
		"/api/v1/calls": `"state": "answered"`,
		"/metrics":      `patchbay_plugin_legs{plugin="echo"} 1`,
	} {
		status, body := get(path)
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %s in\n%s", path, status, want, body)
		}
	}
	if status, _ := get("/api/v1/calls/none"); status != http.StatusNotFound {
		t.Errorf("unknown call: %d", status)
	}
}
