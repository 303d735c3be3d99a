// Package config reads the gateway's configuration: a YAML file, then the
// environment (PATCHBAY_…), then the command line. It reports everything that
// is wrong with it at once, each as "file:line:column: key: problem: mend".
//
// The package knows no provider. A plugin's own section is kept as it stands
// and checked against the JSON Schema the plugin itself brings (CheckPlugin).
package config

import (
	"time"

	"github.com/patchbay/patchbay/core/admission/number"
)

// Config is the whole configuration, valid as a whole: Load and Parse return
// one only when nothing is wrong with it.
type Config struct {
	// Node says who this gateway is.
	Node Node `koanf:"node"`
	// Log says what is logged.
	Log Log `koanf:"log"`
	// Admin is the API, metrics and health endpoint.
	Admin Admin `koanf:"admin"`
	// Limits bound what the node takes on.
	Limits Limits `koanf:"limits"`
	// Records says where call records go.
	Records Records `koanf:"records"`
	// PluginDir is the folder of the plugins' executables, relative to the
	// working directory. Default: bin/plugins.
	PluginDir string `koanf:"plugin_dir"`
	// Plugins are the plugin instances by name.
	Plugins map[string]Plugin `koanf:"plugins"`
	// Apps are those who may stream in.
	Apps []App `koanf:"apps"`
	// Routes lead calls from an ingress to an egress instance; the first that
	// matches wins.
	Routes []Route `koanf:"routes"`

	doc *document
}

// Node says who this gateway is.
type Node struct {
	// Name appears in records, logs and metrics. Default: the host's name.
	Name string `koanf:"name"`
	// PublicURL is the ws or wss address stream URLs are built with. No
	// default; only building a URL needs it.
	PublicURL string `koanf:"public_url"`
}

// Log says what is logged. Logs are JSON on standard error.
type Log struct {
	// Level is debug, info, warn or error. Default: info.
	Level string `koanf:"level"`
}

// Admin is the API, metrics and health endpoint.
type Admin struct {
	// Listen is the address to serve on. Default: 127.0.0.1:8080.
	Listen string `koanf:"listen"`
	// Token is the bearer token, at least 16 characters. Required as soon as
	// Listen is not loopback.
	Token Secret `koanf:"token"`
	// TLS is the endpoint's certificate; empty: plain HTTP.
	TLS TLS `koanf:"tls"`
	// AllowPlain permits plain HTTP beyond loopback, for use behind a TLS
	// proxy. Default: false.
	AllowPlain bool `koanf:"allow_plain"`
}

// TLS is a server's certificate and key, both PEM files or both empty.
type TLS struct {
	// CertFile holds the certificate chain.
	CertFile string `koanf:"cert_file"`
	// KeyFile holds the private key.
	KeyFile string `koanf:"key_file"`
}

// Limits bound what the node takes on.
type Limits struct {
	// MaxCalls is the number of calls at the same time. Default: 1000.
	MaxCalls int `koanf:"max_calls"`
	// CallsPerSecond is the rate at which authenticated requests are let in.
	// Default: 50.
	CallsPerSecond int `koanf:"calls_per_second"`
	// MaxCallDuration ends a call that lasts longer. Default: 4h.
	MaxCallDuration time.Duration `koanf:"max_call_duration"`
	// SilenceTimeout ends a call when a side that is not on hold sends no
	// audio for so long. Default: 30s.
	SilenceTimeout time.Duration `koanf:"silence_timeout"`
	// DrainTimeout is how long running calls may go on after a shutdown was
	// asked for. Default: 30m.
	DrainTimeout time.Duration `koanf:"drain_timeout"`
}

// Records says where call records go: JSON Lines in a file.
type Records struct {
	// Path is the file, relative to the working directory. Default:
	// var/records.jsonl.
	Path string `koanf:"path"`
	// Rotate is the size at which the file is closed and a new one begun.
	// Default: 100MB.
	Rotate Size `koanf:"rotate"`
}

// Plugin is one plugin instance: a child process, or several alike.
type Plugin struct {
	// Plugin is the executable's name in PluginDir. Default: the instance's
	// name.
	Plugin string `koanf:"plugin"`
	// Command is run instead of Plugin: the argv of a script or program.
	Command []string `koanf:"command"`
	// Env is what the process gets besides PATH; the host's environment is not
	// passed on. Its values may be secrets.
	Env map[string]Secret `koanf:"env"`
	// SHA256 pins the executable: 64 hexadecimal digits, or empty.
	SHA256 string `koanf:"sha256"`
	// AutoMTLS encrypts between core and plugin. Default: true.
	AutoMTLS bool `koanf:"auto_mtls"`
	// Instances is the number of processes that share the work. Default: 1.
	Instances int `koanf:"instances"`
	// Config is the plugin's own section, references resolved.
	Config Block `koanf:"config"`
}

// Auth is how an app proves that it may stream in.
type Auth string

// The ways to authenticate.
const (
	// AuthJWT is a token signed with one of the app's secrets (HS256).
	AuthJWT Auth = "jwt"
	// AuthHMAC is a request signed with one of the app's secrets.
	AuthHMAC Auth = "hmac"
	// AuthPeer is the sender's address; for ingress on the same host only.
	AuthPeer Auth = "peer"
)

