// Package sdp reads SDP offers and answers and writes the simulator's own, from
// RFC 4566, RFC 8866 and RFC 3264. It knows one audio stream over RTP/AVP, which
// is all a SmartAssist trunk uses, and lists what is wrong with the peer's SDP
// where the peer could still be understood.
package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ErrMalformed marks a description that cannot be used; every error of Parse wraps it.
var ErrMalformed = errors.New("malformed sdp")

// maxSize bounds a description in bytes.
const maxSize = 16 << 10

// Direction is the media direction as its owner states it.
type Direction string

// The directions of RFC 3264 §6.1.
const (
	SendRecv Direction = "sendrecv"
	SendOnly Direction = "sendonly"
	RecvOnly Direction = "recvonly"
	Inactive Direction = "inactive"
)

// Reverse returns the direction that answers d.
func (d Direction) Reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	case SendRecv, Inactive:
		return d
	default:
		return SendRecv
	}
}

// Codec is one payload type of the audio line.
type Codec struct {
	PayloadType int
	Name        string // upper case: PCMU, PCMA, TELEPHONE-EVENT
	ClockRate   int
	Fmtp        string
}

// Session is one parsed description.
type Session struct {
	SessionID string // of o=
	Version   string // of o=
	Addr      netip.AddrPort
	RTCP      netip.AddrPort // a=rtcp, else the port above
	Profile   string         // RTP/AVP, RTP/SAVP, …
	Codecs    []Codec        // in the order of preference
	Ptime     int            // milliseconds; 0 when not given
	Direction Direction
	// Problems are breaches of the grammar that did not stop the parser.
	Problems []string
}

// PayloadTypes returns the payload types in their order.
func (s *Session) PayloadTypes() []int {
	out := make([]int, 0, len(s.Codecs))
	for _, c := range s.Codecs {
		out = append(out, c.PayloadType)
	}
	return out
}

// Find returns the first codec with a name (any case) at 8000 Hz.
func (s *Session) Find(name string) (Codec, bool) {
	i := slices.IndexFunc(s.Codecs, func(c Codec) bool {
		return strings.EqualFold(c.Name, name) && c.ClockRate == 8000
	})
	if i < 0 {
		return Codec{}, false
	}
	return s.Codecs[i], true
}

// parser carries the state that is not part of the result.
type parser struct {
	s          *Session
	seen       string // the type letters, in order
	conn       netip.Addr
	mediaConn  netip.Addr
	port       int
	rtcp       string
	audio      bool // the lines belong to the audio section
	inMedia    bool
	audioFound bool
	formats    []int
	codecs     map[int]Codec
	sessionDir Direction
}

// Parse reads a description and takes its first audio line.
func Parse(b []byte) (*Session, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(b), maxSize)
	}
	p := &parser{s: &Session{}, codecs: map[int]Codec{}, sessionDir: SendRecv}
	text := string(b)
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		p.problem("line end without CR") // RFC 8866 §5: CRLF, though parsers should take LF
	}
	if !strings.HasSuffix(text, "\n") {
		p.problem("last line is not ended")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 2 || line[1] != '=' {
			return nil, fmt.Errorf("%w: line %.40q", ErrMalformed, line)
		}
		if err := p.line(line[0], line[2:]); err != nil {
			return nil, err
		}
	}
	return p.finish()
}

func (p *parser) problem(format string, args ...any) {
	p.s.Problems = append(p.s.Problems, fmt.Sprintf(format, args...))
}

func (p *parser) line(kind byte, value string) error {
	p.seen += string(kind)
	switch kind {
	case 'v':
		if value != "0" {
			return fmt.Errorf("%w: version %.10q", ErrMalformed, value)
		}
	case 'o':
		f := strings.Fields(value)
		if len(f) != 6 || f[3] != "IN" {
			p.problem("o= has %d fields, want 6", len(f))
			return nil
		}
		p.s.SessionID, p.s.Version = f[1], f[2]
	case 'c':
		addr, err := parseConnection(value)
		if err != nil {
			return err
		}
		switch {
		case !p.inMedia:
			p.conn = addr
		case p.audio:
			p.mediaConn = addr
		}
	case 'm':
		return p.media(value)
	case 'a':
		return p.attribute(value)
	}
	return nil
}

func parseConnection(value string) (netip.Addr, error) {
	f := strings.Fields(value)
	if len(f) != 3 || f[0] != "IN" || f[1] != "IP4" && f[1] != "IP6" {
		return netip.Addr{}, fmt.Errorf("%w: connection line %.60q", ErrMalformed, value)
	}
	addr, err := netip.ParseAddr(f[2])
	if err != nil || addr.Is4() != (f[1] == "IP4") || addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%w: connection address %.60q", ErrMalformed, f[2])
	}
	return addr, nil
}

// media reads an m= line; lines after it belong to it until the next one.
func (p *parser) media(value string) error {
	f := strings.Fields(value)
	p.inMedia = true
	p.audio = len(f) > 0 && f[0] == "audio" && !p.audioFound
	if !p.audio {
		return nil
	}
	p.audioFound = true
	if len(f) < 4 {
		return fmt.Errorf("%w: media line %.60q", ErrMalformed, value)
	}
	port, err := strconv.ParseUint(f[1], 10, 16)
	if err != nil {
		return fmt.Errorf("%w: media port %.20q", ErrMalformed, f[1])
	}
	p.port, p.s.Profile = int(port), f[2]
	for _, v := range f[3:] {
		pt, err := strconv.ParseUint(v, 10, 7)
		if err != nil {
			return fmt.Errorf("%w: payload type %.20q", ErrMalformed, v)
		}
		if slices.Contains(p.formats, int(pt)) {
			p.problem("payload type %d twice", pt)
			continue
		}
		p.formats = append(p.formats, int(pt))
	}
	return nil
}

