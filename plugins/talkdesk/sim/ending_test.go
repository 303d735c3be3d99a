package sim

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// ending is what a report says about how a call ended.
type ending struct {
	Outcome string
	By      Side
	Code    int
	Failed  bool
}

func endingOf(r *Report) ending { return ending{r.Outcome, r.EndedBy, r.CloseCode, r.Failed()} }

func closeWith(code int) func(*gateway) {
	return func(g *gateway) {
		time.Sleep(300 * time.Millisecond)
		if err := g.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "bye"), time.Now().Add(time.Second)); err != nil {
			g.t.Errorf("close: %v", err)
		}
	}
}

func TestGatewayEndsTheCall(t *testing.T) {
	stop := func(result string) func(*gateway) {
		return func(g *gateway) {
			time.Sleep(time.Second)
			g.stop(result)
		}
	}
	tests := map[string]struct {
		opt    Options
		script func(*gateway)
		want   ending
	}{
		"ok":              {Options{}, stop(`"command":"ok"`), ending{"ok", SideGateway, 1000, false}},
		"null ring group": {Options{}, stop(`"command":"ok","ringGroup":null`), ending{"ok", SideGateway, 1000, false}},
		"error":           {Options{}, stop(`"command":"error"`), ending{"error", SideGateway, 1000, false}},
		"escalate":        {Options{}, stop(`"command":"escalate","ringGroup":"vip::2"`), ending{"escalate → vip::2", SideGateway, 1000, false}},
		"own words": {
			Options{Commands: Commands{Escalate: "handover"}},
			stop(`"command":"handover","ringGroup":"a"`),
			ending{"escalate → a", SideGateway, 1000, false},
		},
		"platform stops too": {Options{AfterStop: AfterStopEcho}, stop(`"command":"ok"`), ending{"ok", SideGateway, 1000, false}},
		"gateway closes": {Options{AfterStop: AfterStopWait}, func(g *gateway) {
			g.stop(resultOK)
			closeWith(1000)(g)
		}, ending{"ok", SideGateway, 1000, false}},
		"gateway never closes": {Options{AfterStop: AfterStopWait, CloseWait: time.Second}, stop(`"command":"ok"`), ending{"ok", SideGateway, 0, false}},
		"reset after the stop": {Options{}, func(g *gateway) {
			g.stop(resultOK)
			_ = g.conn.Close()
		}, ending{"ok", SideGateway, 1006, false}},
		"closed without stop": {Options{}, closeWith(1008), ending{"closed", SideGateway, 1008, true}},
		"cut":                 {Options{}, func(g *gateway) { _ = g.conn.Close() }, ending{"dropped", SideGateway, 1006, true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g gateway
				r, err := call(t, tt.opt, serve(t, &g, tt.script))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, endingOf(&r)); diff != "" {
					t.Errorf("ending (-want +got):\n%s", diff)
				}
				if len(r.Violations) > 0 || r.UpgradeStatus != http.StatusSwitchingProtocols {
					t.Errorf("upgrade %d, violations %v", r.UpgradeStatus, r.Violations)
				}
				stops := len(g.events("stop"))
				if want := tt.opt.AfterStop == AfterStopEcho; want != (stops == 1) {
					t.Errorf("the platform sent %d stops", stops)
				}
			})
		})
	}
}

func TestCallerEndsTheCall(t *testing.T) {
	tests := map[string]struct {
		opt       Options
		want      ending
		wantStops int
		wantCode  int // of the close frame that the gateway reads
	}{
		"stop and close": {Options{HangupAfter: time.Second}, ending{"hangup", SideCaller, 1000, false}, 1, 1000},
		"close":          {Options{HangupAfter: time.Second, Hangup: HangupClose}, ending{"hangup", SideCaller, 1000, false}, 0, 1000},
		"stop, and nobody closes": {
			Options{HangupAfter: time.Second, Hangup: HangupStop, CloseWait: time.Second},
			ending{"hangup", SideCaller, 0, false},
			1, 1006,
		},
		"drop":    {Options{DropAfter: time.Second}, ending{"dropped", SideCaller, 0, false}, 0, 1006},
		"timeout": {Options{Timeout: time.Second}, ending{"timeout", SideCaller, 1000, true}, 1, 1000},
		"scripted close": {
			Options{Script: []Step{{At: time.Second, Do: Close(websocket.CloseGoingAway)}}},
			ending{"hangup", SideCaller, 1001, false},
			0, 1001,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g gateway
				r, err := call(t, tt.opt, serve(t, &g, nil))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, endingOf(&r)); diff != "" {
					t.Errorf("ending (-want +got):\n%s", diff)
				}
				stops := g.events("stop")
				if len(stops) != tt.wantStops {
					t.Errorf("%d stops", len(stops))
				}
				for _, s := range stops {
					if s.at != time.Second || s.field("stop", "callSid") == "" || s.field("stop", "accountSid") != defaultAccount {
						t.Errorf("stop at %v: %s", s.at, s.raw)
					}
				}
				if len(g.events("media")) < 50 {
					t.Errorf("only %d frames before the end", len(g.events("media")))
				}
				if !websocket.IsCloseError(g.ended, tt.wantCode) && tt.wantCode != websocket.CloseAbnormalClosure {
					t.Errorf("the gateway read %v, want code %d", g.ended, tt.wantCode)
				}
			})
		})
	}
}

func TestEndOfContextHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		time.AfterFunc(time.Second, func() { cancel(cause) })
		var g gateway
		p := newPipe(t, serve(t, &g, nil))
		r, err := Run(ctx, Options{URL: testURL, Dial: p.dial})
		p.shutDown()
		if !errors.Is(err, cause) {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff(ending{"hangup", SideCaller, 1000, false}, endingOf(&r)); diff != "" || len(g.events("stop")) != 1 {
			t.Errorf("%d stops, ending (-want +got):\n%s", len(g.events("stop")), diff)
		}
	})
}

func TestRefusedUpgrade(t *testing.T) {
	tests := map[string]struct {
		handler    http.HandlerFunc
		outcome    string
		status     int
		retryAfter string
		refusal    string
	}{
		"401": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no token\x1b", http.StatusUnauthorized)
		}, "refused 401", 401, "", "no token\x1b"},
		"503": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			http.Error(w, strings.Repeat("x", 5000), http.StatusServiceUnavailable)
		}, "refused 503", 503, "7", strings.Repeat("x", 1024)},
		"a redirect is not followed": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
		}, "refused 301", 301, "", "<a href=\"/elsewhere\">Moved Permanently</a>."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := call(t, Options{}, tt.handler)
				if err != nil {
					t.Fatal(err)
				}
				if r.Outcome != tt.outcome || r.UpgradeStatus != tt.status || r.RetryAfter != tt.retryAfter || r.Refusal != tt.refusal {
					t.Errorf("%q, status %d, retry after %q, %q", r.Outcome, r.UpgradeStatus, r.RetryAfter, r.Refusal)
				}
				if !r.Failed() || r.EndedBy != SideGateway || r.FramesSent != 0 {
					t.Errorf("failed %v, ended by %q, %d frames", r.Failed(), r.EndedBy, r.FramesSent)
				}
				var table strings.Builder
				if err := r.WriteTable(&table); err != nil || strings.ContainsRune(table.String(), '\x1b') {
					t.Errorf("table %q, %v", table.String(), err)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	// The second has a host name that the resolver refuses without asking anyone; the third is stopped by the URL parser inside the dialer.
	for _, url := range []string{"ws://127.0.0.1:1/?token=hidden", "ws://a..b/?token=hidden", "ws://h/%zz?token=hidden", "http://h/?token=hidden", "ws:///?token=hidden"} {
		r, err := Run(t.Context(), Options{URL: url})
		if err == nil {
			t.Errorf("%s: no error", url)
			continue
		}
		if bad := errors.Is(err, ErrOptions); bad == (r.Outcome == OutcomeUnreachable) {
			t.Errorf("%s: outcome %q and %v", url, r.Outcome, err)
		}
		if strings.Contains(err.Error()+r.Target, "hidden") {
			t.Errorf("the token shows: %v, %s", err, r.Target)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"ptime":          {Ptime: 500 * time.Microsecond},
		"jitter":         {Jitter: -1},
		"hangup":         {HangupAfter: -1},
		"loop":           {Loop: true},
		"digit":          {DTMF: []Keys{{Digits: "1x"}}},
		"no digit":       {DTMF: []Keys{{}}},
		"stall":          {Stalls: []Stall{{At: 1}}},
		"fragment":       {Faults: Faults{FragmentSize: -1}},
		"receive buffer": {Faults: Faults{ReceiveBuffer: -1}},
	} {
		o.URL = "ws://127.0.0.1:1/"
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
