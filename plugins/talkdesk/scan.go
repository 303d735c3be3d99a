package main

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// track says whose voice a media message carries.
type track uint8

const (
	trackCaller track = iota // "inbound", "inbound_track", "" or none
	trackAgent               // "outbound", "outbound_track"
	trackOther
)

func trackOf(name []byte) track {
	switch string(name) {
	case "", "inbound", "inbound_track":
		return trackCaller
	case "outbound", "outbound_track":
		return trackAgent
	}
	return trackOther
}

// mediaMessage is one media message of the platform.
type mediaMessage struct {
	Track track
	// Sequence is the message's sequenceNumber, 0 when it has none.
	Sequence uint64
	// Audio is the decoded payload. It lies in the scanner's buffer and is valid
	// until its next use.
	Audio []byte
	// BadPayload: the payload is missing or no base64.
	BadPayload bool
}

// mediaScanner takes media messages apart without encoding/json: fifty a second
// and call make this the plugin's hot path. It accepts only the plain shape that
// platforms send (known keys, each once, no escapes but "\/" in the payload) and
// leaves everything else to parseMessage, so that it never has to guess.
type mediaScanner struct {
	audio     []byte
	unescaped []byte
	pos       int
	data      []byte
}

// keepAudioBytes bounds the buffer kept from one message to the next.
const keepAudioBytes = 64 << 10

// Keys of a media message, as bits to notice one that comes twice.
const (
	keyEvent = 1 << iota
	keySequence
	keyStreamSid
	keyMedia
	keyTrack
	keyChunk
	keyTimestamp
	keyPayload
)

// scan returns the message when data is a media message in plain shape.
func (s *mediaScanner) scan(data []byte) (m mediaMessage, ok bool) {
	s.data, s.pos = data, 0
	ok = s.message(&m)
	s.data = nil
	if cap(s.audio) > keepAudioBytes {
		s.audio = nil // m.Audio keeps the array alive for as long as it is used
	}
	return m, ok
}

func (s *mediaScanner) message(m *mediaMessage) bool {
	if !s.expect('{') {
		return false
	}
	seen := 0
	for {
		key, ok := s.text()
		if !ok || !s.expect(':') {
			return false
		}
		bit := 0
		switch string(key) {
		case "event":
			value, plain := s.text()
			if !plain || string(value) != "media" {
				return false
			}
			bit = keyEvent
		case "sequenceNumber":
			if m.Sequence, ok = s.number(); !ok {
				return false
			}
			bit = keySequence
		case "streamSid":
			if _, ok = s.text(); !ok {
				return false
			}
			bit = keyStreamSid
		case "media":
			if !s.media(m) {
				return false
			}
			bit = keyMedia
		}
		if bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
		if s.expect(',') {
			continue
		}
		break
	}
	if !s.expect('}') {
		return false
	}
	s.space()
	const needed = keyEvent | keyMedia
	return s.pos == len(s.data) && seen&needed == needed
}

func (s *mediaScanner) media(m *mediaMessage) bool {
	if !s.expect('{') {
		return false
	}
	seen := 0
	for {
		key, ok := s.text()
		if !ok || !s.expect(':') {
			return false
		}
		bit := 0
		switch string(key) {
		case "payload":
			if m.Audio, ok = s.payload(); !ok {
				return false
			}
			bit = keyPayload
		case "track":
			name, ok := s.text()
			if !ok {
				return false
			}
			m.Track = trackOf(name)
			bit = keyTrack
		case "chunk":
			bit = keyChunk
		case "timestamp":
			bit = keyTimestamp
		}
		if bit&(keyChunk|keyTimestamp) != 0 {
			if _, ok := s.number(); !ok {
				return false
			}
		}
		if bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
		if s.expect(',') {
			continue
		}
		break
	}
	return s.expect('}') && seen&keyPayload != 0
}

func (s *mediaScanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

func (s *mediaScanner) expect(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// text reads a string of printable ASCII without escapes.
func (s *mediaScanner) text() ([]byte, bool) {
	if !s.expect('"') {
		return nil, false
	}
	for i := s.pos; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			value := s.data[s.pos:i]
			s.pos = i + 1
			return value, true
		case c == '\\' || c < ' ' || c >= 0x7f:
			return nil, false
		}
	}
	return nil, false
}

