package main

import (
	"bytes"
	_ "embed" // the schema
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

//go:embed config.schema.json
var configSchema string

// config is the plugin's block of the operator's file.
type config struct {
	Listen         string         `json:"listen"`
	Path           string         `json:"path"`
	TLS            tlsFiles       `json:"tls"`
	AllowPlain     bool           `json:"allow_plain"`
	TrustedProxies []string       `json:"trusted_proxies"`
	Commands       commandStrings `json:"commands"`
	CloseGrace     string         `json:"close_grace"`
}

type tlsFiles struct {
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
}

// commandStrings are what stop.command says for each result. Only "escalate" is
// well attested, so all three can be changed.
type commandStrings struct {
	OK       string `json:"ok"`
	Error    string `json:"error"`
	Escalate string `json:"escalate"`
}

// settings are a config that has been checked, and the protocol's time limits.
type settings struct {
	listen     string
	path       string // without a trailing slash
	tls        tlsFiles
	proxies    []netip.Prefix
	commands   commandStrings
	closeGrace time.Duration

	startTimeout  time.Duration // from the upgrade to start
	drainTimeout  time.Duration // for the echo of the final mark
	lately        time.Duration // audio sent longer ago than this has been played
	closeTimeout  time.Duration // for the peer's close frame
	shutdownGrace time.Duration // instead of closeGrace when the process ends
	pingInterval  time.Duration
	pongTimeout   time.Duration
}

const (
	maxCloseGrace = time.Minute
	maxCommand    = 64 // characters; the longest known is "escalate"
)

func defaultConfig() config {
	return config{
		Listen: "127.0.0.1:8443", Path: defaultPath,
		Commands:   commandStrings{OK: "ok", Error: "error", Escalate: "escalate"},
		CloseGrace: "5s",
	}
}

// parseConfig reads the block and returns all that is wrong with it at once.
func parseConfig(block json.RawMessage) (*settings, error) {
	c := defaultConfig()
	if len(bytes.TrimSpace(block)) > 0 {
		d := json.NewDecoder(bytes.NewReader(block))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return nil, sdk.FieldErrors{{Pointer: "", Problem: "cannot be read: " + err.Error(), Mend: "see plugins/talkdesk/README.md for the keys"}}
		}
	}
	var errs sdk.FieldErrors
	fail := func(pointer, problem, mend string) {
		errs = append(errs, sdk.FieldError{Pointer: pointer, Problem: problem, Mend: mend})
	}
	s := &settings{
		listen: c.Listen, tls: c.TLS, commands: c.Commands,
		startTimeout: 10 * time.Second, drainTimeout: 2 * time.Second, lately: time.Second,
		closeTimeout: time.Second, shutdownGrace: time.Second,
		pingInterval: 20 * time.Second, pongTimeout: 10 * time.Second,
	}
	c.checkListen(fail)
	s.path = c.checkPath(fail)
	s.proxies = c.checkProxies(fail)
	c.checkCommands(fail)
	var err error
	if s.closeGrace, err = time.ParseDuration(c.CloseGrace); err != nil || s.closeGrace < 0 || s.closeGrace > maxCloseGrace {
		fail("/close_grace", fmt.Sprintf("%q is no duration from 0s to %s", c.CloseGrace, maxCloseGrace), "write e.g. 5s")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

func (c *config) checkListen(fail func(pointer, problem, mend string)) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		fail("/listen", fmt.Sprintf("%q is no host:port", c.Listen), "write e.g. 127.0.0.1:8443")
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		fail("/listen", fmt.Sprintf("%q is no port", port), "write a number from 0 to 65535")
	}
	switch {
	case c.TLS.CertFile != "" && c.TLS.KeyFile == "":
		fail("/tls/key_file", "is empty while tls.cert_file is set", "name the key's PEM file")
	case c.TLS.CertFile == "" && c.TLS.KeyFile != "":
		fail("/tls/cert_file", "is empty while tls.key_file is set", "name the PEM file of the full chain")
	case c.TLS.CertFile == "" && !c.AllowPlain && !isLoopback(host):
		fail("/listen", "plain ws beyond loopback would carry tokens in the clear",
			"set tls.cert_file and tls.key_file, listen on 127.0.0.1, or set allow_plain: true where a TLS proxy is in front")
	}
}

func (c *config) checkPath(fail func(pointer, problem, mend string)) string {
	path := strings.TrimSuffix(c.Path, "/")
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#% \t\r\n") || strings.Contains(path, "//") || strings.Contains(path, "/.") {
		fail("/path", fmt.Sprintf("%q is no plain absolute path", c.Path), "write e.g. "+defaultPath)
	}
	return path
}

func (c *config) checkProxies(fail func(pointer, problem, mend string)) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(c.TrustedProxies))
	for i, text := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, errAddr := netip.ParseAddr(text)
			if errAddr != nil {
				fail(fmt.Sprintf("/trusted_proxies/%d", i), fmt.Sprintf("%q is no address and no network", text), "write e.g. 10.0.0.7 or 10.0.0.0/8")
				continue
			}
			addr = addr.Unmap()
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, prefix.Masked())
	}
	return out
}

func (c *config) checkCommands(fail func(pointer, problem, mend string)) {
	for _, command := range []struct{ key, value string }{
		{sdk.ResultOK, c.Commands.OK},
		{sdk.ResultError, c.Commands.Error},
		{sdk.ResultEscalate, c.Commands.Escalate},
	} {
		if command.value == "" || len(command.value) > maxCommand || strings.TrimSpace(command.value) != command.value {
			fail("/commands/"+command.key, fmt.Sprintf("%q is empty, padded or over %d characters", command.value, maxCommand), "write "+command.key)
		}
	}
}

// command is what stop.command says for a result; an unknown result is an error.
func (s *settings) command(result string) string {
	switch result {
	case sdk.ResultOK:
		return s.commands.OK
	case sdk.ResultEscalate:
		return s.commands.Escalate
	}
	return s.commands.Error
}

// isLoopback tells whether a listen or URL host stays on this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
