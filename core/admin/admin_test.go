package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is a Gateway that notes what it is told.
type gateway struct {
	notReady []string
	reload   error
	told     []string
}

func (g *gateway) NotReady() []string   { return g.notReady }
func (g *gateway) Calls() []router.Info { return []router.Info{{ID: "call-1", State: router.Answered}} }

func (g *gateway) Call(id string) (router.Info, bool) {
	return router.Info{ID: id}, id == "call-1"
}

func (g *gateway) HangupCall(id string) bool {
	g.told = append(g.told, "hangup "+id)
	return id == "call-1"
}

func (g *gateway) Plugins() []host.Status {
	return []host.Status{{Instance: "echo", State: host.Running}}
}
func (g *gateway) BeginDrain() { g.told = append(g.told, "drain") }

func (g *gateway) Reload(context.Context) ([]string, error) {
	g.told = append(g.told, "reload")
	return nil, g.reload
}

const token = "a-token-of-16-chars"

func handler(g *gateway, token string) http.Handler {
	return Handler(Options{
		Gateway: g, Token: token, Hosts: []string{"gw.example.com", ""}, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
}

// request sends one request; each header is "Name: value".
func request(t *testing.T, h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}"))
	r.Host = "127.0.0.1:8080"
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	bearer = "Authorization: Bearer " + token
	asJSON = "Content-Type: application/json; charset=utf-8"
)

func TestToken(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		headers      []string
		want         int
	}{
		{"GET", "/healthz", nil, 200},
		{"GET", "/readyz", nil, 200},
		{"GET", "/metrics", nil, 401},
		{"GET", "/api/v1/calls", nil, 401},
		{"GET", "/api/v1/calls/call-1", nil, 401},
		{"DELETE", "/api/v1/calls/call-1", nil, 401},
		{"GET", "/api/v1/plugins", nil, 401},
		{"POST", "/api/v1/drain", []string{asJSON}, 401},
		{"POST", "/api/v1/reload", []string{asJSON}, 401},
		{"GET", "/no/such/path", nil, 401},
		{"GET", "/api/v1/calls", []string{"Authorization: Bearer " + token + "x"}, 401},
		{"GET", "/api/v1/calls", []string{"Authorization: Bearer "}, 401},
		{"GET", "/api/v1/calls", []string{"Authorization: " + token}, 401},
		{"GET", "/api/v1/calls?token=" + token, nil, 401},
		{"GET", "/metrics", []string{bearer}, 200},
		{"GET", "/api/v1/calls", []string{bearer}, 200},
		{"GET", "/no/such/path", []string{bearer}, 404},
	} {
		g := &gateway{}
		w := request(t, handler(g, token), tc.method, tc.path, tc.headers...)
		if w.Code != tc.want {
			t.Errorf("%s %s %v: %d, want %d", tc.method, tc.path, tc.headers, w.Code, tc.want)
		}
		if w.Code == 401 && (w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), token)) {
			t.Errorf("%s %s: header %v, body %s", tc.method, tc.path, w.Header(), w.Body)
		}
		if len(g.told) > 0 {
			t.Errorf("%s %s: the gateway was told to %v", tc.method, tc.path, g.told)
		}
	}
	if w := request(t, handler(&gateway{}, ""), "GET", "/api/v1/calls"); w.Code != 200 {
		t.Errorf("no token set: %d", w.Code)
	}
}

