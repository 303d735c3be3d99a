// Package admin serves the operator's HTTP: health, metrics and the API.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/router"
)

// Gateway is what the API shows and steers.
type Gateway interface {
	// NotReady says why new calls should go elsewhere; empty when they need not.
	NotReady() []string
	Calls() []router.Info
	Call(id string) (router.Info, bool)
	// HangupCall ends a call; false: there is none of that id.
	HangupCall(id string) bool
	Plugins() []host.Status
	// BeginDrain stops taking calls; the process ends with the last one.
	BeginDrain()
	// Reload reads the configuration again and says what needs a restart.
	Reload(ctx context.Context) (needsRestart []string, err error)
}

// Options make a Server.
type Options struct {
	Gateway  Gateway
	Token    string // bearer; empty: open, on loopback only
	Hosts    []string
	Gatherer prometheus.Gatherer
	Log      *slog.Logger
}

// Handler serves the admin endpoint.
func Handler(o Options) http.Handler {
	a := &api{o}
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", a.health)
	open.HandleFunc("GET /readyz", a.ready)
	guarded := http.NewServeMux()
	guarded.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	guarded.HandleFunc("GET /api/v1/calls", a.calls)
	guarded.HandleFunc("GET /api/v1/calls/{id}", a.call)
	guarded.HandleFunc("DELETE /api/v1/calls/{id}", a.hangup)
	guarded.HandleFunc("GET /api/v1/plugins", a.plugins)
	guarded.HandleFunc("POST /api/v1/drain", a.drain)
	guarded.HandleFunc("POST /api/v1/reload", a.reload)
	open.Handle("/", a.authenticated(guarded))
	return a.sameOrigin(open)
}

type api struct{ Options }

// sameOrigin refuses names this server does not have (DNS rebinding) and
// requests of foreign pages.
func (a *api) sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.knownHost(r.Host) {
			problem(w, http.StatusMisdirectedRequest, "this server has no name like the Host header's: use its address")
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			u, err := url.Parse(o)
			if err != nil || !strings.EqualFold(u.Host, r.Host) {
				problem(w, http.StatusForbidden, "requests of other origins are refused")
				return
			}
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (a *api) knownHost(hostport string) bool {
	name := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil || strings.EqualFold(name, "localhost") {
		return true
	}
	for _, h := range a.Hosts {
		if h != "" && strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

// authenticated asks for the bearer token as soon as one is set.
func (a *api) authenticated(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(a.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Token != "" {
			got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			sum := sha256.Sum256([]byte(got))
			if !ok || subtle.ConstantTimeCompare(sum[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="patchbay"`)
				problem(w, http.StatusUnauthorized, "send the admin token: Authorization: Bearer …")
				return
			}
		}
		if r.Method == http.MethodPost {
			kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if err != nil || kind != "application/json" {
				problem(w, http.StatusUnsupportedMediaType, "send Content-Type: application/json")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (a *api) health(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	if why := a.Gateway.NotReady(); len(why) > 0 {
		reply(w, http.StatusServiceUnavailable, map[string]any{"status": "not ready", "reasons": why})
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (a *api) calls(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"calls": a.Gateway.Calls()})
}

func (a *api) call(w http.ResponseWriter, r *http.Request) {
	c, ok := a.Gateway.Call(r.PathValue("id"))
	if !ok {
		problem(w, http.StatusNotFound, "no running call has this id")
		return
	}
	reply(w, http.StatusOK, c)
}

func (a *api) hangup(w http.ResponseWriter, r *http.Request) {
	if !a.Gateway.HangupCall(r.PathValue("id")) {
		problem(w, http.StatusNotFound, "no running call has this id")
		return
	}
	reply(w, http.StatusAccepted, map[string]string{"status": "hanging up"})
}

func (a *api) plugins(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"plugins": a.Gateway.Plugins()})
}

func (a *api) drain(w http.ResponseWriter, _ *http.Request) {
	a.Gateway.BeginDrain()
	reply(w, http.StatusAccepted, map[string]string{"status": "draining"})
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	restart, err := a.Gateway.Reload(r.Context())
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if restart == nil {
		restart = []string{}
	}
	reply(w, http.StatusOK, map[string]any{"status": "reloaded", "needs_restart": restart})
}

func problem(w http.ResponseWriter, status int, text string) {
	reply(w, status, map[string]string{"error": text})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the peer's connection is its own affair
}

// Serve serves h on l until ctx ends, then finishes what is under way.
func Serve(ctx context.Context, l net.Listener, h http.Handler, certFile, keyFile string) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	}()
	var err error
	if certFile != "" {
		err = srv.ServeTLS(l, certFile, keyFile)
	} else {
		err = srv.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}
