// Package cli is the command line: it parses arguments and leaves the work to
// the packages that know it.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/version"
)

// The exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Streams are the process's own, or a test's.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// commands is the command line; its tags are its documentation.
type commands struct {
	Config string `help:"The configuration file." short:"c" default:"configs/patchbay.yaml" env:"PATCHBAY_CONFIG" type:"path" placeholder:"FILE"`

	Run     runCommand     `cmd:"" help:"Run the gateway until SIGTERM or Ctrl-C, then drain."`
	Check   checkCommand   `cmd:"" help:"Tell whether the configuration is right and the gateway could work."`
	URL     urlCommand     `cmd:"" name:"url" help:"Make or take apart a stream URL."`
	Sim     simCommand     `cmd:"" help:"Run a plugin's simulator of the other side."`
	Plugins pluginsCommand `cmd:"" help:"List the plugins of a running gateway."`
	Drain   drainCommand   `cmd:"" help:"Tell a running gateway to take no new calls and to end with the last one."`
	Reload  reloadCommand  `cmd:"" help:"Tell a running gateway to read its configuration again."`
	Hangup  hangupCommand  `cmd:"" help:"End one running call."`
	Schema  schemaCommand  `cmd:"" help:"Print the configuration file's JSON Schema."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// session is what each command's Run gets.
type session struct {
	Streams
	ctx    context.Context
	config string
}

// usageError is a command used wrongly.
type usageError struct{ error }

// exit carries the code of a program that was run in our place.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Main runs one command and returns its exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	var cmd commands
	code := -1
	parser, err := kong.New(&cmd, kong.Name("patchbay"),
		kong.Description("A plugin-based telephony gateway.\n\nExample: patchbay check --config configs/demo.yaml && patchbay run --config configs/demo.yaml"),
		kong.Writers(s.Out, s.Err), kong.Exit(func(c int) { code = c }), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(s.Err, "patchbay:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if len(args) > 1 && args[0] == "sim" && !strings.HasPrefix(args[1], "-") {
		// A simulator's arguments are its own, --help too.
		return s.code((&simCommand{Name: args[1], Args: args[2:]}).Run(&session{Streams: s, ctx: ctx}))
	}
	parsed, err := parser.Parse(args)
	if code >= 0 { // --help has printed what was asked for
		return code
	}
	if err != nil {
		fmt.Fprintf(s.Err, "patchbay: %v: see patchbay --help\n", err)
		return exitUsage
	}
	return s.code(parsed.Run(&session{Streams: s, ctx: ctx, config: cmd.Config}))
}

// code says what went wrong, if anything did, and is the exit code for it.
func (s Streams) code(err error) int {
	var other exit
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &other):
		return int(other)
	}
	fmt.Fprintf(s.Err, "patchbay: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// ownVariables begin with the configuration's prefix and are not keys of it.
func ownVariables() []string {
	return []string{"PATCHBAY_CONFIG", "PATCHBAY_ADMIN", "PATCHBAY_ADMIN_TOKEN", "PATCHBAY_BIN", "PATCHBAY_LOG_LEVEL"}
}

// load reads the configuration file.
func (s *session) load(flags map[string]string) (*config.Config, error) {
	return config.Load(s.config, config.Options{IgnoreEnv: ownVariables(), Flags: flags})
}

// printJSON prints v for programs.
func (s *session) printJSON(v any) error {
	enc := json.NewEncoder(s.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type schemaCommand struct{}

// Help is the command's example.
func (schemaCommand) Help() string { return "Example: patchbay schema > patchbay.schema.json" }

// Run prints the schema.
func (schemaCommand) Run(s *session) error {
	_, err := io.WriteString(s.Out, config.Schema())
	return err
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Help is the command's example.
func (versionCommand) Help() string { return "Example: patchbay version --json" }

// Run prints the version.
func (c versionCommand) Run(s *session) error {
	if c.JSON {
		return s.printJSON(map[string]string{"version": version.String()})
	}
	_, err := fmt.Fprintln(s.Out, "patchbay", version.String())
	return err
}

// executable is this program's path; "" where the system does not tell.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}
