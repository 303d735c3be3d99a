package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

const (
	startTimeout = 10 * time.Second
	rpcTimeout   = 5 * time.Second
)

// Spec says how to start one plugin.
type Spec struct {
	Instance string            // the name in the operator's file
	Command  []string          // argv; the first is the executable's path
	Env      map[string]string // what the process gets besides PATH
	SHA256   string            // optional pin of the executable, hex
	AutoMTLS bool
	Config   json.RawMessage // the plugin's own block, secrets resolved
	Node     string          // this node's name
	LogLevel slog.Level
	Version  string // core's
	// Schema checks the block against the schema the plugin ships; nil: not.
	Schema func(schema string) error
}

// ErrConfig marks an error that a restart cannot mend: the plugin's block, or
// the way it is started, is wrong.
var ErrConfig = errors.New("plugin configuration")

// FieldProblems are the fields of its block that a plugin refused.
type FieldProblems struct {
	Instance string
	Fields   sdk.FieldErrors
}

// Error implements error.
func (e *FieldProblems) Error() string {
	return fmt.Sprintf("plugin %s refuses its configuration: %v", e.Instance, e.Fields)
}

// Unwrap makes it an ErrConfig.
func (e *FieldProblems) Unwrap() error { return ErrConfig }

// Process is one life of a plugin: started, described, and open for unary
// calls. It carries no calls yet.
type Process struct {
	Spec        Spec
	Description *pluginv1.DescribeResponse
	Provider    pluginv1.ProviderClient
	PID         int

	client *goplugin.Client
	conn   *grpc.ClientConn
	dir    string // private socket folder
}

// glue gives go-plugin's client the bare connection.
type glue struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (glue) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this is core's side")
}

func (glue) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// StartProcess starts the plugin's executable and asks what it is. lines
// counts what it writes to stderr.
func StartProcess(ctx context.Context, spec Spec, log *slog.Logger, lines func()) (*Process, error) {
	if len(spec.Command) == 0 {
		return nil, fmt.Errorf("%w: %s has no command", ErrConfig, spec.Instance)
	}
	if _, err := os.Stat(spec.Command[0]); err != nil && filepath.IsAbs(spec.Command[0]) {
		return nil, fmt.Errorf("%w: executable of %s: %w: build it, or set plugin_dir", ErrConfig, spec.Instance, err)
	}
	secure, err := pin(spec)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pb-") // 0700; short, a socket's path holds 107 bytes
	if err != nil {
		return nil, fmt.Errorf("make socket folder of %s: %w", spec.Instance, err)
	}
	p := &Process{Spec: spec, dir: dir}
	cmd := exec.Command(spec.Command[0], spec.Command[1:]...) //nolint:gosec,noctx // the operator names it; its life is go-plugin's to end
	cmd.Env = environment(spec, dir)
	isolate(cmd)
	written := func() *stderrLog { return &stderrLog{log: log, counted: lines} }
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake,
		VersionedPlugins: map[int]goplugin.PluginSet{sdk.ContractVersion: {sdk.PluginName: glue{}}},
		Cmd:              cmd,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         spec.AutoMTLS,
		SkipHostEnv:      true,
		SecureConfig:     secure,
		StartTimeout:     startTimeout,
		// Off, not the null logger: only then does go-plugin leave the lines
		// alone, see stderrLog.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		Stderr: written(),
		// What a plugin prints after its start comes this way; one that prints
		// loses nothing.
		SyncStdout:      written(),
		SyncStderr:      written(),
		GRPCDialOptions: sdk.DialOptions(),
	})
	if err := p.open(ctx, cmd); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// pin is go-plugin's check of the executable against the operator's hash.
func pin(spec Spec) (*goplugin.SecureConfig, error) {
	if spec.SHA256 == "" {
		return nil, nil //nolint:nilnil // no pin is no check
	}
	sum, err := hex.DecodeString(spec.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("%w: sha256 of %s: want 64 hex digits", ErrConfig, spec.Instance)
	}
	return &goplugin.SecureConfig{Checksum: sum, Hash: sha256.New()}, nil
}

// environment is all a plugin sees of the host's: PATH, its own variables,
// the log level.
func environment(spec Spec, dir string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		goplugin.EnvUnixSocketDir + "=" + dir,
		"PATCHBAY_LOG_LEVEL=" + spec.LogLevel.String(),
	}
	for k, v := range spec.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

func (p *Process) open(ctx context.Context, cmd *exec.Cmd) error {
	protocol, err := p.client.Client()
	if err != nil {
		if errors.Is(err, goplugin.ErrChecksumsDoNotMatch) {
			return fmt.Errorf("%w: executable of %s does not match its sha256: it was changed, or the pin is old", ErrConfig, p.Spec.Instance)
		}
		return fmt.Errorf("start plugin %s: %w", p.Spec.Instance, err)
	}
	raw, err := protocol.Dispense(sdk.PluginName)
	if err != nil {
		return fmt.Errorf("connect to plugin %s: %w", p.Spec.Instance, err)
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return fmt.Errorf("connect to plugin %s: unexpected %T", p.Spec.Instance, raw)
	}
	p.conn, p.Provider = conn, pluginv1.NewProviderClient(conn)
	if cmd.Process != nil {
		p.PID = cmd.Process.Pid
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	p.Description, err = p.Provider.Describe(ctx, &pluginv1.DescribeRequest{CoreVersion: p.Spec.Version})
	if err != nil {
		return fmt.Errorf("describe plugin %s: %w", p.Spec.Instance, err)
	}
	if s := p.Description.GetConfigSchema(); s != "" && p.Spec.Schema != nil {
		return p.Spec.Schema(s)
	}
	return nil
}

// Configure hands the plugin its block. restart says that the new values need
// a new process.
func (p *Process) Configure(ctx context.Context, config json.RawMessage) (restart bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	out, err := p.Provider.Configure(ctx, &pluginv1.ConfigureRequest{
		ConfigJson: config, Instance: p.Spec.Instance, Node: p.Spec.Node,
	})
	if err != nil {
		return false, fmt.Errorf("configure plugin %s: %w", p.Spec.Instance, err)
	}
	if len(out.GetErrors()) == 0 {
		return out.GetRestartNeeded(), nil
	}
	problems := &FieldProblems{Instance: p.Spec.Instance}
	for _, f := range out.GetErrors() {
		problems.Fields = append(problems.Fields, sdk.FieldError{Pointer: f.GetPointer(), Problem: f.GetProblem(), Mend: f.GetMend()})
	}
	return false, problems
}

// Exited tells whether the process is gone.
func (p *Process) Exited() bool { return p.client.Exited() }

// Kill ends the process, at first by asking, and removes its sockets.
func (p *Process) Kill() {
	p.client.Kill()
	_ = os.RemoveAll(p.dir)
}
