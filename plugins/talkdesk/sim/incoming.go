package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const (
	// maxMessage is the largest message taken. The platform says "any size"; a second of audio has 11 kB.
	maxMessage = 1 << 20
	// maxMarks bounds the marks that wait for their audio.
	maxMarks = 10_000
	// maxRingGroup is how long a ring group may be; the platform's own fields end at about 256 characters.
	maxRingGroup = 255
	// crossing is how long after the platform's own stop one from the gateway may still be on its way.
	crossing = 500 * time.Millisecond
)

// message is what the gateway may send. Raw fields are looked at by hand, because a wrong type there is a finding of its own.
type message struct {
	Event          *string         `json:"event"`
	SequenceNumber json.RawMessage `json:"sequenceNumber"`
	StreamSID      *string         `json:"streamSid"`
	Media          *struct {
		Payload *string `json:"payload"`
	} `json:"media"`
	Mark *struct {
		Name *string `json:"name"`
	} `json:"mark"`
	Stop *struct {
		Command    *string         `json:"command"`
		RingGroup  json.RawMessage `json:"ringGroup"`
		AccountSID *string         `json:"accountSid"`
		CallSID    *string         `json:"callSid"`
	} `json:"stop"`
}

// handle takes in one message that arrived at when.
func (s *session) handle(in arrival) error {
	if in.kind == websocket.BinaryMessage {
		s.violate(in.at, RuleBinary, "the platform's messages are text frames")
	} else if !utf8.Valid(in.data) {
		s.violate(in.at, RuleJSON, "text frame that is not UTF-8")
	}
	m, ok := s.decode(in)
	if !ok {
		return nil
	}
	name := *m.Event
	if s.report.Stop != nil {
		s.report.AfterStop++
		if name == "stop" {
			s.violate(in.at, RuleSecondStop, "stop may be sent once")
		} else {
			s.violate(in.at, RuleAfterStop, name+" after stop")
		}
		return nil
	}
	switch name {
	case "media", "mark", "clear", "stop":
		s.checkStream(in.at, name, m)
	default:
		s.violate(in.at, RuleEvent, fmt.Sprintf("event %.40q is none of media, mark, clear and stop", name))
		return nil
	}
	if (!s.stopSent.IsZero() || s.phase == phaseClosing) && name != "stop" { // what crossed our own end is read and forgotten
		return nil
	}
	switch name {
	case "media":
		s.handleMedia(in, m)
	case "mark":
		s.handleMark(in, m)
	case "clear":
		return s.handleClear(in)
	default:
		s.handleStop(in, m)
	}
	return nil
}

// decode parses a message as far as its event.
func (s *session) decode(in arrival) (*message, bool) {
	var m message
	if err := json.Unmarshal(in.data, &m); err != nil {
		var field *json.UnmarshalTypeError
		switch {
		case errors.As(err, &field) && field.Field != "":
			s.violate(in.at, RuleType, fmt.Sprintf("%s is a JSON %s", field.Field, field.Value))
		case errors.As(err, &field):
			s.violate(in.at, RuleJSON, "message is a JSON "+field.Value+", not an object")
		default:
			s.violate(in.at, RuleJSON, "message is not JSON: "+excerpt(in.data))
		}
		return nil, false
	}
	if m.Event == nil {
		s.violate(in.at, RuleEvent, "no event: "+excerpt(in.data))
		return nil, false
	}
	if key := m.misspelled(in.data); key != "" {
		s.violate(in.at, RuleKey, fmt.Sprintf("%s is not spelled so in %s", key, excerpt(in.data)))
	}
	return &m, true
}

// misspelled returns a key of m that does not stand in raw as the protocol spells it: encoding/json takes any mixture of upper and
// lower case, the platform need not.
func (m *message) misspelled(raw []byte) string {
	for _, k := range [...]struct {
		there bool
		key   string
	}{
		{true, "event"},
		{m.StreamSID != nil, "streamSid"},
		{len(m.SequenceNumber) > 0, "sequenceNumber"},
		{m.Media != nil, "media"},
		{m.Media != nil && m.Media.Payload != nil, "payload"},
		{m.Mark != nil, "mark"},
		{m.Mark != nil && m.Mark.Name != nil, "name"},
		{m.Stop != nil, "stop"},
		{m.Stop != nil && m.Stop.Command != nil, "command"},
		{m.Stop != nil && len(m.Stop.RingGroup) > 0, "ringGroup"},
		{m.Stop != nil && m.Stop.AccountSID != nil, "accountSid"},
		{m.Stop != nil && m.Stop.CallSID != nil, "callSid"},
	} {
		if k.there && !bytes.Contains(raw, []byte(`"`+k.key+`"`)) {
			return k.key
		}
	}
	return ""
}

// checkStream holds m to the stream it must name (partner-to-talkdesk page: streamSid is the one from start).
func (s *session) checkStream(at time.Time, name string, m *message) {
	switch {
	case m.StreamSID == nil:
		s.violate(at, RuleStreamSID, name+" without streamSid")
	case *m.StreamSID != s.opt.StreamSID:
		s.violate(at, RuleStreamSID, fmt.Sprintf("%s for the stream %.64q", name, *m.StreamSID))
	}
	if bad := bytes.TrimLeft(m.SequenceNumber, `"0123456789`); len(m.SequenceNumber) > 0 &&
		(m.SequenceNumber[0] != '"' || len(m.SequenceNumber) < 3 || len(bad) > 0) {
		s.violate(at, RuleType, name+": sequenceNumber is not a number in a string")
	}
}