// App is who may stream in, and what they may dial.
type App struct {
	// Name is what routes, records and metrics call the app.
	Name string `koanf:"name"`
	// AppID is the token's appId claim, or the key id of a signature. Required
	// but for AuthPeer.
	AppID string `koanf:"app_id"`
	// Auth is jwt, hmac or peer. Default: jwt.
	Auth Auth `koanf:"auth"`
	// Secrets verify tokens or signatures, each at least 16 characters; the
	// first one signs. Two while rotating. Required but for AuthPeer.
	Secrets []Secret `koanf:"secrets"`
	// Peers are the loopback addresses an AuthPeer app may come from. Default:
	// all of loopback.
	Peers []string `koanf:"peers"`
	// Bots are the bot ids the app may ask for; "*" is any. Required.
	Bots []string `koanf:"bots"`
	// Accounts are the account ids the app may ask for; "*" is any. Required.
	Accounts []string `koanf:"accounts"`
	// PlatformAccounts are the platform's own account ids the app's streams
	// may come from; empty: any.
	PlatformAccounts []string `koanf:"platform_accounts"`
	// Numbers are the numbers the app may dial: exact, or a prefix and a star.
	// Required; there is no default, because it guards against toll fraud.
	Numbers []number.Pattern `koanf:"numbers"`
	// MaxCalls is the app's share of the node's calls. Default: 100.
	MaxCalls int `koanf:"max_calls"`
	// RequireExp refuses tokens that do not expire. Default: false.
	RequireExp bool `koanf:"require_exp"`
}

// Result is what an ingress platform is told when a call ends.
type Result string

// The results.
const (
	// ResultOK is the flow's ordinary exit.
	ResultOK Result = "ok"
	// ResultError is the flow's failure exit.
	ResultError Result = "error"
	// ResultEscalate hands the caller to a person.
	ResultEscalate Result = "escalate"
)

// Route leads calls from one instance to another.
type Route struct {
	// From is the ingress plugin instance.
	From string `koanf:"from"`
	// To is the egress plugin instance.
	To string `koanf:"to"`
	// Match must hold for the route to be taken: app, number (a star at the
	// end for a prefix), bot, account, or any parameter of the URL. Empty: all.
	Match map[string]string `koanf:"match"`
	// Headers are sent when the call is placed; values are templates over the
	// URL's and the stream's parameters.
	Headers map[string]*Template `koanf:"headers"`
	// Outcomes turn the end of the egress leg into a result; the first that
	// holds wins, the built-in ones come after them.
	Outcomes []Outcome `koanf:"outcomes"`
	// DefaultTarget is used where a target is empty or over 255 characters.
	DefaultTarget string `koanf:"default_target"`
	// DefaultResult is what a plain hang-up by the bot's side means. Required.
	DefaultResult Result `koanf:"default_result"`
}

// Outcome turns one way a call ends into what the platform is told.
type Outcome struct {
	// When says which ends are meant; all its keys must hold.
	When When `koanf:"when"`
	// Result is ok, error or escalate. Required.
	Result Result `koanf:"result"`
	// Target is a template for whom to escalate to, over header, headers.NAME
	// and the parameters.
	Target *Template `koanf:"target"`
	// Variables are templates for what platforms that take variables get.
	Variables map[string]*Template `koanf:"variables"`
}

// When says which ends of a call an outcome is for.
type When struct {
	// Header must be among the headers of the end. Nil: any.
	Header *HeaderMatch `koanf:"header"`
	// Reason is hangup, transfer, failed or lost. Empty: any.
	Reason string `koanf:"reason"`
}

// HeaderMatch asks for a header by name and, perhaps, value. Both compare
// without case.
type HeaderMatch struct {
	// Name is the header's name. Required.
	Name string `koanf:"name"`
	// Value must be equal; empty: any value.
	Value string `koanf:"value"`
}

// Default returns the configuration of an empty file. hostname becomes the
// node's name.
func Default(hostname string) *Config {
	return &Config{
		Node:  Node{Name: hostname},
		Log:   Log{Level: "info"},
		Admin: Admin{Listen: "127.0.0.1:8080"},
		Limits: Limits{
			MaxCalls:        1000,
			CallsPerSecond:  50,
			MaxCallDuration: 4 * time.Hour,
			SilenceTimeout:  30 * time.Second,
			DrainTimeout:    30 * time.Minute,
		},
		Records:   Records{Path: "var/records.jsonl", Rotate: 100e6},
		PluginDir: "bin/plugins",
	}
}

// defaulter fills in what an item of a list or map has when it says nothing.
type defaulter interface{ setDefaults() }

func (p *Plugin) setDefaults() { p.AutoMTLS, p.Instances = true, 1 }

func (a *App) setDefaults() { a.Auth, a.MaxCalls = AuthJWT, 100 }

// App returns the app of that name.
func (c *Config) App(name string) (App, bool) {
	for i := range c.Apps {
		if c.Apps[i].Name == name {
			return c.Apps[i], true
		}
	}
	return App{}, false
}
