package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/gateway"
	"github.com/patchbay/patchbay/core/host"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

type checkCommand struct {
	Connect bool `help:"Also talk to the far sides (names, certificates, peers); places no call."`
	JSON    bool `help:"Print JSON."`
}

// Help is the command's example.
func (checkCommand) Help() string {
	return "Example: patchbay check --connect --config configs/patchbay.yaml"
}

// finding is one line of check's report.
type finding struct {
	Plugin  string `json:"plugin,omitempty"`
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail,omitempty"`
}

// Run checks the file, then starts each plugin to ask it.
func (c checkCommand) Run(s *session) error {
	cfg, err := s.load(nil)
	if err != nil {
		return err
	}
	findings := []finding{{Subject: "configuration " + s.config, OK: true, Detail: "every key is right"}}
	kinds := map[string]pluginv1.Kind{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Plugins)) {
		found, kind := c.plugin(s, cfg, name)
		findings = append(findings, found...)
		kinds[name] = kind
	}
	for _, err := range gateway.CheckRoutes(cfg, kinds) {
		findings = append(findings, finding{Subject: "routes", Detail: err.Error()})
	}
	return c.report(s, findings)
}

func (c checkCommand) plugin(s *session, cfg *config.Config, name string) ([]finding, pluginv1.Kind) {
	failed := func(err error) []finding {
		return []finding{{Plugin: name, Subject: "start", Detail: gateway.Explain(cfg, err).Error()}}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	p, err := startOne(ctx, cfg, name)
	if err != nil {
		return failed(err), 0
	}
	defer p.Kill()
	out, err := p.Provider.Check(ctx, &pluginv1.CheckRequest{Connect: c.Connect})
	if err != nil {
		return failed(fmt.Errorf("check: %w", err)), p.Description.GetKind()
	}
	found := []finding{{Plugin: name, Subject: "start", OK: true, Detail: p.Description.GetName() + " " + p.Description.GetVersion()}}
	for _, r := range out.GetResults() {
		found = append(found, finding{name, r.GetSubject(), r.GetOk(), r.GetDetail()})
	}
	return found, p.Description.GetKind()
}

// startOne starts a plugin and configures it, without opening it for calls.
func startOne(ctx context.Context, cfg *config.Config, name string) (*host.Process, error) {
	spec, err := gateway.Spec(cfg, name, slog.LevelWarn)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	p, err := host.StartProcess(ctx, spec, quiet, func() {})
	if err != nil {
		return nil, err
	}
	if _, err = p.Configure(ctx, spec.Config); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

func (c checkCommand) report(s *session, findings []finding) error {
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
	}
	if c.JSON {
		if err := s.printJSON(map[string]any{"ok": bad == 0, "findings": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark, where := "ok  ", f.Subject
			if !f.OK {
				mark = "FAIL"
			}
			if f.Plugin != "" {
				where = f.Plugin + ": " + where
			}
			fmt.Fprintf(s.Out, "%s  %s: %s\n", mark, where, f.Detail)
		}
	}
	if bad > 0 {
		return errors.New("the gateway could not work like this: mend what is marked FAIL")
	}
	return nil
}
