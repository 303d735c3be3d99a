package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/version"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// Spec says how to start an instance of the configuration.
func Spec(cfg *config.Config, instance string, level slog.Level) (host.Spec, error) {
	p, ok := cfg.Plugins[instance]
	if !ok {
		return host.Spec{}, fmt.Errorf("no plugin instance is named %s: the file has %v", instance, slices.Sorted(maps.Keys(cfg.Plugins)))
	}
	if p.Instances > 1 {
		return host.Spec{}, fmt.Errorf("plugins.%s.instances is %d: this version runs one process of each: set it to 1", instance, p.Instances)
	}
	argv, err := command(cfg, instance, &p)
	if err != nil {
		return host.Spec{}, err
	}
	env := make(map[string]string, len(p.Env))
	for k, v := range p.Env {
		env[k] = v.Reveal()
	}
	return host.Spec{
		Instance: instance, Command: argv, Env: env, SHA256: p.SHA256, AutoMTLS: p.AutoMTLS,
		Config: p.Config.JSON(), Node: cfg.Node.Name, LogLevel: level, Version: version.String(),
		Schema: func(schema string) error { return problems(cfg.CheckPlugin(instance, []byte(schema))) },
	}, nil
}

// command is the instance's argv, its executable as an absolute path.
func command(cfg *config.Config, instance string, p *config.Plugin) ([]string, error) {
	if len(p.Command) > 0 {
		path, err := exec.LookPath(p.Command[0])
		if err != nil {
			return nil, fmt.Errorf("plugins.%s.command: %w", instance, err)
		}
		return append([]string{path}, p.Command[1:]...), nil
	}
	name := p.Plugin
	if name == "" {
		name = instance
	}
	path, err := filepath.Abs(filepath.Join(cfg.PluginDir, name))
	if err != nil {
		return nil, fmt.Errorf("plugins.%s: %w", instance, err)
	}
	return []string{path}, nil
}

func problems(errs []config.Error) error {
	if len(errs) == 0 {
		return nil
	}
	return config.Errors(errs)
}

// Explain turns a plugin's refusal of fields into errors with their place in
// the file.
func Explain(cfg *config.Config, err error) error {
	var refused *host.FieldProblems
	if !errors.As(err, &refused) {
		return err
	}
	var out config.Errors
	for _, f := range refused.Fields {
		out = append(out, cfg.FieldError(refused.Instance, f.Pointer, f.Problem, f.Mend))
	}
	return out
}

// startPlugins starts all instances side by side. When one does not start, all
// are stopped and every reason comes back.
func (g *Gateway) startPlugins(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(g.cfg.Plugins))
	errs := make([]error, len(names))
	started := make([]*host.Plugin, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		spec, err := Spec(g.cfg, name, g.level.Level())
		if err != nil {
			errs[i] = err
			continue
		}
		wg.Go(func() {
			p, err := host.Start(ctx, spec, g.router, g.clock.Now, g.log)
			if err != nil {
				errs[i] = Explain(g.cfg, err)
				return
			}
			started[i] = p
		})
	}
	wg.Wait()
	for i, p := range started {
		if p != nil {
			g.plugins[names[i]] = p
		}
	}
	kinds := map[string]pluginv1.Kind{}
	for _, p := range started {
		if p != nil {
			kinds[p.Instance] = p.Kind()
		}
	}
	return errors.Join(append(errs, CheckRoutes(g.cfg, kinds)...)...)
}

// eachPlugin runs fn for all plugins side by side and waits.
func (g *Gateway) eachPlugin(fn func(*host.Plugin)) {
	var wg sync.WaitGroup
	for _, p := range g.plugins {
		wg.Go(func() { fn(p) })
	}
	wg.Wait()
}
