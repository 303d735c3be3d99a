package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The outcomes of a call that are always spelled the same. The others are "escalate → GROUP", "refused STATUS" and, for a word
// that is no command, "command WORD".
const (
	// OutcomeOK means that the gateway's stop took the flow's ok exit.
	OutcomeOK = "ok"
	// OutcomeError means that the gateway's stop took the failure exit.
	OutcomeError = "error"
	// OutcomeEscalate means that the gateway's stop took the escalation exit; an arrow and the ring group follow if one was named.
	OutcomeEscalate = "escalate"
	// OutcomeBareStop means that the gateway's stop carried no command.
	OutcomeBareStop = "stop without command"
	// OutcomeHangup means that the caller hung up.
	OutcomeHangup = "hangup"
	// OutcomeDropped means that the connection went away without a close frame; EndedBy says on whose side.
	OutcomeDropped = "dropped"
	// OutcomeClosed means that the gateway closed in good order but without a stop.
	OutcomeClosed = "closed"
	// OutcomeTimeout means that Options.Timeout ended the call.
	OutcomeTimeout = "timeout"
	// OutcomeUnreachable means that there was no answer to the upgrade request.
	OutcomeUnreachable = "unreachable"
	// OutcomeRefused is followed by the HTTP status that answered the upgrade request.
	OutcomeRefused = "refused"
)

// Side is who ended the call.
type Side string

// The two ends of the stream. The caller's includes the platform.
const (
	SideCaller  Side = "caller"
	SideGateway Side = "gateway"
)

// Rule is a rule of the protocol that a gateway can break.
type Rule string

// The rules.
const (
	RuleJSON       Rule = "json"        // every message is one JSON object
	RuleType       Rule = "type"        // a field has another JSON type than the protocol's
	RuleKey        Rule = "key"         // keys are spelled as documented, case included
	RuleEvent      Rule = "event"       // event is media, mark, clear or stop
	RuleBinary     Rule = "binary"      // messages are text frames
	RuleFraming    Rule = "framing"     // WebSocket frames follow RFC 6455, messages stay under 1 MiB
	RuleStreamSID  Rule = "stream-sid"  // identifiers are those of start
	RulePayload    Rule = "payload"     // payload is base64 of bare samples
	RuleMark       Rule = "mark"        // a mark has a name
	RuleCommand    Rule = "command"     // stop says ok, error or escalate
	RuleRingGroup  Rule = "ring-group"  // an escalation names a ring group of at most 255 characters
	RuleSecondStop Rule = "second-stop" // a stream is stopped once, by one side
	RuleAfterStop  Rule = "after-stop"  // nothing follows the gateway's stop
	maxViolations       = 100           // entries of Report.Violations
	maxTimeline         = 1000          // entries of Report.Timeline
	gapLength           = 40 * time.Millisecond
	maxArrivals         = 1 << 20 // intervals kept for the percentiles: nearly six hours of 20 ms frames
)

// Millis is a duration that is written to JSON as milliseconds, with three decimals.
type Millis time.Duration

// MarshalJSON writes the milliseconds.
func (m Millis) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", float64(m)/float64(time.Millisecond)), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Millis) UnmarshalJSON(raw []byte) error {
	var ms float64
	if err := json.Unmarshal(raw, &ms); err != nil {
		return fmt.Errorf("read milliseconds: %w", err)
	}
	*m = Millis(ms * float64(time.Millisecond))
	return nil
}

// String writes the duration to a tenth of a millisecond.
func (m Millis) String() string { return time.Duration(m).Round(100 * time.Microsecond).String() }

// Stop is the gateway's stop message: how the flow goes on.
type Stop struct {
	Command   string `json:"command"`
	RingGroup string `json:"ring_group,omitempty"`
	At        Millis `json:"at_ms"`
}

// Violation is one breach of the protocol by the gateway.
type Violation struct {
	At     Millis `json:"at_ms"`
	Rule   Rule   `json:"rule"`
	Detail string `json:"detail"`
}

// Event is one message of the stream.
type Event struct {
	At     Millis `json:"at_ms"`
	Sent   bool   `json:"sent"` // by the platform; else by the gateway
	Name   string `json:"event"`
	Detail string `json:"detail,omitempty"`
}

