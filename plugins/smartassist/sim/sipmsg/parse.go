package sipmsg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	version = "SIP/2.0"

	// MaxSize bounds a whole message in bytes: the largest UDP datagram.
	MaxSize = 64 << 10
	// maxHeaders bounds the header lines of one message.
	maxHeaders = 256
)

// Errors of the parser. Every error it returns wraps one of these.
var (
	// ErrMalformed marks a message that breaks the grammar of RFC 3261 §25.
	ErrMalformed = errors.New("malformed sip message")
	// ErrTooLarge marks a message over MaxSize bytes or with too many headers.
	ErrTooLarge = errors.New("sip message too large")
	// ErrLength marks a Content-Length that is missing on a stream, repeated
	// with another value, or longer than what arrived.
	ErrLength = errors.New("wrong sip content-length")
)

// compact maps the one-letter header names of RFC 3261 §7.3.3 and its
// extensions to the long ones.
func compact(name string) string {
	if len(name) != 1 {
		return name
	}
	switch name[0] | 0x20 {
	case 'i':
		return "Call-ID"
	case 'm':
		return "Contact"
	case 'e':
		return "Content-Encoding"
	case 'l':
		return contentLength
	case 'c':
		return "Content-Type"
	case 'f':
		return "From"
	case 's':
		return "Subject"
	case 'k':
		return "Supported"
	case 't':
		return "To"
	case 'v':
		return "Via"
	case 'r':
		return "Refer-To"
	case 'b':
		return "Referred-By"
	case 'o':
		return "Event"
	case 'u':
		return "Allow-Events"
	case 'x':
		return "Session-Expires"
	default:
		return name
	}
}

const contentLength = "Content-Length"

// Parse reads the one message a datagram holds. Octets past Content-Length are
// dropped; without Content-Length the body runs to the end of the datagram
// (RFC 3261 §18.3). The result shares no memory with b.
func Parse(b []byte) (*Message, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxSize)
	}
	for bytes.HasPrefix(b, []byte("\r\n")) { // RFC 3261 §7.5: ignore CRLF before the start line
		b = b[2:]
	}
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return nil, fmt.Errorf("%w: no empty line after the headers", ErrMalformed)
	}
	m, length, err := parseHead(string(head))
	if err != nil {
		return nil, err
	}
	if length > len(body) {
		return nil, fmt.Errorf("%w: %d announced, %d bytes of body came", ErrLength, length, len(body))
	}
	if length >= 0 {
		body = body[:length]
	}
	if len(body) > 0 {
		m.Body = bytes.Clone(body)
	}
	return m, nil
}

// parseHead parses start line and headers; the length is -1 without Content-Length.
func parseHead(head string) (*Message, int, error) {
	lines := strings.Split(head, "\r\n")
	m := &Message{}
	if err := m.parseStart(lines[0]); err != nil {
		return nil, 0, err
	}
	if len(lines)-1 > maxHeaders {
		return nil, 0, fmt.Errorf("%w: %d header lines, at most %d", ErrTooLarge, len(lines)-1, maxHeaders)
	}
	for _, line := range lines[1:] {
		if err := m.parseLine(line); err != nil {
			return nil, 0, err
		}
	}
	length, err := takeLength(m)
	return m, length, err
}

func (m *Message) parseStart(line string) error {
	if bad := strings.IndexFunc(line, isControl); bad >= 0 {
		return fmt.Errorf("%w: control character in start line", ErrMalformed)
	}
	first, rest, ok := strings.Cut(line, " ")
	if !ok {
		return fmt.Errorf("%w: start line %.40q", ErrMalformed, line)
	}
	if first == version {
		code, reason, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(code)
		if err != nil || len(code) != 3 || n < 100 || n > 699 {
			return fmt.Errorf("%w: status code %.20q", ErrMalformed, code)
		}
		m.Status, m.Reason = n, reason
		return nil
	}
	uri, v, ok := strings.Cut(rest, " ")
	if !ok || v != version || uri == "" || !isToken(first) {
		return fmt.Errorf("%w: request line %.60q", ErrMalformed, line)
	}
	m.Method, m.URI = first, uri
	return nil
}

