package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
)

type simCommand struct {
	PluginDir string   `help:"Folder of the plugins' executables (default: plugins beside this program)." placeholder:"DIR"`
	Name      string   `arg:"" help:"The plugin."`
	Args      []string `arg:"" optional:"" passthrough:"" help:"The simulator's own arguments; --help lists them."`
}

// Help is the command's example.
func (simCommand) Help() string { return "Example: patchbay sim NAME --help" }

// Run runs the simulator that the plugin's own executable holds: core knows no
// provider, nor how its other side behaves.
func (c simCommand) Run(s *session) error {
	if c.Name != filepath.Base(c.Name) || strings.HasPrefix(c.Name, ".") {
		return usageError{fmt.Errorf("%q is no plugin's name", c.Name)}
	}
	dir := c.PluginDir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(executable()), "plugins")
	}
	cmd := exec.CommandContext(s.ctx, filepath.Join(dir, c.Name), append([]string{"sim"}, c.Args...)...) //nolint:gosec // the operator names it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	err := cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit(max(ended.ExitCode(), exitFailed)) // -1 when a signal ended it
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run simulator of %s: %w: build the plugin, or set --plugin-dir", c.Name, err)
	}
	if err != nil {
		return fmt.Errorf("run simulator of %s: %w", c.Name, err)
	}
	return nil
}
