package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// minSecret keeps a secret from being guessed offline by whoever holds one
	// signed URL. RFC 7518 §3.2 asks for more; platforms hand out less.
	minSecret = 16
	// maxConcurrent is what 20-bit media slots can number (two streams a call).
	maxConcurrent = 500_000
	// maxTargetLength is the longest target an ingress platform is given.
	maxTargetLength = 255
)

var (
	instanceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)
	fileName     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hexDigest    = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	nodeName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$`)
)

// validator checks what the types cannot say.
type validator struct {
	*report
	cfg *Config
}

func (v *validator) config() {
	c := v.cfg
	if !nodeName.MatchString(c.Node.Name) {
		v.value(path{"node", "name"}, v.show(path{"node", "name"}, c.Node.Name)+" is not a name", "use letters, digits, dots and dashes, such as gw-1")
	}
	v.publicURL()
	v.oneOf(path{"log", "level"}, c.Log.Level, "debug", "info", "warn", "error")
	v.admin()
	v.limits()
	if c.Records.Path == "" {
		v.missing(path{"records", "path"}, "name a file, such as var/records.jsonl")
	}
	if c.Records.Rotate < 1e6 {
		v.value(path{"records", "rotate"}, "is under 1MB", "use at least 1MB; 100MB is usual")
	}
	if c.PluginDir == "" {
		v.missing(path{"plugin_dir"}, "name the folder of the plugins, such as bin/plugins")
	}
	v.plugins()
	v.apps()
	for i := range c.Routes {
		v.route(path{"routes", i}, &c.Routes[i])
	}
}

func (v *validator) show(p path, value string) string { return v.doc.quote(p, value) }

// oneOf checks a word against the words there are.
func (v *validator) oneOf(p path, value string, words ...string) {
	if !slices.Contains(words, value) {
		mend := "use " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
		if near := nearest(value, words); near != "" {
			mend = "did you mean " + near + "?"
		}
		v.value(p, v.show(p, value)+" is not known here", mend)
	}
}

// upTo checks a count of at least one.
func (v *validator) upTo(p path, value, high int) {
	if value < 1 || value > high {
		v.value(p, strconv.Itoa(value)+" is impossible", fmt.Sprintf("use a number from 1 to %d", high))
	}
}

func (v *validator) atLeast(p path, value, low time.Duration) {
	if value < low {
		v.value(p, value.String()+" is too short", "use at least "+low.String())
	}
}

func (v *validator) publicURL() {
	p, text := path{"node", "public_url"}, v.cfg.Node.PublicURL
	if text == "" {
		return
	}
	const mend = "write it like wss://voice.example.com"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		v.value(p, v.show(p, text)+" is not a URL", mend)
	case u.Scheme != "wss" && u.Scheme != "ws":
		v.value(p, "has the scheme "+quote(u.Scheme)+", want wss or ws", mend)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		v.value(p, "has more than scheme, host, port and path", mend)
	}
}

// address checks "host:port" and reports whether it is on loopback only.
func (v *validator) address(p path, text string) (loopback bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		v.value(p, v.show(p, text)+" is not an address", "write host and port, such as 127.0.0.1:8080")
		return false
	}
	if _, err = strconv.ParseUint(port, 10, 16); err != nil {
		v.value(p, v.show(p, text)+" has no usable port", "use a port from 0 to 65535; 0 takes a free one")
		return false
	}
	if host == "" || host == "localhost" {
		return host == "localhost"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		v.value(p, v.show(p, text)+" does not begin with an IP address", "use an address of this host, or 0.0.0.0 for all")
		return false
	}
	return addr.Unmap().IsLoopback()
}

func (v *validator) admin() {
	a := v.cfg.Admin
	listen := path{"admin", "listen"}
	local := v.address(listen, a.Listen)
	if (a.TLS.CertFile == "") != (a.TLS.KeyFile == "") {
		v.value(path{"admin", "tls"}, "has only one of cert_file and key_file", "give both, or neither for plain HTTP")
	}
	if n := len(a.Token.Reveal()); n > 0 && n < minSecret {
		v.value(path{"admin", "token"}, "is shorter than 16 characters", "use a longer one, such as the output of: openssl rand -hex 24")
	}
	if local || v.isBroken(listen) {
		return
	}
	if a.Token.IsZero() {
		v.missing(path{"admin", "token"}, "admin.listen is not loopback: set a token, such as ${env:ADMIN_TOKEN}, or listen on 127.0.0.1")
	}
	if a.TLS.CertFile == "" && !a.AllowPlain {
		v.value(listen, "is beyond loopback without TLS, which would show the token to the network",
			"set admin.tls, or admin.allow_plain: true behind a TLS proxy, or listen on 127.0.0.1")
	}
}

func (v *validator) limits() {
	l := v.cfg.Limits
	section := path{"limits"}
	v.upTo(section.with("max_calls"), l.MaxCalls, maxConcurrent)
	v.upTo(section.with("calls_per_second"), l.CallsPerSecond, 100_000)
	v.atLeast(section.with("max_call_duration"), l.MaxCallDuration, time.Second)
	v.atLeast(section.with("silence_timeout"), l.SilenceTimeout, time.Second)
	v.atLeast(section.with("drain_timeout"), l.DrainTimeout, 0)
}

func (v *validator) plugins() {
	for _, name := range slices.Sorted(maps.Keys(v.cfg.Plugins)) {
		p := path{"plugins", name}
		plugin := v.cfg.Plugins[name]
		switch {
		case strings.Contains(name, "."):
			v.key(p, "the instance's name has a dot in it, which separates levels elsewhere", "write it with dashes")
		case !instanceName.MatchString(name):
			v.key(p, "is not a name for an instance", "use up to 63 letters, digits, - and _, a letter or digit first")
		}
		if plugin.Plugin != "" && len(plugin.Command) > 0 {
			v.value(p.with("command"), "stands beside plugin", "keep plugin for an executable of plugin_dir, or command for anything else")
		}
		if len(plugin.Command) == 0 {
			if plugin.Plugin == "" {
				plugin.Plugin = name
			} else if !fileName.MatchString(plugin.Plugin) {
				v.value(p.with("plugin"), v.show(p.with("plugin"), plugin.Plugin)+" is not a file name", "name an executable in plugin_dir, without a folder; use command for others")
			}
		} else if plugin.Command[0] == "" {
			v.value(p.with("command", 0), "is empty", "name the program to run")
		}
		for _, key := range slices.Sorted(maps.Keys(plugin.Env)) {
			if !envName.MatchString(key) {
				v.key(p.with("env", key), "is not a name for a variable", "use letters, digits and _")
			}
		}
		if plugin.SHA256 != "" && !hexDigest.MatchString(plugin.SHA256) {
			v.value(p.with("sha256"), "is not 64 hexadecimal digits", "write what sha256sum prints for the executable, or leave it empty")
		}
		v.upTo(p.with("instances"), plugin.Instances, 64)
		v.cfg.Plugins[name] = plugin
	}
}

func (v *validator) apps() {
	names, ids := map[string]int{}, map[string]int{}
	for i := range v.cfg.Apps {
		app, p := &v.cfg.Apps[i], path{"apps", i}
		v.unique(p.with("name"), app.Name, names, i, "name the app; routes and records call it so")
		v.oneOf(p.with("auth"), string(app.Auth), string(AuthJWT), string(AuthHMAC), string(AuthPeer))
		if app.Auth == AuthPeer {
			v.peers(p, app)
		} else {
			v.unique(p.with("app_id"), app.AppID, ids, i, "write the id that tokens carry as appId, or signatures as key id")
			v.secrets(p, app)
		}
		v.allowed(p.with("bots"), app.Bots, `list the bot ids the app may ask for, or "*" for any`)
		v.allowed(p.with("accounts"), app.Accounts, `list the account ids the app may ask for, or "*" for any`)
		for j, id := range app.PlatformAccounts {
			v.notEmpty(p.with("platform_accounts", j), id)
		}
		if len(app.Numbers) == 0 {
			v.missing(p.with("numbers"), `list the numbers the app may dial, such as "+17344*"; there is no default, because any number would invite toll fraud`)
		}
		v.upTo(p.with("max_calls"), app.MaxCalls, maxConcurrent)
	}
}

// unique checks a required name that no other item may have.
func (v *validator) unique(p path, value string, seen map[string]int, index int, mend string) {
	first, twice := seen[value]
	switch {
	case value == "":
		v.missing(p, mend)
	case len(value) > 255 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		v.value(p, "is too long or has control characters", "use up to 255 printable characters")
	case twice:
		v.value(p, v.show(p, value)+fmt.Sprintf(" is taken by apps[%d]", first), "give each app its own")
	default:
		seen[value] = index
	}
}

func (v *validator) secrets(p path, app *App) {
	if len(app.Secrets) == 0 {
		v.missing(p.with("secrets"), `give the secret the platform signs with, such as ["${env:APP_SECRET}"]; two while rotating`)
	}
	if len(app.Secrets) > 4 {
		v.value(p.with("secrets"), "has more than 4 entries", "keep the ones in use; two are enough to rotate")
	}
	for i, s := range app.Secrets {
		if len(s.Reveal()) < minSecret {
			v.value(p.with("secrets", i), "is shorter than 16 characters and could be guessed from one signed URL", "use a longer one, such as the output of: openssl rand -hex 24")
		}
	}
}

// peers checks an app that is known by address: on this host only, because an
// address beyond it proves nothing.
func (v *validator) peers(p path, app *App) {
	if len(app.Secrets) > 0 {
		v.value(p.with("secrets"), "stands beside auth: peer, which checks none", "remove the secrets or use auth: jwt")
	}
	for i, text := range app.Peers {
		prefix, err := ParsePeer(text)
		switch {
		case err != nil:
			v.value(p.with("peers", i), v.show(p.with("peers", i), text)+" is not an address", "write an address or prefix, such as 127.0.0.1 or ::1")
		case !prefix.Addr().IsLoopback():
			v.value(p.with("peers", i), "is not a loopback address", "auth: peer is for ingress on this host; use jwt or hmac beyond it")
		}
	}
}

// ParsePeer reads an address or a prefix of addresses.
func ParsePeer(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("parse address prefix: %w", err)
	}
	return prefix.Masked(), nil
}

func (v *validator) allowed(p path, ids []string, mend string) {
	if len(ids) == 0 {
		v.missing(p, mend)
	}
	for i, id := range ids {
		v.notEmpty(p.with(i), id)
	}
}

func (v *validator) notEmpty(p path, text string) {
	if text == "" {
		v.value(p, "is empty", "write a value or remove it")
	}
}