// Report is what a call looked like from the platform. Times count from the moment start was sent.
type Report struct {
	Target        string `json:"target"` // the URL without its query
	StreamSID     string `json:"stream_sid,omitempty"`
	UpgradeStatus int    `json:"upgrade_status,omitempty"` // 101, or why the gateway refused; 0: no HTTP answer
	RetryAfter    string `json:"retry_after,omitempty"`
	Refusal       string `json:"refusal,omitempty"` // the beginning of the refusal's body
	Outcome       string `json:"outcome"`
	EndedBy       Side   `json:"ended_by,omitempty"`
	Stop          *Stop  `json:"stop,omitempty"`
	CloseCode     int    `json:"close_code,omitempty"` // 1006: the connection ended without a close frame
	CloseText     string `json:"close_text,omitempty"`

	Duration   Millis `json:"duration_ms"`
	FirstAudio Millis `json:"first_audio_ms"` // 0 while FramesReceived is

	FramesSent  int    `json:"frames_sent"`
	SendLate    Millis `json:"send_late_max_ms"` // by how much this program itself was late at worst
	DTMFSent    string `json:"dtmf_sent,omitempty"`
	MarksEchoed int    `json:"marks_echoed"`
	Pongs       int    `json:"pongs,omitempty"`

	FramesReceived int    `json:"frames_received"`
	BytesReceived  int64  `json:"bytes_received"`
	IntervalP50    Millis `json:"interval_p50_ms"`
	IntervalP99    Millis `json:"interval_p99_ms"`
	IntervalMax    Millis `json:"interval_max_ms"`
	Gaps           int    `json:"gaps"`           // intervals over 40 ms
	Underruns      int    `json:"underruns"`      // playback ran dry for under 500 ms
	Pauses         int    `json:"pauses"`         // playback ran dry for longer, as it may
	MaxBacklog     Millis `json:"max_backlog_ms"` // audio sent ahead of real time, at most
	Cleared        Millis `json:"cleared_ms"`     // audio that clear threw away
	Unplayed       Millis `json:"unplayed_ms"`    // audio that the end cut off
	Marks          int    `json:"marks"`
	Clears         int    `json:"clears"`
	Pings          int    `json:"pings,omitempty"`
	AfterStop      int    `json:"after_stop"` // messages that followed the gateway's stop

	ViolationCount int         `json:"violation_count"`
	Violations     []Violation `json:"violations"` // the first hundred
	Timeline       []Event     `json:"timeline"`   // the first thousand messages but media

	// Received is the audio of every media message, in order, bounded by Options.MaxAudio.
	Received []byte `json:"-"`
	// Heard is what the caller heard, from the start of the call on, with silence where nothing was played; bounded alike.
	Heard []byte `json:"-"`
}

// Failed says whether the call did not come to a proper end or broke the protocol.
func (r *Report) Failed() bool {
	switch r.Outcome {
	case OutcomeUnreachable, OutcomeTimeout, OutcomeClosed:
		return true
	case OutcomeDropped:
		return r.EndedBy != SideCaller
	}
	return r.ViolationCount > 0 || strings.HasPrefix(r.Outcome, OutcomeRefused)
}

// arrivals measures the intervals between media messages.
type arrivals struct {
	last      time.Time
	intervals []uint32 // microseconds
	longest   time.Duration
	gaps      int
}

func (a *arrivals) add(at time.Time) {
	if !a.last.IsZero() {
		d := at.Sub(a.last)
		a.longest = max(a.longest, d)
		if d > gapLength {
			a.gaps++
		}
		if len(a.intervals) < maxArrivals {
			a.intervals = append(a.intervals, uint32(min(d.Microseconds(), 1<<31)))
		}
	}
	a.last = at
}

// fill puts the figures into r.
func (a *arrivals) fill(r *Report) {
	slices.Sort(a.intervals)
	r.IntervalP50, r.IntervalP99 = a.percentile(50), a.percentile(99)
	r.IntervalMax, r.Gaps = Millis(a.longest), a.gaps
}

func (a *arrivals) percentile(p int) Millis {
	if len(a.intervals) == 0 {
		return 0
	}
	return Millis(time.Duration(a.intervals[(len(a.intervals)-1)*p/100]) * time.Microsecond)
}
