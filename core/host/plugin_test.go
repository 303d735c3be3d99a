package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/wire"
)

const patience = 20 * time.Second

func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// desk is a Handler that notes what it is told.
type desk struct {
	up, down chan *Conn
	says     chan *pluginv1.PluginMessage
}

func newDesk() *desk {
	return &desk{make(chan *Conn, 20), make(chan *Conn, 20), make(chan *pluginv1.PluginMessage, 100)}
}

func (d *desk) PluginUp(c *Conn)                              { d.up <- c }
func (d *desk) PluginDown(c *Conn)                            { d.down <- c }
func (d *desk) PluginSays(_ *Conn, m *pluginv1.PluginMessage) { d.says <- m }

// logs is a log that tests read while others write.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func spec(t *testing.T, config string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Instance: "fix", Command: []string{exe}, Env: map[string]string{"PATCHBAY_TEST_PLUGIN": "1"},
		AutoMTLS: true, Config: []byte(config), Node: "n", Version: "test",
	}
}

func start(t *testing.T, s Spec) (*Plugin, *desk, *logs) {
	t.Helper()
	d, l := newDesk(), &logs{}
	p, err := Start(t.Context(), s, d, func() int64 { return time.Now().UnixNano() }, slog.New(slog.NewJSONHandler(l, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.Stop(ctx)
	})
	return p, d, l
}

func place(callID, number string, id wire.StreamID) *pluginv1.CoreMessage {
	return &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Place{Place: &pluginv1.Place{
		CallId: callID, Destination: number, Streams: []*pluginv1.Stream{sdk.PCMU8k().ToProto(uint32(id))},
	}}}
}