// number reads a whole number, bare or as a string; anything else is left to
// encoding/json.
func (s *mediaScanner) number() (uint64, bool) {
	quoted := s.expect('"')
	start := s.pos
	var v uint64
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		v = v*10 + uint64(s.data[s.pos]-'0')
		s.pos++
	}
	digits := s.pos - start
	const maxDigits = 18 // fits into 63 bits
	if digits == 0 || digits > maxDigits {
		return 0, false
	}
	if quoted {
		return v, s.pos < len(s.data) && s.expectNow('"')
	}
	return v, digits == 1 || s.data[start] != '0' // RFC 8259 §6: no leading zero
}

// expectNow is expect without skipping white space, for the end of a string.
func (s *mediaScanner) expectNow(c byte) bool {
	if s.data[s.pos] != c {
		return false
	}
	s.pos++
	return true
}

func (s *mediaScanner) payload() ([]byte, bool) {
	if !s.expect('"') {
		return nil, false
	}
	end := bytes.IndexByte(s.data[s.pos:], '"')
	if end < 0 {
		return nil, false
	}
	src := s.data[s.pos : s.pos+end]
	s.pos += end + 1
	if bytes.IndexByte(src, '\\') >= 0 {
		var ok bool
		if src, ok = s.unescape(src); !ok {
			return nil, false
		}
	}
	var ok bool
	s.audio, ok = decodeBase64(s.audio[:0], src, false)
	return s.audio, ok
}

// unescape undoes "\/", which some JSON writers put for every slash.
func (s *mediaScanner) unescape(src []byte) ([]byte, bool) {
	s.unescaped = s.unescaped[:0]
	for i := 0; i < len(src); i++ {
		c := src[i]
		if c == '\\' {
			if i++; i == len(src) || src[i] != '/' {
				return nil, false
			}
			c = '/'
		}
		s.unescaped = append(s.unescaped, c)
	}
	out := s.unescaped
	if cap(s.unescaped) > keepAudioBytes {
		s.unescaped = nil
	}
	return out, true
}

// decodeBase64 appends what src says to dst. It takes the standard and the
// URL-safe alphabet, with and without padding. White space is skipped: blanks
// always, line breaks and tabs only with controls, as they cannot stand in a
// JSON string unescaped.
func decodeBase64(dst, src []byte, controls bool) ([]byte, bool) {
	start := len(dst)
	dst = slices.Grow(dst, base64.StdEncoding.DecodedLen(len(src))+3)
	n, err := base64.StdEncoding.Decode(dst[start:cap(dst)], src)
	if err == nil && len(src)%4 == 0 && n == strictLen(src) { // else it has skipped line breaks
		return dst[:start+n], true
	}
	var group uint32
	have := 0
	for i, c := range src {
		v := base64Value(c)
		switch {
		case v < 64:
			group = group<<6 | uint32(v)
			if have++; have == 4 {
				dst = append(dst, byte(group>>16), byte(group>>8), byte(group))
				group, have = 0, 0
			}
			continue
		case c == ' ' || controls && (c == '\n' || c == '\r' || c == '\t'):
			continue
		case c == '=' && paddingOnly(src[i:], controls):
		default:
			return dst[:start], false
		}
		break
	}
	switch have {
	case 1: // six bits are no byte
		return dst[:start], false
	case 2:
		dst = append(dst, byte(group>>4))
	case 3:
		dst = append(dst, byte(group>>10), byte(group>>2))
	}
	return dst, true
}

// strictLen is the decoded length of padded base64 without white space.
func strictLen(src []byte) int {
	n := len(src) / 4 * 3
	for i := len(src) - 1; i >= 0 && src[i] == '='; i-- {
		n--
	}
	return n
}

func paddingOnly(src []byte, controls bool) bool {
	for _, c := range src {
		if c != '=' && c != ' ' && (!controls || c != '\n' && c != '\r' && c != '\t') {
			return false
		}
	}
	return true
}

func base64Value(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c - 'A'
	case c >= 'a' && c <= 'z':
		return c - 'a' + 26
	case c >= '0' && c <= '9':
		return c - '0' + 52
	case c == '+' || c == '-':
		return 62
	case c == '/' || c == '_':
		return 63
	}
	return 0xFF
}
