package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// playVariable makes this test's own program play one of the programs under test.
const playVariable = "HARNESS_TEST_PLAY"

func TestMain(m *testing.M) {
	if role := os.Getenv(playVariable); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// play is a gateway as far as the harness sees one.
func play(role string) int {
	if len(os.Args) > 1 && os.Args[1] == "sim" {
		fmt.Printf("{\"args\":%q}\n", strings.Join(os.Args[2:], " "))
		return 0
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	switch {
	case role == "refusing":
		log.Error("configuration is bad", "key", "node.name")
		return 1
	case len(os.Args) < 4 || os.Args[1] != "run" || os.Args[2] != "--config":
		fmt.Fprintln(os.Stderr, "used wrongly:", os.Args[1:])
		return 2
	}
	config, err := os.ReadFile(os.Args[3])
	if err != nil {
		log.Error("read configuration", "error", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		log.Error("listen", "error", err)
		return 1
	}
	s := &http.Server{Handler: admin(string(config)), ReadHeaderTimeout: time.Second}
	go s.Serve(l) //nolint:errcheck // ends with the process
	fmt.Fprintln(os.Stderr, "not a line of JSON")
	log.Info("plugin listens", "address", "127.0.0.1:1")
	log.Info("gateway is up", "admin", l.Addr().String())
	<-ctx.Done()
	if role == "stubborn" {
		select {}
	}
	log.Info("drained")
	return 0
}

func admin(config string) http.Handler {
	mux := http.NewServeMux()
	var asked atomic.Int32
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /api/v1/plugins", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"plugins":[{"instance":"one","pid":7,"addresses":[{"purpose":"ws","address":"127.0.0.1:99"}]}]}`)
	})
	mux.HandleFunc("GET /api/v1/config", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]string{config, os.Getenv("PATCHBAY_PLUGIN_DIR"), os.Getenv("EXTRA")})
	})
	mux.HandleFunc("POST /api/v1/drain", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
	})
	return mux
}

// programs is a folder in which every program is this test.
func programs(t *testing.T, role string) *Binaries {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "plugins"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"patchbay", "plugins/one"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(playVariable, role)
	t.Setenv(BinVariable, dir)
	b, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestGateway(t *testing.T) {
	b, ctx, dir := programs(t, "gateway"), soon(t), t.TempDir()
	g, err := StartGateway(ctx, ctx, b, "node: {name: x}\n", Options{Dir: dir, Token: "secret", Env: []string{"EXTRA=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := g.Address(ctx, "one", "ws"); err != nil || a != "127.0.0.1:99" {
		t.Errorf("address %q, %v", a, err)
	}
	if _, err := g.Address(ctx, "one", "rtp"); err == nil || !strings.Contains(err.Error(), "one ws") {
		t.Errorf("unknown purpose: %v", err)
	}
	var seen []string
	if err := g.Get(ctx, "/api/v1/config", &seen); err != nil {
		t.Fatal(err)
	}
	if want := []string{"node: {name: x}\n", b.PluginDir(), "1"}; fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("the gateway saw %q, want %q", seen, want)
	}
	if err := g.Post(ctx, "/api/v1/drain"); err != nil {
		t.Error(err)
	}
	if status, ok := errors.AsType[*StatusError](g.Delete(ctx, "/api/v1/calls/1")); !ok || status.Code != http.StatusNotFound {
		t.Errorf("delete: %v", status)
	}
	if err := g.Drain(ctx); err != nil {
		t.Error(err)
	}
	if _, err := g.Log(ctx, func(l LogLine) bool { return l.Text("msg") == "drained" }); err != nil {
		t.Error(err)
	}
	if _, err := g.Log(ctx, func(LogLine) bool { return false }); !errors.Is(err, errEnded) {
		t.Errorf("a line that never came: %v", err)
	}
}

func TestGatewayThatRefuses(t *testing.T) {
	b, ctx := programs(t, "refusing"), soon(t)
	_, err := StartGateway(ctx, ctx, b, "", Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "node.name") {
		t.Errorf("the error hides what the gateway said: %v", err)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	b, ctx := programs(t, "stubborn"), soon(t)
	g, err := StartGateway(ctx, ctx, b, "", Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := g.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
	select {
	case <-g.Done():
	default:
		t.Error("still running")
	}
}

func TestSimAndRun(t *testing.T) {
	b, ctx := programs(t, "gateway"), soon(t)
	sim, err := b.Sim(ctx, "one", "--play", "a.wav")
	if err != nil {
		t.Fatal(err)
	}
	line, err := sim.Line(ctx, func(string) bool { return true })
	if want := `{"args":"--play a.wav --json"}`; err != nil || line != want {
		t.Errorf("line %q, %v, want %q", line, err, want)
	}
	if err := sim.Wait(ctx); err != nil {
		t.Error(err)
	}
	_, err = b.Run(ctx, "fly")
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !strings.Contains(err.Error(), "used wrongly: [fly]") {
		t.Errorf("run: %v", err)
	}
}

func TestFindNamesTheVariable(t *testing.T) {
	t.Setenv(BinVariable, t.TempDir())
	if _, err := Find(t.Context()); err == nil || !strings.Contains(err.Error(), BinVariable) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("find: %v", err)
	}
}

func TestRecords(t *testing.T) {
	type record struct {
		N int `json:"n"`
	}
	ctx, dir := soon(t), t.TempDir()
	g := &Gateway{dir: dir}
	write := func(text string) {
		f, err := os.OpenFile(filepath.Join(dir, "records.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	}
	late := time.AfterFunc(3*pollEvery, func() { write("{\"n\":1}\n{\"n\":2}\n{\"n\"") })
	defer late.Stop()
	got, err := Records[record](ctx, g, "records.jsonl", 2)
	if err != nil || len(got) != 2 || got[1].N != 2 {
		t.Errorf("records %v, %v", got, err)
	}
	write(": true}\n")
	if _, err := Records[record](ctx, g, "records.jsonl", 3); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a broken record: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Records[record](over, g, "no.jsonl", 1); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "0 of 1") {
		t.Errorf("no record: %v", err)
	}
}