// TestPluginLife is one plugin's whole life in a process of its own: lines on
// stderr that go-plugin's reader dies of, a call with media, its polite end.
func TestPluginLife(t *testing.T) {
	p, d, l := start(t, spec(t, `{"stderr":["{\"@level\":\"info\",\"@message\":1}","{\"@level\":1,\"@message\":\"m\"}","{\"@timestamp\":2}","panic: not really"],"print":"printed"}`))
	c := await(t, d.up, "PluginUp")
	s := p.Status()
	if s.State != Running || s.PID == 0 || s.Name != "fixture" || s.Kind != "egress" || len(s.Addresses) != 1 || s.Media == nil {
		t.Errorf("status %+v", s)
	}
	if p.Kind() != pluginv1.Kind_KIND_EGRESS || p.Conn() != c {
		t.Error("kind or connection of another plugin")
	}
	echo := make(chan string, 1)
	id, err := c.Slots.Open(&Port{Forward: func(r *wire.Record, _ int64) {
		if !r.End() {
			echo <- string(r.Payload)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Tell(place("call-1", "+1734", id))
	if m := await(t, d.says, "answer"); m.GetAnswered().GetCallId() != "call-1" {
		t.Errorf("said %v", m)
	}
	c.Media(&wire.Record{Stream: id, Payload: []byte("hello")})
	if got := await(t, echo, "echo"); got != "hello" {
		t.Errorf("echo %q", got)
	}
	families, err := p.Metrics(t.Context())
	if err != nil || families[len(families)-1].GetName() != "fixture_up" {
		t.Errorf("metrics %v, %v", families, err)
	}
	if err := p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.Stop(ctx)
	if m := await(t, d.says, "end of the leg"); sdk.TerminationFromProto(m.GetEnded().GetTermination()).Reason != sdk.ReasonLost {
		t.Errorf("said %v", m)
	}
	if await(t, d.down, "PluginDown") != c || p.Status().State != Stopped || !c.Exited() {
		t.Errorf("after Stop: %+v", p.Status())
	}
	if _, err := p.Metrics(t.Context()); !errors.Is(err, ErrDown) {
		t.Errorf("metrics of a stopped plugin: %v", err)
	}
	for _, want := range []string{`"@message":1`, `"@timestamp":2`, "panic: not really", `"line":"printed"`} {
		if !strings.Contains(l.String(), want) {
			t.Errorf("the log misses %s:\n%s", want, l)
		}
	}
}

func TestPluginIsStartedAgain(t *testing.T) {
	p, d, _ := start(t, spec(t, `{}`))
	first := await(t, d.up, "PluginUp")
	first.Tell(place("call-1", "+1999", 1))
	if await(t, d.down, "PluginDown") != first {
		t.Error("another one is down")
	}
	second := await(t, d.up, "second life")
	if second.PID == first.PID || p.Status().Restarts != 1 {
		t.Errorf("status %+v", p.Status())
	}
	second.Tell(place("call-2", "+1734", 1))
	if m := await(t, d.says, "answer"); m.GetAnswered().GetCallId() != "call-2" {
		t.Errorf("said %v", m)
	}
}

// A plugin that dies five times in ten minutes is left alone.
func TestPluginDiesAgainAndAgain(t *testing.T) {
	p, d, l := start(t, spec(t, `{}`))
	for range crashLimit {
		c := await(t, d.up, "PluginUp")
		c.Tell(place("call", "+1999", 1))
		await(t, d.down, "PluginDown")
	}
	for deadline := time.Now().Add(patience); p.Status().State != Quarantined && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if s := p.Status(); s.State != Quarantined || s.LastError == "" || !strings.Contains(l.String(), "quarantined") {
		t.Errorf("status %+v", s)
	}
}

func TestReconfigure(t *testing.T) {
	p, d, _ := start(t, spec(t, `{}`))
	await(t, d.up, "PluginUp")
	_, err := p.Reconfigure(t.Context(), spec(t, `{"refuse":true}`))
	var problems *FieldProblems
	if !errors.As(err, &problems) || problems.Fields[0].Pointer != "/refuse" || !errors.Is(err, ErrConfig) {
		t.Errorf("bad configuration: %v", err)
	}
	if string(p.spec.Load().Config) != `{}` {
		t.Error("a refused configuration is kept for the next life")
	}
	if _, err = p.Reconfigure(t.Context(), spec(t, `{"stderr":[]}`)); err != nil || string(p.spec.Load().Config) != `{"stderr":[]}` {
		t.Errorf("good configuration: %v", err)
	}
}

func TestStartRefused(t *testing.T) {
	with := func(change func(*Spec)) Spec {
		s := spec(t, `{}`)
		change(&s)
		return s
	}
	for _, tc := range []struct {
		name string
		spec Spec
		want string
	}{
		{"no command", with(func(s *Spec) { s.Command = nil }), "no command"},
		{"no such file", with(func(s *Spec) { s.Command = []string{"/nonexistent/plugin"} }), "build it"},
		{"odd pin", with(func(s *Spec) { s.SHA256 = "abc" }), "64 hex digits"},
		{"wrong pin", with(func(s *Spec) { s.SHA256 = strings.Repeat("00", 32) }), "does not match its sha256"},
		{"refused block", with(func(s *Spec) { s.Config = []byte(`{"refuse":true}`) }), "/refuse: is true: write false"},
		{"schema", with(func(s *Spec) { s.Schema = func(string) error { return fmt.Errorf("%w: schema", ErrConfig) } }), "schema"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Start(t.Context(), tc.spec, newDesk(), func() int64 { return 0 }, slog.New(slog.DiscardHandler))
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if s := p.Status(); s.State != Stopped || s.LastError != err.Error() {
				t.Errorf("status %+v", s)
			}
			p.Stop(t.Context())
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("ADMIN_TOKEN", "of the host")
	s := spec(t, `{}`)
	s.LogLevel = slog.LevelWarn
	for _, kv := range environment(s, "/sockets") {
		name, value, _ := strings.Cut(kv, "=")
		want, known := map[string]string{
			"PATH": os.Getenv("PATH"), "PATCHBAY_TEST_PLUGIN": "1", "PATCHBAY_LOG_LEVEL": "WARN", "PLUGIN_UNIX_SOCKET_DIR": "/sockets",
		}[name]
		if !known || value != want {
			t.Errorf("the plugin sees %s", kv)
		}
	}
}

func TestBackOffAndQuarantine(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &Plugin{}
	for i, ms := range []int{50, 200, 800, 3200} {
		wait, quarantine := p.crashed(at.Add(time.Duration(i) * time.Second))
		most := time.Duration(ms) * time.Millisecond
		if quarantine || wait < most/2 || wait > most {
			t.Errorf("death %d: wait %v of at most %v, quarantine %v", i+1, wait, most, quarantine)
		}
	}
	// 10 minutes after the first death only three count.
	if wait, quarantine := p.crashed(at.Add(crashWindow)); quarantine || wait > 3200*time.Millisecond {
		t.Errorf("death in the next window: %v, %v", wait, quarantine)
	}
	if _, quarantine := p.crashed(at.Add(crashWindow)); !quarantine {
		t.Error("5 deaths in 10 minutes, and no quarantine")
	}
	if wait, quarantine := p.crashed(at.Add(time.Hour)); quarantine || wait > 50*time.Millisecond {
		t.Errorf("a death after an hour: %v, %v", wait, quarantine)
	}
}

// Records go to their ports; what has none, or is torn, is counted.
func TestRoute(t *testing.T) {
	c := &Conn{Slots: wire.NewSlots[Port](0), now: func() int64 { return 42 }}
	var got []string
	id, err := c.Slots.Open(&Port{Forward: func(r *wire.Record, now int64) { got = append(got, fmt.Sprintf("%s at %d", r.Payload, now)) }})
	if err != nil {
		t.Fatal(err)
	}
	var packed []byte
	for _, r := range []wire.Record{
		{Stream: id, Payload: []byte("a")},
		{Stream: id + 1, Payload: []byte("x")},
		{Stream: id + 1<<20, Payload: []byte("older")},
		{Stream: id, Payload: []byte("b")},
	} {
		packed = r.Append(packed)
	}
	var r wire.Record
	c.route(append(packed, 1, 2, 3), &r)
	if strings.Join(got, ", ") != "a at 42, b at 42" {
		t.Errorf("forwarded %v", got)
	}
	if n := &c.reads; n.records.Load() != 4 || n.unknown.Load() != 2 || n.truncated.Load() != 1 {
		t.Errorf("records %d, unknown %d, truncated %d", n.records.Load(), n.unknown.Load(), n.truncated.Load())
	}
	if n := testing.AllocsPerRun(100, func() { c.Slots.Lookup(id).Forward = func(*wire.Record, int64) {}; c.route(packed, &r) }); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}
