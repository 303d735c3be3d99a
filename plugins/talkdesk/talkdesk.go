// Command talkdesk is the ingress plugin for Talkdesk's bidirectional audio
// stream: a WebSocket server that a Studio flow's voice step connects to.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

const version = "0.1.0"

// provider is the plugin as the SDK sees it.
type provider struct {
	settings atomic.Pointer[settings]
	measures measures

	mu     sync.Mutex
	server *server // nil: not open
}

var errNotConfigured = errors.New("open the stream server: not configured yet")

// Describe implements sdk.Provider.
func (p *provider) Describe() sdk.Description {
	return sdk.Description{
		Name: "talkdesk", Version: version, ConfigSchema: configSchema,
		Capabilities: []string{"dtmf", "mark", "clear", "monitor"},
	}
}

// Configure implements sdk.Provider. What the listening socket depends on
// cannot change while it is open.
func (p *provider) Configure(_ context.Context, block json.RawMessage) error {
	next, err := parseConfig(block)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		if now := p.settings.Load(); next.listen != now.listen || next.tls != now.tls {
			return sdk.ErrRestartNeeded
		}
	}
	p.settings.Store(next)
	return nil
}

// Open implements sdk.Ingress.
func (p *provider) Open(ctx context.Context, gw sdk.Gateway) ([]sdk.Listener, error) {
	if p.settings.Load() == nil {
		return nil, errNotConfigured
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := openServer(ctx, &p.settings, &p.measures, gw, slog.Default()) // Serve has set it by now
	if err != nil {
		return nil, err
	}
	p.server = s
	return []sdk.Listener{{Purpose: "stream", Address: s.listener.Addr().String()}}, nil
}

// Close implements sdk.Ingress: every stream gets its stop and is closed.
func (p *provider) Close(ctx context.Context) error {
	s := p.running()
	if s == nil {
		return nil
	}
	return s.close(ctx)
}

// Drain implements sdk.Drainer: requests are answered 503 from now on.
func (p *provider) Drain(context.Context) error {
	if s := p.running(); s != nil {
		s.draining.Store(true)
	}
	return nil
}

// Metrics implements sdk.Measured.
func (p *provider) Metrics() []sdk.MetricFamily {
	var expiry time.Time
	if s := p.running(); s != nil && s.cert != nil {
		expiry = s.cert.notAfter()
	}
	return p.measures.families(expiry)
}

// BuildURL implements sdk.URLMaker.
func (p *provider) BuildURL(base string, u sdk.URLParts) (string, error) {
	return buildStreamURL(base, p.path(), streamRequest{
		Token: u.Token, Number: u.Number, Bot: u.Bot, Account: u.Account,
		Monitor: u.Mode == sdk.ModeMonitor, Parameters: u.Parameters,
	})
}

// ParseURL implements sdk.URLMaker.
func (p *provider) ParseURL(raw string) sdk.URLInfo {
	r, problems, masked := inspectStreamURL(raw, p.path())
	mode := sdk.ModeBot
	if r.Monitor {
		mode = sdk.ModeMonitor
	}
	return sdk.URLInfo{
		URLParts: sdk.URLParts{
			Token: r.Token, Number: r.Number, Bot: r.Bot, Account: r.Account, Mode: mode, Parameters: r.Parameters,
		},
		Problems: problems, Masked: masked,
	}
}

func (p *provider) path() string {
	if s := p.settings.Load(); s != nil {
		return s.path
	}
	return defaultPath
}

func (p *provider) running() *server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// The contract this plugin serves.
var (
	_ sdk.Ingress  = (*provider)(nil)
	_ sdk.Drainer  = (*provider)(nil)
	_ sdk.Checker  = (*provider)(nil)
	_ sdk.URLMaker = (*provider)(nil)
	_ sdk.Measured = (*provider)(nil)
)