func (s *session) handleMedia(in arrival, m *message) {
	if m.Media == nil || m.Media.Payload == nil {
		s.violate(in.at, RulePayload, "media without payload")
		return
	}
	ulaw, err := base64.StdEncoding.Strict().DecodeString(*m.Media.Payload)
	switch {
	case err != nil:
		s.violate(in.at, RulePayload, "payload is not base64: "+err.Error())
		return
	case len(ulaw) == 0:
		s.violate(in.at, RulePayload, "payload is empty")
		return
	case bytes.HasPrefix(ulaw, []byte("RIFF")):
		s.violate(in.at, RulePayload, "payload begins with a file header; bare samples are wanted")
	}
	s.arrivals.add(in.at)
	s.player.accept(s.since(in.at), ulaw)
	r := s.report
	if r.FramesReceived == 0 {
		r.FirstAudio = Millis(s.since(in.at))
		s.note(Event{Name: "media", Detail: "first audio"})
	} else {
		s.observe(Event{Name: "media"})
	}
	r.FramesReceived++
	r.BytesReceived += int64(len(ulaw))
	r.Received = append(r.Received, ulaw[:min(len(ulaw), s.opt.MaxAudio-len(r.Received))]...)
}

func (s *session) handleMark(in arrival, m *message) {
	switch {
	case m.Mark == nil || m.Mark.Name == nil || *m.Mark.Name == "":
		s.violate(in.at, RuleMark, "mark without name")
	case len(s.player.marks) >= maxMarks:
		s.violate(in.at, RuleMark, fmt.Sprintf("over %d marks wait for their audio", maxMarks))
	default:
		s.report.Marks++
		s.player.mark(*m.Mark.Name)
		s.note(Event{Name: "mark", Detail: *m.Mark.Name})
	}
}

// handleClear empties the buffer; marks that waited come back at once, as Twilio's platform does.
func (s *session) handleClear(in arrival) error {
	s.report.Clears++
	s.note(Event{Name: "clear"})
	for _, name := range s.player.clear(s.since(in.at)) {
		if err := s.sendMark(name); err != nil {
			return err
		}
	}
	return nil
}

// handleStop takes the result of the step; from here on the gateway must be silent.
func (s *session) handleStop(in arrival, m *message) {
	stop := &Stop{At: Millis(s.since(in.at))}
	s.report.Stop = stop
	if m.Stop == nil || m.Stop.Command == nil {
		s.violate(in.at, RuleCommand, "stop without command")
	} else {
		stop.Command = *m.Stop.Command
		stop.RingGroup = s.ringGroup(in.at, m.Stop.RingGroup)
		s.checkStop(in.at, stop)
		s.checkID(in.at, "accountSid", m.Stop.AccountSID, s.opt.AccountSID)
		s.checkID(in.at, "callSid", m.Stop.CallSID, s.opt.CallSID)
	}
	s.note(Event{Name: "stop", Detail: s.result(stop)})
	if !s.stopSent.IsZero() {
		if in.at.Sub(s.stopSent) > crossing {
			s.violate(in.at, RuleSecondStop, "stop although the platform had sent its own")
		}
		return
	}
	s.player.finish(s.since(in.at))
	s.claim(s.result(stop), SideGateway)
	s.enter(phaseLinger, s.opt.Linger)
}

func (s *session) ringGroup(at time.Time, raw json.RawMessage) string {
	var group *string // null is taken as left out
	if len(raw) > 0 && json.Unmarshal(raw, &group) != nil {
		s.violate(at, RuleType, "ringGroup is not a string: "+excerpt(raw))
	}
	if group == nil {
		return ""
	}
	return *group
}

func (s *session) checkStop(at time.Time, stop *Stop) {
	c := s.opt.Commands
	switch stop.Command {
	case c.OK, c.Error:
	case c.Escalate:
		if stop.RingGroup == "" {
			s.violate(at, RuleRingGroup, "escalation without ringGroup; the flow would have nobody to dial")
		}
	default:
		s.violate(at, RuleCommand, fmt.Sprintf("command %.40q is none of %s, %s and %s", stop.Command, c.OK, c.Error, c.Escalate))
	}
	if n := utf8.RuneCountInString(stop.RingGroup); n > maxRingGroup {
		s.violate(at, RuleRingGroup, fmt.Sprintf("ringGroup has %d characters, the platform keeps %d", n, maxRingGroup))
	}
}

func (s *session) checkID(at time.Time, key string, got *string, want string) {
	if got != nil && *got != want {
		s.violate(at, RuleStreamSID, fmt.Sprintf("stop.%s is %.64q, start said %q", key, *got, want))
	}
}

// result names the exit of the flow's step that stop takes.
func (s *session) result(stop *Stop) string {
	switch c := s.opt.Commands; {
	case stop.Command == "":
		return OutcomeBareStop
	case stop.Command == c.OK:
		return OutcomeOK
	case stop.Command == c.Error:
		return OutcomeError
	case stop.Command != c.Escalate:
		return fmt.Sprintf("command %.40q", stop.Command)
	case stop.RingGroup != "":
		return OutcomeEscalate + " → " + stop.RingGroup
	default:
		return OutcomeEscalate
	}
}

// excerpt shows the beginning of something malformed.
func excerpt(raw []byte) string {
	const most = 60
	if len(raw) > most {
		return fmt.Sprintf("%q and %d bytes more", raw[:most], len(raw)-most)
	}
	return fmt.Sprintf("%q", raw)
}
