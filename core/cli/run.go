package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/gateway"
	"github.com/patchbay/patchbay/core/version"
)

type runCommand struct {
	LogLevel string `help:"Overrides log.level." placeholder:"LEVEL"`
}

// Help is the command's example.
func (runCommand) Help() string { return "Example: patchbay run --config configs/demo.yaml" }

// Run is the gateway's life: start, serve, drain, stop.
func (c runCommand) Run(s *session) error {
	flags := map[string]string{}
	if c.LogLevel != "" {
		flags["log.level"] = c.LogLevel
	}
	cfg, err := s.load(flags)
	if err != nil {
		return err
	}
	var level slog.LevelVar
	if err = level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(s.Err, &slog.HandlerOptions{Level: &level})).With("node", cfg.Node.Name)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	g, err := gateway.Start(s.ctx, gateway.Options{
		Config: cfg, Log: log, Level: &level,
		Reread: func() (*config.Config, error) { return s.load(flags) },
	})
	if err != nil {
		return err
	}
	for _, p := range g.Plugins() {
		for _, a := range p.Addresses {
			log.Info("plugin listens", "plugin", p.Instance, "purpose", a.Purpose, "address", a.Address)
		}
	}
	log.Info("gateway is up", "version", version.String(), "admin", g.AdminAddr())

	hurry, now := context.WithCancel(context.WithoutCancel(s.ctx))
	defer now()
	done := make(chan struct{})
	go func() { defer close(done); g.Run(hurry) }()
	for {
		select {
		case <-done:
			return nil
		case <-s.ctx.Done():
			g.BeginDrain()
			now()
			<-done
			return nil
		case sig := <-signals:
			obey(s.ctx, g, sig, log, now)
		}
	}
}

// obey does what a signal asks for: HUP reloads; TERM and INT drain, and the
// second INT ends the calls that are left.
func obey(ctx context.Context, g *gateway.Gateway, sig os.Signal, log *slog.Logger, now func()) {
	if sig == syscall.SIGHUP {
		if _, err := g.Reload(ctx); err != nil {
			log.Error("reload refused", "error", err)
		}
		return
	}
	select {
	case <-g.Draining():
		if sig == syscall.SIGINT {
			log.Warn("second interrupt: ending the calls now")
			now()
		}
	default:
		g.BeginDrain()
	}
}
