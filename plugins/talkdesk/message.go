package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// event is the kind of a message, in either direction.
type event uint8

const (
	eventUnknown event = iota
	eventConnected
	eventStart
	eventMedia
	eventStop
	eventMark
	eventDTMF
	eventClear // ours only
	eventCount
)

func (e event) String() string {
	switch e {
	case eventConnected:
		return "connected"
	case eventStart:
		return "start"
	case eventMedia:
		return "media"
	case eventStop:
		return "stop"
	case eventMark:
		return "mark"
	case eventDTMF:
		return "dtmf"
	case eventClear:
		return "clear"
	case eventUnknown, eventCount:
	}
	return "unknown"
}

func eventOf(name string) event {
	for e := eventConnected; e < eventCount; e++ {
		if strings.EqualFold(name, e.String()) {
			return e
		}
	}
	return eventUnknown
}

// message is any message of the platform, read leniently: field names without
// case and with or without underscores, numbers as strings or numbers, missing
// parts empty. Only the part that belongs to Event is filled.
type message struct {
	Event event
	// Name is the event as the platform wrote it.
	Name string
	// StreamSid comes from the top level, else from the event's own object.
	StreamSid string
	Start     startMessage
	Media     mediaMessage
	// Mark is the name of an echoed mark.
	Mark string
	// Digits are DTMF digits: 0-9, *, #, A-D.
	Digits string
	// BadDigits counts characters of a dtmf message that are no digits.
	BadDigits int
}

// startMessage is what a stream begins with.
type startMessage struct {
	// AccountSid is the platform's own account id.
	AccountSid string
	CallSid    string
	Tracks     []string
	// Format is the media format; its zero value means that none was given.
	Format mediaFormat
	// Parameters are the customParameters; what is no string is kept as JSON text.
	Parameters map[string]string
}

// mediaFormat of a start message.
type mediaFormat struct {
	Encoding   string
	SampleRate string
	Channels   string
}

// Limits of what is kept of a message.
const (
	maxStartParameters = 64
	maxDigitsPerEvent  = 32
	maxNameBytes       = 255
)

// errMalformed marks a message that is no JSON object with an event.
var errMalformed = errors.New("malformed message")

// parseMessage reads any message of the platform. An error (errMalformed) means
// that not even the event could be found.
func parseMessage(data []byte) (message, error) {
	var top object
	if err := json.Unmarshal(data, &top); err != nil {
		return message{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	name := top.text("event")
	if name == "" {
		return message{}, fmt.Errorf("%w: no event", errMalformed)
	}
	m := message{Event: eventOf(name), Name: name, StreamSid: top.text("streamSid")}
	part := top.object(m.Event.String())
	if m.StreamSid == "" {
		m.StreamSid = part.text("streamSid")
	}
	switch m.Event {
	case eventStart:
		m.Start = parseStart(top, part)
	case eventMedia:
		m.Media = parseMedia(top, part)
	case eventMark:
		m.Mark = cutText(firstText(part.text("name"), top.scalar("mark"), top.text("name")), maxNameBytes)
	case eventDTMF:
		m.Digits, m.BadDigits = parseDigits(firstText(part.text("digit"), part.text("digits"), top.scalar("dtmf"), top.text("digit")))
	case eventUnknown, eventConnected, eventStop, eventClear, eventCount:
	}
	return m, nil
}

func parseStart(top, part object) startMessage {
	s := startMessage{
		AccountSid: firstText(part.text("accountSid"), top.text("accountSid")),
		CallSid:    firstText(part.text("callSid"), top.text("callSid")),
	}
	_ = json.Unmarshal(part.raw("tracks"), &s.Tracks) // no list of strings: no tracks
	if format := part.object("mediaFormat"); format != nil {
		s.Format = mediaFormat{Encoding: format.text("encoding"), SampleRate: format.text("sampleRate"), Channels: format.text("channels")}
	} else {
		s.Format.Encoding = part.scalar("mediaFormat")
	}
	parameters := part.object("customParameters")
	if parameters == nil {
		parameters = top.object("customParameters")
	}
	for _, key := range parameters.keys() {
		if len(s.Parameters) == maxStartParameters {
			break
		}
		if s.Parameters == nil {
			s.Parameters = make(map[string]string, len(parameters))
		}
		s.Parameters[key] = cutText(textOf(parameters[key]), maxValueBytes)
	}
	return s
}

// parseMedia is the slow twin of mediaScanner.
func parseMedia(top, part object) mediaMessage {
	m := mediaMessage{Track: trackOf([]byte(part.text("track")))}
	m.Sequence, _ = strconv.ParseUint(top.text("sequenceNumber"), 10, 63)
	var payload *string
	if err := json.Unmarshal(part.raw("payload"), &payload); err != nil || payload == nil {
		m.BadPayload = true
		return m
	}
	var ok bool
	m.Audio, ok = decodeBase64(nil, []byte(*payload), true)
	m.BadPayload = !ok
	return m
}

func parseDigits(text string) (digits string, bad int) {
	var out strings.Builder
	for _, c := range text {
		switch {
		case out.Len() == maxDigitsPerEvent:
			bad++
		case c >= '0' && c <= '9' || c == '*' || c == '#' || c >= 'A' && c <= 'D':
			out.WriteRune(c)
		case c >= 'a' && c <= 'd':
			out.WriteRune(c - 'a' + 'A')
		default:
			bad++
		}
	}
	if text == "" {
		bad = 1
	}
	return out.String(), bad
}

// supported reports whether f is what the leg can carry: µ-law, 8000 Hz, mono.
// What is not given is taken to be so.
func (f mediaFormat) supported() bool {
	switch strings.ToLower(f.Encoding) {
	case "", "audio/x-mulaw", "audio/mulaw", "audio/pcmu", "audio/basic", "mulaw", "ulaw", "pcmu":
	default:
		return false
	}
	return (f.SampleRate == "" || numberIs(f.SampleRate, 8000)) && (f.Channels == "" || numberIs(f.Channels, 1))
}

func (f mediaFormat) String() string {
	return fmt.Sprintf("%q, %q Hz, %q channels", cutText(f.Encoding, 64), cutText(f.SampleRate, 16), cutText(f.Channels, 16))
}

func numberIs(text string, want float64) bool {
	v, err := strconv.ParseFloat(text, 64)
	return err == nil && v == want
}

func firstText(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// cutText cuts s to at most n bytes of whole characters.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// object is a JSON object whose fields are found by name, whatever its spelling.
type object map[string]json.RawMessage

func (o object) keys() []string {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// raw returns the field of that name; else the first in order whose name differs
// in case or underscores only (stream_sid). No field: nil.
func (o object) raw(name string) json.RawMessage {
	if v, ok := o[name]; ok {
		return v
	}
	best, found := "", false
	for key := range o {
		if sameName(key, name) && (!found || key < best) {
			best, found = key, true
		}
	}
	return o[best]
}

func (o object) object(name string) object {
	var out object
	if json.Unmarshal(o.raw(name), &out) != nil {
		return nil
	}
	return out
}

// text returns a field as text, whatever its type.
func (o object) text(name string) string { return textOf(o.raw(name)) }

// scalar is text for a field that is no object and no list, else "".
func (o object) scalar(name string) string {
	raw := o.raw(name)
	if len(raw) > 0 && (raw[0] == '{' || raw[0] == '[') {
		return ""
	}
	return textOf(raw)
}

func sameName(key, name string) bool {
	return len(key) >= len(name) && strings.EqualFold(strings.ReplaceAll(key, "_", ""), name)
}

func textOf(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if raw[0] == '"' {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	}
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}
