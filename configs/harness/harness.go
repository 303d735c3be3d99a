// Package harness runs a real gateway, with its plugins and the plugins' simulators, as the processes an operator
// would run, and compares what arrived with what was sent. The demo, the end-to-end tests and the interop tests share
// it. It knows the gateway by its command line, its HTTP interface and its log only.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BinVariable names the environment variable with the folder of programs to use, as `make build` leaves it.
const BinVariable = "PATCHBAY_BIN"

// Binaries is a folder with the programs: patchbay, and below plugins/ one for each provider.
type Binaries struct {
	dir   string
	owned bool
}

// Find takes the programs from the folder that BinVariable names, or builds them into a new one. Call it once per
// process (in TestMain, in main), and Remove at its end.
func Find(ctx context.Context) (*Binaries, error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("find programs: %w", err)
		}
		b := &Binaries{dir: abs}
		if _, err := os.Stat(b.Patchbay()); err != nil {
			return nil, fmt.Errorf("find programs in %s: %w; run make build, or unset it", BinVariable, err)
		}
		return b, nil
	}
	dir, err := os.MkdirTemp("", "patchbay-bin-")
	if err != nil {
		return nil, fmt.Errorf("build programs: %w", err)
	}
	b := &Binaries{dir: dir, owned: true}
	if err := b.build(ctx); err != nil {
		_ = b.Remove() // the build's error says more
		return nil, err
	}
	return b, nil
}

// build builds what `make build` builds.
func (b *Binaries) build(ctx context.Context) error {
	mod, err := goTool(ctx, "", "env", "GOMOD")
	if err != nil {
		return err
	}
	root := filepath.Dir(mod)
	mains, err := filepath.Glob(filepath.Join(root, "plugins", "*", "main.go"))
	if err != nil {
		return fmt.Errorf("list plugins: %w", err)
	}
	if _, err := goTool(ctx, root, "build", "-o", b.Patchbay(), "./core/cmd/patchbay"); err != nil {
		return err
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		if _, err := goTool(ctx, root, "build", "-o", b.Plugin(name), "./plugins/"+name); err != nil {
			return err
		}
	}
	return nil
}

func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Remove deletes what Find has built; programs that were there before stay.
func (b *Binaries) Remove() error {
	if !b.owned {
		return nil
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("remove programs: %w", err)
	}
	return nil
}

// Patchbay is the path of the gateway.
func (b *Binaries) Patchbay() string { return filepath.Join(b.dir, "patchbay") }

// PluginDir is the folder of the plugins, for plugin_dir.
func (b *Binaries) PluginDir() string { return filepath.Join(b.dir, "plugins") }

// Plugin is the path of one plugin.
func (b *Binaries) Plugin(name string) string { return filepath.Join(b.PluginDir(), name) }

// Run runs the gateway's command line with args to its end, and returns what it printed. A failing command's error
// holds what it said on stderr; errors.As gives the *exec.ExitError.
func (b *Binaries) Run(ctx context.Context, args ...string) ([]byte, error) {
	p, err := Start(ctx, Command{Path: b.Patchbay(), Args: args})
	if err != nil {
		return nil, err
	}
	err = p.Wait(ctx)
	return p.Stdout(), err
}

// Sim starts the simulator of a provider: `plugins/<name> sim args… --json`.
func (b *Binaries) Sim(ctx context.Context, name string, args ...string) (*Process, error) {
	all := append([]string{"sim"}, args...)
	return Start(ctx, Command{Path: b.Plugin(name), Args: append(all, "--json")})
}
