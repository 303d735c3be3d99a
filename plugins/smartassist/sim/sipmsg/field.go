package sipmsg

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Param is one parameter; Value is empty for a flag such as lr.
type Param struct{ Name, Value string }

// Params is a parameter list in order.
type Params []Param

// Get returns a parameter's value and whether it is there. Names compare without case.
func (p Params) Get(name string) (string, bool) {
	for _, q := range p {
		if strings.EqualFold(q.Name, name) {
			return q.Value, true
		}
	}
	return "", false
}

func (p Params) String() string {
	var b strings.Builder
	for _, q := range p {
		b.WriteByte(';')
		b.WriteString(q.Name)
		if q.Value != "" {
			b.WriteByte('=')
			b.WriteString(q.Value)
		}
	}
	return b.String()
}

// SplitList splits a header value at the commas outside quotes and angle brackets.
func SplitList(v string) []string {
	var out []string
	for _, s := range splitOutside(v, ',') {
		if s = strings.Trim(s, " \t"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// splitOutside splits at sep outside quoted strings and <…>.
func splitOutside(v string, sep byte) []string {
	var out []string
	start, quoted, angle := 0, false, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == sep && !angle:
			out = append(out, v[start:i])
			start = i + 1
		}
	}
	return append(out, v[start:])
}

func parseParams(s string) Params {
	var out Params
	for _, part := range splitOutside(s, ';') {
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		out = append(out, Param{Name: strings.TrimRight(name, " \t"), Value: strings.TrimLeft(value, " \t")})
	}
	return out
}

// NameAddr is the value of From, To, Contact, Route, Record-Route and Refer-To.
type NameAddr struct {
	Display string
	URI     string
	Params  Params
}

// Tag returns the tag parameter, or "".
func (a NameAddr) Tag() string { v, _ := a.Params.Get("tag"); return v }

// ParseNameAddr reads a name-addr or addr-spec. Without angle brackets what follows the first
// semicolon belongs to the header, not to the URI (RFC 3261 §20.10).
func ParseNameAddr(v string) (NameAddr, error) {
	open := indexOutsideQuotes(v, '<')
	if open < 0 {
		uri, params, _ := strings.Cut(v, ";")
		uri = strings.Trim(uri, " \t")
		if uri == "" || strings.ContainsAny(uri, " \t\"<>") {
			return NameAddr{}, fmt.Errorf("%w: address %.60q", ErrMalformed, v)
		}
		return NameAddr{URI: uri, Params: parseParams(params)}, nil
	}
	end := strings.IndexByte(v[open:], '>')
	if end < 0 {
		return NameAddr{}, fmt.Errorf("%w: address %.60q: no >", ErrMalformed, v)
	}
	a := NameAddr{URI: v[open+1 : open+end], Display: strings.Trim(v[:open], " \t\"")}
	rest := strings.TrimLeft(v[open+end+1:], " \t")
	if a.URI == "" || rest != "" && rest[0] != ';' {
		return NameAddr{}, fmt.Errorf("%w: address %.60q", ErrMalformed, v)
	}
	a.Params = parseParams(rest)
	return a, nil
}

func indexOutsideQuotes(v string, want byte) int {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == want && !quoted:
			return i
		}
	}
	return -1
}

// URI is a sip or sips URI.
type URI struct {
	Scheme string
	User   string
	Host   string // without the brackets of an IPv6 literal
	Port   int    // 0 when not given
	Params Params
}

// ParseURI reads a sip: or sips: URI; headers after ? are dropped.
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	u := URI{Scheme: strings.ToLower(scheme)}
	if !ok || u.Scheme != "sip" && u.Scheme != "sips" {
		return URI{}, fmt.Errorf("%w: %.60q is no sip uri", ErrMalformed, s)
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		u.User, _, _ = strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	hostport, params, _ := strings.Cut(rest, ";")
	u.Params = parseParams(params)
	var err error
	if u.Host, u.Port, err = splitHostPort(hostport); err != nil {
		return URI{}, fmt.Errorf("%w: uri %.60q: %s", ErrMalformed, s, err.Error())
	}
	return u, nil
}

func splitHostPort(s string) (host string, port int, err error) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host = s[:i]
		if port, err = strconv.Atoi(s[i+1:]); err != nil || port < 1 || port > 65535 {
			return "", 0, fmt.Errorf("port %.10q", s[i+1:])
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.ContainsAny(host, " \t<>\"@") {
		return "", 0, fmt.Errorf("host %.40q", host)
	}
	return host, port, nil
}

// Via is one Via value.
type Via struct {
	Transport string // UDP, TCP, TLS, …
	Host      string
	Port      int // 0 when not given
	Params    Params
}

// ParseVia reads one Via value (RFC 3261 §20.42).
func ParseVia(v string) (Via, error) {
	proto, rest, ok := strings.Cut(strings.Trim(v, " \t"), " ")
	parts := strings.Split(proto, "/")
	if !ok || len(parts) != 3 || !strings.EqualFold(parts[0]+"/"+parts[1], version) || !isToken(parts[2]) {
		return Via{}, fmt.Errorf("%w: via %.60q", ErrMalformed, v)
	}
	sentBy, params, _ := strings.Cut(rest, ";")
	host, port, err := splitHostPort(strings.Trim(sentBy, " \t"))
	if err != nil {
		return Via{}, fmt.Errorf("%w: via %.60q: %s", ErrMalformed, v, err.Error())
	}
	return Via{Transport: strings.ToUpper(parts[2]), Host: host, Port: port, Params: parseParams(params)}, nil
}

// Branch returns the branch parameter, or "".
func (v Via) Branch() string { b, _ := v.Params.Get("branch"); return b }

// SentBy returns host and port as the transaction key uses them (RFC 3261 §17.2.3).
func (v Via) SentBy() string { return net.JoinHostPort(strings.ToLower(v.Host), strconv.Itoa(v.Port)) }

func (v Via) String() string {
	host := v.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if v.Port != 0 {
		host += ":" + strconv.Itoa(v.Port)
	}
	return version + "/" + v.Transport + " " + host + v.Params.String()
}

// CSeq is the value of the CSeq header.
type CSeq struct {
	Number uint32
	Method string
}

// ParseCSeq reads a CSeq value (RFC 3261 §8.1.1.5: below 2^31).
func ParseCSeq(v string) (CSeq, error) {
	num, method, ok := strings.Cut(v, " ")
	n, err := strconv.ParseUint(num, 10, 31)
	method = strings.Trim(method, " \t")
	if !ok || err != nil || !isToken(method) {
		return CSeq{}, fmt.Errorf("%w: cseq %.40q", ErrMalformed, v)
	}
	return CSeq{Number: uint32(n), Method: method}, nil // 31 bits
}

func (c CSeq) String() string { return strconv.FormatUint(uint64(c.Number), 10) + " " + c.Method }
