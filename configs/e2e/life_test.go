package e2e

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// hangupAll ends every call as an operator does.
func (w *world) hangupAll(t *testing.T) {
	t.Helper()
	ctx := within(t)
	var answer struct {
		Calls []struct {
			ID string `json:"id"`
		} `json:"calls"`
	}
	if err := w.Get(ctx, "/api/v1/calls", &answer); err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.Calls {
		if err := w.Delete(ctx, "/api/v1/calls/"+c.ID); err != nil {
			t.Error(err)
		}
	}
}

// SIGTERM: not ready, no new calls, the running one goes on to its own end, and then exit code 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	said, _ := sound(t, 4)
	b := bot(t, "--play", said, "--hangup-on-dtmf", endKey)
	w := start(t, settings{trunks: []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}})
	u := w.url(t, 0)
	c := dial(t, u, "--dtmf", "6s:"+endKey)
	w.talking(t)
	if err := w.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	var status *harness.StatusError
	err := stage.Poll(ctx, func() (bool, error) {
		err := w.Get(ctx, "/readyz", nil)
		return errors.As(err, &status) && status.Code == http.StatusServiceUnavailable, err
	})
	if err != nil {
		t.Errorf("readiness while draining: %v", err)
	}
	expectRefusal(t, u, "refused 503")
	w.talking(t)
	if r := report(t, c); r.Outcome != "ok" {
		t.Errorf("the call that was on: %q, want ok", r.Outcome)
	}
	if err := w.Wait(ctx); err != nil {
		t.Errorf("the gateway's end: %v", err)
	}
	if told := account(t, b); len(told.Calls) != 1 || told.Calls[0].Ended != "bot-bye" {
		t.Errorf("the bot saw %+v", told.Calls)
	}
}

// SIGHUP: a bad file changes nothing and is explained; a good one holds for new calls, and running calls go on.
func TestReload(t *testing.T) {
	t.Parallel()
	b := bot(t, "--hangup-on-dtmf", endKey)
	s := settings{numbers: number(0), trunks: []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}}
	s.settle(t) // every file has the same ports
	w := start(t, s)
	c := dial(t, w.url(t, 0), "--dtmf", "4s:"+endKey)
	w.talking(t)

	good := s
	good.numbers = "+1734555*"
	bad := good
	bad.maxCalls = -1
	w.rewrite(t, bad)
	expectLog(t, w, "reload refused")
	w.rewrite(t, good)
	other := w.urlOf(t, "+17345559999")
	w.rewrite(t, s)
	expectRefusal(t, other, "refused 403")
	w.rewrite(t, good)
	expectLog(t, w, "configuration reloaded")
	expectRefusal(t, other, "refused 404") // the number is allowed now, and no route leads there

	if r := report(t, c); r.Outcome != "ok" {
		t.Errorf("the call that was on: %q, want ok", r.Outcome)
	}
}

// expectLog sends SIGHUP and waits for what the gateway says.
func expectLog(t *testing.T, w *world, message string) {
	t.Helper()
	if err := w.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Log(within(t), func(l harness.LogLine) bool { return l.Text("msg") == message }); err != nil {
		t.Fatal(err)
	}
}

// kill -9 of core: within three seconds no process is left, the bot has its BYE and the platform its stop.
func TestKilled(t *testing.T) {
	b := bot(t)
	w := start(t, settings{unconfirmed: true, trunks: []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}})
	c := dial(t, w.url(t, 0))
	w.talking(t)
	if err := w.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := stage.Gone(within(t), w.pids...); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(killed); took > 3*time.Second {
		t.Errorf("the plugins lived on for %v, want 3 s at most", took)
	}
	if r := report(t, c); r.Outcome != "error" {
		t.Errorf("the platform was told %q, want error", r.Outcome)
	}
	told := account(t, b)
	if len(told.Calls) != 1 || told.Calls[0].Ended != "caller-bye" || told.Calls[0].Byes != 1 {
		t.Errorf("the bot saw %+v", told.Calls)
	}
}

// A thousand streams that are opened and given up before their start message leave nothing in use, and no call.
func TestAbandonedHandshakes(t *testing.T) {
	b := bot(t)
	w := start(t, settings{trunks: []trunk{{name: "bot", targets: []string{"sip:" + b.Address}}}})
	u := w.url(t, 0)
	ctx := within(t)
	const streams, atOnce = 1000, 20
	work := make(chan int)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range work {
				ws, resp, err := websocket.DefaultDialer.DialContext(ctx, u, nil)
				if err != nil {
					t.Errorf("open a stream: %v", err)
					continue
				}
				_ = resp.Body.Close() // nothing is in it
				if err := ws.NetConn().Close(); err != nil {
					t.Errorf("give a stream up: %v", err)
				}
			}
		})
	}
	for i := range streams {
		work <- i
	}
	close(work)
	all.Wait()
	for metric, want := range map[string]float64{"patchbay_seats_in_use": 0, "patchbay_calls": 0, "patchbay_calls_admitted_total": streams} {
		err := stage.Poll(ctx, func() (bool, error) {
			n, err := w.metric(ctx, metric)
			return err == nil && n == want, errors.Join(err, errors.New(metric+" is "+strconv.FormatFloat(n, 'f', -1, 64)))
		})
		if err != nil {
			t.Error(err)
		}
	}
	if told := account(t, b); len(told.Calls) != 0 {
		t.Errorf("the bot got %d calls", len(told.Calls))
	}
}
