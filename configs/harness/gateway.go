package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// pollEvery is how often a state that nothing announces is asked for.
	pollEvery = 20 * time.Millisecond
	// maxAnswer bounds an answer of the admin interface, in bytes.
	maxAnswer = 16 << 20
)

// Options say how a gateway is run beside its configuration.
type Options struct {
	Dir   string    // where it runs and puts its files; must exist
	Env   []string  // added to its environment, for secrets and overrides
	Token string    // the admin token, when the configuration sets one
	Echo  io.Writer // gets its log, too
}

// Gateway is a running gateway.
type Gateway struct {
	*Process
	admin string // base URL
	token string
	dir   string
	http  *http.Client
}

// StartGateway runs `patchbay run` with config, the text of a YAML file, and waits until it is ready, at most until
// ctx ends. Ports should be 0 in it; Address says which ones were taken. When life ends the gateway drains and ends.
func StartGateway(ctx, life context.Context, b *Binaries, config string, o Options) (*Gateway, error) {
	file := filepath.Join(o.Dir, "patchbay.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	p, err := Start(life, Command{
		Path: b.Patchbay(),
		Args: []string{"run", "--config", file},
		Dir:  o.Dir,
		Env:  append([]string{"PATCHBAY_PLUGIN_DIR=" + b.PluginDir()}, o.Env...),
		Echo: o.Echo,
	})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Process: p, token: o.Token, dir: o.Dir, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if err := g.awaitReady(ctx); err != nil {
		if killErr := p.Signal(os.Kill); killErr != nil {
			err = errors.Join(err, killErr)
		}
		<-p.Done()
		return nil, err
	}
	return g, nil
}

func (g *Gateway) awaitReady(ctx context.Context) error {
	var address string
	_, err := g.Log(ctx, func(l LogLine) bool {
		address = adminAddress(l)
		return address != ""
	})
	if err != nil {
		return fmt.Errorf("find the admin address: %w", err)
	}
	g.admin = "http://" + address
	return g.WaitReady(ctx)
}

// adminAddress is the address in the log line that says where the admin interface listens.
func adminAddress(l LogLine) string {
	a, err := netip.ParseAddrPort(l.Text("admin"))
	if err != nil || a.Port() == 0 {
		return ""
	}
	return a.String()
}

// AdminURL is the base of the admin interface's URLs, for --admin.
func (g *Gateway) AdminURL() string { return g.admin }

// WaitReady waits until /readyz answers 200.
func (g *Gateway) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := g.Get(ctx, "/readyz", nil)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-g.Done():
			return fmt.Errorf("the gateway ended before it was ready: %w", g.err)
		case <-ctx.Done():
			return fmt.Errorf("the gateway is not ready: %w", err)
		}
	}
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Code, e.Body) }

// Get asks the admin interface for path and decodes the JSON answer into into, unless that is nil.
func (g *Gateway) Get(ctx context.Context, path string, into any) error {
	return g.do(ctx, http.MethodGet, path, into)
}

// Post sends an empty JSON object to path.
func (g *Gateway) Post(ctx context.Context, path string) error {
	return g.do(ctx, http.MethodPost, path, nil)
}

// Delete deletes path, as a call.
func (g *Gateway) Delete(ctx context.Context, path string) error {
	return g.do(ctx, http.MethodDelete, path, nil)
}

func (g *Gateway) do(ctx context.Context, method, path string, into any) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(ctx, method, g.admin+path, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("ask %s: %w", path, &StatusError{Code: resp.StatusCode, Body: strings.TrimSpace(string(answer))})
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", path, err)
	}
	return nil
}

// PluginStatus is what the harness needs of an entry of /api/v1/plugins.
type PluginStatus struct {
	Instance  string `json:"instance"`
	State     string `json:"state"`
	PID       int    `json:"pid"`
	Restarts  int    `json:"restarts"`
	Addresses []struct {
		Purpose string `json:"purpose"`
		Address string `json:"address"`
	} `json:"addresses"`
}

// Plugins asks for the state of all plugins.
func (g *Gateway) Plugins(ctx context.Context) ([]PluginStatus, error) {
	var answer struct {
		Plugins []PluginStatus `json:"plugins"`
	}
	if err := g.Get(ctx, "/api/v1/plugins", &answer); err != nil {
		return nil, err
	}
	return answer.Plugins, nil
}

// Address is where a plugin instance listens for a purpose, as host:port.
func (g *Gateway) Address(ctx context.Context, instance, purpose string) (string, error) {
	all, err := g.Plugins(ctx)
	if err != nil {
		return "", err
	}
	var known []string
	for _, p := range all {
		for _, a := range p.Addresses {
			if p.Instance == instance && a.Purpose == purpose {
				return a.Address, nil
			}
			known = append(known, p.Instance+" "+a.Purpose)
		}
	}
	return "", fmt.Errorf("plugin %s has no address for %q; there are: %s", instance, purpose, strings.Join(known, ", "))
}

// Drain sends SIGTERM and waits for the gateway's end, which is clean when it exits with 0.
func (g *Gateway) Drain(ctx context.Context) error {
	if err := g.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return g.Wait(ctx)
}

// Records waits until file, a path as in records.path, holds at least n call records, and decodes all into T.
func Records[T any](ctx context.Context, g *Gateway, file string, n int) ([]T, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(g.dir, file)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		all, err := readRecords[T](file)
		if err != nil || len(all) >= n {
			return all, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all, fmt.Errorf("%d of %d call records: %w", len(all), n, ctx.Err())
		}
	}
}

func readRecords[T any](file string) ([]T, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read call records: %w", err)
	}
	defer f.Close()
	return JSONLines[T](f)
}