func (m *Message) parseLine(line string) error {
	if strings.IndexFunc(line, isControl) >= 0 {
		return fmt.Errorf("%w: control character (or a line end without CR) in a header", ErrMalformed)
	}
	if line[:min(1, len(line))] == " " || line[:min(1, len(line))] == "\t" {
		// RFC 3261 §7.3.1: a line that starts with white space continues the one before.
		if len(m.Headers) == 0 {
			return fmt.Errorf("%w: continuation before the first header", ErrMalformed)
		}
		last := &m.Headers[len(m.Headers)-1]
		last.Value = strings.Trim(last.Value+" "+strings.Trim(line, " \t"), " \t")
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || !isToken(name) {
		return fmt.Errorf("%w: header line %.40q", ErrMalformed, line)
	}
	m.Add(compact(name), strings.Trim(value, " \t"))
	return nil
}

// takeLength removes Content-Length from the headers and returns its value, -1 when absent.
func takeLength(m *Message) (int, error) {
	length := -1
	for _, v := range m.Values(contentLength) {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%w: %.20q is no length", ErrLength, v)
		}
		if length >= 0 && length != int(n) { // 31 bits
			return 0, fmt.Errorf("%w: given twice, %d and %d", ErrLength, length, n)
		}
		length = int(n) // 31 bits
	}
	m.Del(contentLength)
	return length, nil
}

func isControl(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f }

// isToken is the token of RFC 3261 §25.1.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("-.!%*_+`'~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// Reader takes messages off a stream (TCP, TLS).
type Reader struct {
	br *bufio.Reader
	// Ping, when set, is called for each keep-alive (CRLFCRLF) a peer sends between messages,
	// to answer it with CRLF (RFC 5626 §3.5.1).
	Ping func()
}

// NewReader returns a Reader over r.
func NewReader(r io.Reader) *Reader { return &Reader{br: bufio.NewReaderSize(r, 4096)} }

// Next returns the next message. It returns io.EOF at the end of the stream
// between two messages and io.ErrUnexpectedEOF inside one. After any other error
// the stream has lost its framing and must be closed (RFC 3261 §18.3).
func (r *Reader) Next() (*Message, error) {
	head, err := r.head()
	if err != nil {
		return nil, err
	}
	m, length, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		return nil, fmt.Errorf("%w: missing on a stream", ErrLength)
	}
	if length > MaxSize {
		return nil, fmt.Errorf("%w: body of %d bytes", ErrTooLarge, length)
	}
	if length > 0 {
		m.Body = make([]byte, length)
		if _, err := io.ReadFull(r.br, m.Body); err != nil {
			return nil, fmt.Errorf("read sip body: %w", midMessage(err))
		}
	}
	return m, nil
}

// head reads up to the empty line and returns what is before it.
func (r *Reader) head() (string, error) {
	var b strings.Builder
	blank := 0
	for {
		line, err := r.br.ReadSlice('\n')
		if b.Len()+len(line) > MaxSize || errors.Is(err, bufio.ErrBufferFull) {
			return "", fmt.Errorf("%w: headers", ErrTooLarge)
		}
		if err != nil {
			if b.Len() == 0 && len(line) == 0 && errors.Is(err, io.EOF) {
				return "", io.EOF
			}
			return "", fmt.Errorf("read sip headers: %w", midMessage(err))
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			return "", fmt.Errorf("%w: line end without CR", ErrMalformed)
		}
		if len(line) == 2 && b.Len() == 0 {
			if blank++; blank%2 == 0 && r.Ping != nil {
				r.Ping()
			}
			continue
		}
		if len(line) == 2 {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		b.Write(line)
	}
}

func midMessage(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
