// Package sipmsg reads and writes SIP messages for the SmartAssist simulator.
//
// It is written from RFC 3261 and knows nothing of the SIP stack the plugin
// uses, so that the plugin and its test peer cannot share a mistake. It is
// strict where a real border controller would be (line ends, Content-Length,
// header names) because its purpose is to notice what a peer does wrong.
package sipmsg

import (
	"bytes"
	"strconv"
	"strings"
)

// Header is one header field, in the order and spelling it had on the wire,
// except that compact names are written out (RFC 3261 §7.3.3).
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Message is a request (Method set) or a response (Status set).
//
// Content-Length is not among Headers: Bytes writes it from the body, and the
// parser has checked it against what arrived.
type Message struct {
	Method  string
	URI     string
	Status  int
	Reason  string
	Headers []Header
	Body    []byte
}

// NewRequest returns a request without headers.
func NewRequest(method, uri string) *Message { return &Message{Method: method, URI: uri} }

// NewResponse returns a response that carries the headers of the request that
// every response repeats: Via, From, To, Call-ID and CSeq (RFC 3261 §8.2.6.2).
func NewResponse(req *Message, status int, reason string) *Message {
	if reason == "" {
		reason = ReasonPhrase(status)
	}
	res := &Message{Status: status, Reason: reason}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range req.Values(name) {
			res.Add(name, v)
		}
	}
	return res
}

// IsRequest tells a request from a response.
func (m *Message) IsRequest() bool { return m.Method != "" }

// Get returns the first value of a header, or "". Names compare without case.
func (m *Message) Get(name string) string {
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Has reports whether the header is present, even when its value is empty.
func (m *Message) Has(name string) bool {
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}

// Values returns all values of a header, one per header line.
func (m *Message) Values(name string) []string {
	var out []string
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			out = append(out, h.Value)
		}
	}
	return out
}

// List returns the elements of a comma-separated header over all its lines, as
// Via, Route, Record-Route and Contact may be split (RFC 3261 §7.3.1).
func (m *Message) List(name string) []string {
	var out []string
	for _, v := range m.Values(name) {
		out = append(out, SplitList(v)...)
	}
	return out
}

// Add appends a header line.
func (m *Message) Add(name, value string) {
	m.Headers = append(m.Headers, Header{Name: name, Value: value})
}

// Set replaces the first line of a header and removes the others; it appends
// the header when there was none.
func (m *Message) Set(name, value string) {
	out, done := m.Headers[:0:0], false
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, name) {
			out = append(out, h)
			continue
		}
		if !done {
			out, done = append(out, Header{Name: h.Name, Value: value}), true
		}
	}
	if !done {
		out = append(out, Header{Name: name, Value: value})
	}
	m.Headers = out
}

// Del removes every line of a header.
func (m *Message) Del(name string) {
	out := m.Headers[:0:0]
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, name) {
			out = append(out, h)
		}
	}
	m.Headers = out
}

// Clone returns a copy that shares nothing with m.
func (m *Message) Clone() *Message {
	c := *m
	c.Headers = append([]Header(nil), m.Headers...)
	c.Body = bytes.Clone(m.Body)
	return &c
}

// Bytes writes the message as it goes on the wire, Content-Length last and always present
// (RFC 3261 §20.14: mandatory over streams).
func (m *Message) Bytes() []byte {
	var b bytes.Buffer
	b.WriteString(m.StartLine())
	b.WriteString("\r\n")
	for _, h := range m.Headers {
		b.WriteString(h.Name)
		b.WriteString(": ")
		b.WriteString(h.Value)
		b.WriteString("\r\n")
	}
	b.WriteString("Content-Length: ")
	b.WriteString(strconv.Itoa(len(m.Body)))
	b.WriteString("\r\n\r\n")
	b.Write(m.Body)
	return b.Bytes()
}

// StartLine returns the request line or the status line, without CRLF.
func (m *Message) StartLine() string {
	if m.IsRequest() {
		return m.Method + " " + m.URI + " " + version
	}
	return version + " " + strconv.Itoa(m.Status) + " " + m.Reason
}

// ReasonPhrase returns the phrase RFC 3261 §21 gives a status code, or
// "Unknown".
func ReasonPhrase(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	default:
		return "Unknown"
	}
}
