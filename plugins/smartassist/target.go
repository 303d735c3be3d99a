package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Transports a trunk target is reached by, spelled as in a Via header.
const (
	transportUDP = "UDP"
	transportTCP = "TCP"
	transportTLS = "TLS"
)

// target is one SIP peer of the trunk.
type target struct {
	host      string // name or IP literal, without brackets
	port      int
	transport string
}

// parseTarget reads `sip:host[:port][;transport=udp|tcp|tls]`.
func parseTarget(s string) (target, error) {
	rest, found := strings.CutPrefix(s, "sip:")
	switch {
	case strings.HasPrefix(s, "sips:"):
		return target{}, errors.New("the sips scheme is not used here: write sip:host:5061;transport=tls")
	case !found:
		return target{}, errors.New("is no sip: URI")
	case strings.ContainsAny(rest, "@<>?,\" \t\r\n"):
		return target{}, errors.New("holds more than host, port and transport (the user part comes from the number called)")
	}
	hostPort, params, _ := strings.Cut(rest, ";")
	t := target{transport: transportUDP}
	if params != "" {
		name, value, _ := strings.Cut(params, "=")
		if !strings.EqualFold(name, "transport") {
			return target{}, fmt.Errorf("parameter %q is not known", name)
		}
		t.transport = strings.ToUpper(value)
	}
	switch t.transport {
	case transportUDP, transportTCP:
		t.port = 5060
	case transportTLS:
		t.port = 5061
	default:
		return target{}, fmt.Errorf("transport %q is not udp, tcp or tls", strings.ToLower(t.transport))
	}
	return t, t.setHostPort(hostPort)
}

func (t *target) setHostPort(hostPort string) error {
	t.host = strings.Trim(hostPort, "[]")
	if host, port, err := net.SplitHostPort(hostPort); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535", port)
		}
		t.host, t.port = host, int(n)
	}
	if _, err := netip.ParseAddr(t.host); err == nil {
		return nil
	}
	if !validHostName(t.host) {
		return fmt.Errorf("%q is neither a host name nor an IP address", t.host)
	}
	return nil
}

func validHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isAlphanumeric(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// String is the target as an operator writes it.
func (t target) String() string {
	return "sip:" + net.JoinHostPort(t.host, strconv.Itoa(t.port)) + ";transport=" + strings.ToLower(t.transport)
}