func (p *parser) attribute(value string) error {
	name, arg, _ := strings.Cut(value, ":")
	switch d := Direction(name); d {
	case SendRecv, SendOnly, RecvOnly, Inactive:
		switch {
		case !p.inMedia:
			p.sessionDir = d
		case p.audio:
			p.s.Direction = d
		}
		return nil
	}
	if !p.audio {
		return nil
	}
	switch name {
	case "rtpmap":
		return p.rtpmap(arg)
	case "fmtp":
		pt, params, ok := strings.Cut(arg, " ")
		if n, err := strconv.Atoi(pt); ok && err == nil {
			c := p.codecs[n]
			c.Fmtp = params
			p.codecs[n] = c
		} else {
			p.problem("fmtp %.40q", arg)
		}
	case "ptime":
		if n, err := strconv.Atoi(arg); err == nil && n >= 1 && n <= 1000 {
			p.s.Ptime = n
		} else {
			p.problem("ptime %.20q", arg)
		}
	case "rtcp":
		p.rtcp = arg
	}
	return nil
}

func (p *parser) rtpmap(arg string) error {
	pt, enc, ok := strings.Cut(arg, " ")
	n, err := strconv.ParseUint(pt, 10, 7)
	parts := strings.Split(enc, "/")
	if !ok || err != nil || len(parts) < 2 {
		return fmt.Errorf("%w: rtpmap %.40q", ErrMalformed, arg)
	}
	rate, err := strconv.Atoi(parts[1])
	if err != nil || rate < 1 {
		return fmt.Errorf("%w: rtpmap %.40q", ErrMalformed, arg)
	}
	if !slices.Contains(p.formats, int(n)) {
		p.problem("rtpmap for payload type %d, which the m= line does not list", n)
	}
	c := p.codecs[int(n)]
	c.Name, c.ClockRate = strings.ToUpper(parts[0]), rate
	p.codecs[int(n)] = c
	return nil
}

// finish checks what only the whole description shows.
func (p *parser) finish() (*Session, error) {
	if !p.audioFound {
		return nil, fmt.Errorf("%w: no m=audio line", ErrMalformed)
	}
	if !strings.HasPrefix(p.seen, "vos") || !strings.Contains(p.seen, "t") {
		p.problem("v=, o=, s= must come first, in this order, and t= must be there") // RFC 8866 §5
	}
	addr := p.mediaConn
	if !addr.IsValid() {
		addr = p.conn
	}
	if !addr.IsValid() {
		return nil, fmt.Errorf("%w: no c= line", ErrMalformed)
	}
	p.s.Addr = netip.AddrPortFrom(addr, uint16(p.port))   // parsed as 16 bits
	p.s.RTCP = netip.AddrPortFrom(addr, uint16(p.port)+1) // wraps to 0 at 65535, which is never sent to
	if f := strings.Fields(p.rtcp); len(f) > 0 {          // RFC 3605
		if n, err := strconv.ParseUint(f[0], 10, 16); err == nil {
			p.s.RTCP = netip.AddrPortFrom(addr, uint16(n))
		}
	}
	if p.s.Direction == "" {
		p.s.Direction = p.sessionDir
	}
	for _, pt := range p.formats {
		c := p.codecs[pt]
		c.PayloadType = pt
		if c.Name == "" {
			c.Name, c.ClockRate = static(pt)
		}
		if c.Name == "" {
			p.problem("dynamic payload type %d without rtpmap", pt)
			continue
		}
		p.s.Codecs = append(p.s.Codecs, c)
	}
	return p.s, nil
}

// static returns what RFC 3551 §6 assigns to the payload types a trunk uses without rtpmap.
func static(pt int) (name string, rate int) {
	switch pt {
	case 0:
		return "PCMU", 8000
	case 3:
		return "GSM", 8000
	case 8:
		return "PCMA", 8000
	case 9:
		return "G722", 8000
	case 13:
		return "CN", 8000
	case 18:
		return "G729", 8000
	default:
		return "", 0
	}
}

// Local is what the simulator says of itself.
type Local struct {
	SessionID uint64
	Version   uint64 // raised with each change (RFC 3264 §8)
	Addr      netip.AddrPort
	Codecs    []Codec
	Direction Direction
}

// Bytes writes the description.
func (l Local) Bytes() []byte {
	family := "IP4"
	if l.Addr.Addr().Is6() {
		family = "IP6"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=bot %d %d IN %s %s\r\ns=bot\r\nc=IN %s %s\r\nt=0 0\r\n",
		l.SessionID, l.Version, family, l.Addr.Addr(), family, l.Addr.Addr())
	fmt.Fprintf(&b, "m=audio %d RTP/AVP", l.Addr.Port())
	for _, c := range l.Codecs {
		fmt.Fprintf(&b, " %d", c.PayloadType)
	}
	b.WriteString("\r\n")
	for _, c := range l.Codecs {
		name := c.Name
		if name == "TELEPHONE-EVENT" {
			name = "telephone-event"
		}
		fmt.Fprintf(&b, "a=rtpmap:%d %s/%d\r\n", c.PayloadType, name, c.ClockRate)
		if c.Fmtp != "" {
			fmt.Fprintf(&b, "a=fmtp:%d %s\r\n", c.PayloadType, c.Fmtp)
		}
	}
	fmt.Fprintf(&b, "a=ptime:20\r\na=%s\r\n", l.Direction)
	return []byte(b.String())
}