// No page of a foreign site, and no name that was bent to our address.
func TestHostAndOrigin(t *testing.T) {
	for _, tc := range []struct {
		headers []string
		want    int
	}{
		{[]string{"Host: localhost:8080"}, 200},
		{[]string{"Host: LOCALHOST"}, 200},
		{[]string{"Host: [::1]:8080"}, 200},
		{[]string{"Host: [::1]"}, 200},
		{[]string{"Host: 192.0.2.1"}, 200},
		{[]string{"Host: GW.example.com:443"}, 200},
		{[]string{"Host: evil.example.net:8080"}, 421},
		{[]string{"Host: gw.example.com.evil.net"}, 421},
		{[]string{"Host: "}, 421},
		{[]string{"Origin: http://127.0.0.1:8080"}, 200},
		{[]string{"Host: gw.example.com", "Origin: https://gw.example.com"}, 200},
		{[]string{"Origin: http://127.0.0.1:9999"}, 403},
		{[]string{"Origin: https://evil.example.net"}, 403},
		{[]string{"Origin: null"}, 403},
		{[]string{"Origin: http://%zz"}, 403},
	} {
		for _, path := range []string{"/healthz", "/api/v1/calls"} {
			if w := request(t, handler(&gateway{}, token), "GET", path, append(tc.headers, bearer)...); w.Code != tc.want {
				t.Errorf("%s %v: %d, want %d", path, tc.headers, w.Code, tc.want)
			}
		}
	}
}

// A form is all that a foreign page can post unasked.
func TestPostNeedsJSON(t *testing.T) {
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", "application/json;;"} {
		g := &gateway{}
		if w := request(t, handler(g, ""), "POST", "/api/v1/drain", "Content-Type: "+kind); w.Code != 415 || len(g.told) > 0 {
			t.Errorf("%q: %d, told %v", kind, w.Code, g.told)
		}
	}
}

func TestAPI(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		gateway      gateway
		want         int
		body         string
		told         string
	}{
		{"GET", "/healthz", gateway{}, 200, `{"status":"ok"}`, ""},
		{"GET", "/readyz", gateway{}, 200, `{"status":"ready"}`, ""},
		{"GET", "/readyz", gateway{notReady: []string{"draining"}}, 503, `{"reasons":["draining"],"status":"not ready"}`, ""},
		{"GET", "/api/v1/calls/none", gateway{}, 404, `{"error":"no running call has this id"}`, ""},
		{"DELETE", "/api/v1/calls/call-1", gateway{}, 202, `{"status":"hanging up"}`, "hangup call-1"},
		{"DELETE", "/api/v1/calls/none", gateway{}, 404, `{"error":"no running call has this id"}`, "hangup none"},
		{"POST", "/api/v1/drain", gateway{}, 202, `{"status":"draining"}`, "drain"},
		{"POST", "/api/v1/reload", gateway{}, 200, `{"needs_restart":[],"status":"reloaded"}`, "reload"},
		{"POST", "/api/v1/reload", gateway{reload: errors.New("file:1:2: key: bad")}, 422, `{"error":"file:1:2: key: bad"}`, "reload"},
		{"GET", "/api/v1/drain", gateway{}, 405, "", ""},
	} {
		g := tc.gateway
		w := request(t, handler(&g, ""), tc.method, tc.path, asJSON)
		if w.Code != tc.want || strings.Join(g.told, ",") != tc.told {
			t.Errorf("%s %s: %d, want %d; told %v", tc.method, tc.path, w.Code, tc.want, g.told)
		}
		if tc.body == "" {
			continue
		}
		var got any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s %s: %v", tc.method, tc.path, err)
		}
		if compact, _ := json.Marshal(got); string(compact) != tc.body {
			t.Errorf("%s %s: %s, want %s", tc.method, tc.path, compact, tc.body)
		}
		if h := w.Header(); h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: header %v", tc.method, tc.path, h)
		}
	}
	w := request(t, handler(&gateway{}, ""), "GET", "/api/v1/plugins")
	var list struct{ Plugins []host.Status }
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Plugins) != 1 || list.Plugins[0].Instance != "echo" {
		t.Errorf("plugins %s, %v", w.Body, err)
	}
}

func TestServe(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, handler(&gateway{}, ""), "", "") }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 {
		t.Errorf("%d %s, %v", res.StatusCode, body, err)
	}
	_ = res.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve ended with %v", err)
	}
	if err := Serve(t.Context(), l, handler(&gateway{}, ""), "no.pem", "no.pem"); err == nil {
		t.Error("served without its certificate")
	}
}
