package main

import (
	"encoding/base64"
	"unicode/utf8"
)

// encoder writes our messages. Every append method writes one whole message
// behind dst, which the caller reuses, so that sending allocates nothing.
type encoder struct {
	mediaHead []byte // {"event":"media","streamSid":"…","media":{"payload":"
	sid       []byte // the stream's id as a JSON string
}

func newEncoder(streamSid string) encoder {
	sid := appendJSONString(nil, streamSid)
	head := append([]byte(`{"event":"media","streamSid":`), sid...)
	return encoder{mediaHead: append(head, `,"media":{"payload":"`...), sid: sid}
}

func (e *encoder) appendMedia(dst, audio []byte) []byte {
	dst = append(dst, e.mediaHead...)
	dst = base64.StdEncoding.AppendEncode(dst, audio)
	return append(dst, `"}}`...)
}

func (e *encoder) appendMark(dst []byte, name string) []byte {
	dst = e.appendHead(dst, `{"event":"mark","streamSid":`)
	dst = append(dst, `,"mark":{"name":`...)
	dst = appendJSONString(dst, name)
	return append(dst, `}}`...)
}

func (e *encoder) appendClear(dst []byte) []byte {
	return append(e.appendHead(dst, `{"event":"clear","streamSid":`), '}')
}

func (e *encoder) appendHead(dst []byte, head string) []byte {
	return append(append(dst, head...), e.sid...)
}

// stopMessage is our last message: the result of the platform's voice step.
type stopMessage struct {
	AccountSid, CallSid string // echoed from start
	Command             string
	// RingGroup goes out with an escalation only; empty: left out.
	RingGroup string
}

// appendStop writes the stop message. Its sequenceNumber is the string "1": it
// is the only message of ours that carries one.
func (e *encoder) appendStop(dst []byte, m stopMessage) []byte {
	dst = e.appendHead(dst, `{"event":"stop","sequenceNumber":"1","streamSid":`)
	dst = append(dst, `,"stop":{"accountSid":`...)
	dst = appendJSONString(dst, m.AccountSid)
	dst = append(dst, `,"callSid":`...)
	dst = appendJSONString(dst, m.CallSid)
	dst = append(dst, `,"command":`...)
	dst = appendJSONString(dst, m.Command)
	if m.RingGroup != "" {
		dst = append(dst, `,"ringGroup":`...)
		dst = appendJSONString(dst, m.RingGroup)
	}
	return append(dst, `}}`...)
}

// appendJSONString writes s as a JSON string (RFC 8259 §7); bytes that are no
// UTF-8 become U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // RuneError is U+FFFD
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// maxRingGroup is the longest ringGroup sent, in characters.
const maxRingGroup = 255

func cutRingGroup(s string) string {
	n := 0
	for i := range s {
		if n == maxRingGroup {
			return s[:i]
		}
		n++
	}
	return s
}
