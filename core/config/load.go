package config

import (
	_ "embed"
	"fmt"
	"os"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix is what the variables that override the file begin with; levels
// are separated by two underscores: PATCHBAY_LIMITS__MAX_CALLS.
const EnvPrefix = "PATCHBAY_"

// delim separates the steps of a path inside koanf. It is a character no key
// holds, so that a dot in a key can never be taken for a level.
const delim = "\x1f"

//go:embed schema.json
var schemaText string

// Schema returns the JSON Schema of the configuration file.
func Schema() string { return schemaText }

// Options says what is laid over the file, and where references are read.
type Options struct {
	// File is the file's name in errors. Load sets it.
	File string
	// Environ is the environment, as os.Environ returns it. Nil: the process's.
	Environ []string
	// IgnoreEnv names variables that begin with EnvPrefix and are not keys of
	// the file, such as those the command line reads itself.
	IgnoreEnv []string
	// Flags are values from the command line by their dotted key, such as
	// "log.level".
	Flags map[string]string
	// ReadFile reads the files that ${file:PATH} names. Nil: from disk.
	ReadFile func(path string) ([]byte, error)
	// Hostname is the default of node.name. Empty: the host's.
	Hostname string
}

// Load reads and checks the file at name. The error is Errors when the content
// is wrong, and something else when the file cannot be read.
func Load(name string, o Options) (*Config, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	data, err := readBounded(f, maxFile)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", name, err)
	}
	o.File = name
	return Parse(data, o)
}

// Parse checks data as Load does. Every error it returns is Errors.
func Parse(data []byte, o Options) (*Config, error) {
	if o.File == "" {
		o.File = "configuration"
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.ReadFile == nil {
		o.ReadFile = readReference
	}
	if o.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			o.Hostname = name
		}
	}
	doc := &document{file: o.File, sources: map[string]string{}, raw: map[string]string{}, open: map[*yaml.Node]bool{}}
	rep := newReport(doc)
	doc.report = rep
	if len(data) > maxFile {
		rep.value(nil, "the file is over 1 MiB", "a configuration is far smaller; check which file this is")
		return nil, rep.list()
	}
	tree, err := layers(data, o, doc)
	if err != nil {
		return nil, err
	}
	cfg := Default(o.Hostname)
	cfg.doc = doc
	dec := &decoder{report: rep, expander: newExpander(o)}
	dec.decode(nil, tree, settable(cfg))
	(&validator{report: rep, cfg: cfg}).config()
	doc.report = nil
	if errs := rep.list(); errs != nil {
		return nil, errs
	}
	return cfg, nil
}

// layers merges file, environment and flags into one tree.
func layers(data []byte, o Options, doc *document) (map[string]any, error) {
	k := koanf.New(delim)
	if err := k.Load(rawbytes.Provider(data), doc); err != nil {
		return nil, fmt.Errorf("load configuration file: %w", err)
	}
	over := &overrides{report: doc.report, tree: k.Raw()}
	ignored := map[string]bool{}
	for _, name := range o.IgnoreEnv {
		ignored[name] = true
	}
	provider := env.Provider(delim, env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return o.Environ },
		TransformFunc: func(name, value string) (string, any) {
			if ignored[name] {
				return "", nil
			}
			return over.resolve(strings.Split(strings.TrimPrefix(name, EnvPrefix), "__"), name, value)
		},
	})
	if err := k.Load(provider, nil); err != nil {
		return nil, fmt.Errorf("load environment: %w", err)
	}
	flags := map[string]any{}
	for name, value := range o.Flags {
		if key, v := over.resolve(strings.Split(name, "."), "command line ("+name+")", value); key != "" {
			flags[key] = v
		}
	}
	if err := k.Load(confmap.Provider(flags, delim), nil); err != nil {
		return nil, fmt.Errorf("load command line: %w", err)
	}
	return k.Raw(), nil
}
