package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// How a call ended, as Call.Ended says it.
const (
	EndedCallerBye  = "caller-bye" // the caller sent BYE
	EndedBotBye     = "bot-bye"    // the bot sent BYE and it was answered
	EndedCancelled  = "cancelled"  // CANCEL came before the answer
	EndedRefused    = "refused"    // the bot answered with a code of 300 or more
	EndedNoAck      = "no-ack"     // no ACK came for the 200
	EndedUnanswered = "unanswered" // a silent bot
	EndedLost       = "lost"       // the bot's BYE was not answered
	EndedClosed     = "closed"     // the bot was closed while the call was on
)

// Call is the account of one call, complete once Done is set.
type Call struct {
	ID           string          `json:"call_id"`
	Transport    string          `json:"transport"`
	Remote       string          `json:"remote"`
	RequestURI   string          `json:"request_uri"`
	FromUser     string          `json:"from_user"`
	From         string          `json:"from"`
	To           string          `json:"to"`
	UserAgent    string          `json:"user_agent,omitempty"`
	Headers      []sipmsg.Header `json:"headers"` // X- headers and User-to-User of the INVITE
	InviteBytes  int             `json:"invite_bytes"`
	Invites      int             `json:"invites"` // with retransmissions
	PayloadTypes []int           `json:"payload_types"`
	Codec        string          `json:"codec,omitempty"`
	EventPT      int             `json:"event_pt,omitempty"`

	Began      time.Time       `json:"began"`
	Answered   bool            `json:"answered"`
	AnswerMS   float64         `json:"answer_ms"`
	Acked      bool            `json:"acked"`
	Acks       int             `json:"acks"`
	AckMS      float64         `json:"ack_ms"` // from the 200 to its ACK
	Status     int             `json:"status"` // final response to the INVITE
	Cancelled  bool            `json:"cancelled"`
	Byes       int             `json:"byes"` // distinct BYE requests received
	Reason     string          `json:"reason,omitempty"`
	ByeHeaders []sipmsg.Header `json:"bye_headers,omitempty"` // X- headers on the BYE received
	Ended      string          `json:"ended"`
	DurationMS float64         `json:"duration_ms"` // from the answer to the end
	Done       bool            `json:"done"`

	RTP      rtpwire.Stats       `json:"rtp"`
	RTCP     RTCP                `json:"rtcp"`
	Sent     Sent                `json:"sent"`
	Digits   string              `json:"digits"`
	DTMF     []rtpwire.DTMFEvent `json:"dtmf"`
	Refer    *Refer              `json:"refer,omitempty"`
	Reinvite *Exchange           `json:"reinvite,omitempty"`
	Pings    *Pings              `json:"pings,omitempty"`

	Violations []string `json:"violations"`
	Ladder     []Step   `json:"ladder"`
}

// RTCP counts the reports received.
type RTCP struct {
	Packets         int     `json:"packets"`
	SenderReports   int     `json:"sender_reports"`
	ReceiverReports int     `json:"receiver_reports"`
	Descriptions    int     `json:"descriptions"`
	Byes            int     `json:"byes"`
	Malformed       int     `json:"malformed"`
	FractionLost    float64 `json:"fraction_lost"`  // of the last block, 0 to 1
	SenderPackets   uint32  `json:"sender_packets"` // as the last SR claims
}

// Sent counts what the bot sent.
type Sent struct {
	Packets     int     `json:"packets"`
	PlayFrames  int     `json:"play_frames"`
	PlayDone    bool    `json:"play_done"` // the whole file has been sent
	Events      int     `json:"events"`
	EchoDropped int     `json:"echo_dropped"`
	RTCP        int     `json:"rtcp"`
	LateMaxMS   float64 `json:"late_max_ms"` // the bot's own worst pacing error
}

// Refer is the bot's transfer by REFER.
type Refer struct {
	Status int      `json:"status"`
	Notify []string `json:"notify"` // status lines of the sipfrags
	Final  bool     `json:"final"`  // a NOTIFY ended the subscription
}

// Exchange is a request the bot sent in the dialog.
type Exchange struct {
	Status int `json:"status"` // 0: no final answer yet; 408: none came
}

// Pings counts the OPTIONS the bot sent.
type Pings struct {
	Sent   int `json:"sent"`
	OK     int `json:"ok"`
	Failed int `json:"failed"`
}

// Step is one line of the ladder.
type Step struct {
	MS   float64 `json:"ms"`  // since the first INVITE
	Dir  string  `json:"dir"` // in or out
	Line string  `json:"line"`
}

const (
	maxLadder     = 1000
	maxViolations = 100
)

// clone returns a copy that the caller may keep.
func (c *Call) clone() Call {
	out := *c
	out.Headers = slices.Clone(c.Headers)
	out.ByeHeaders = slices.Clone(c.ByeHeaders)
	out.PayloadTypes = slices.Clone(c.PayloadTypes)
	out.Violations = slices.Clone(c.Violations)
	out.Ladder = slices.Clone(c.Ladder)
	if c.Refer != nil {
		r := *c.Refer
		r.Notify = slices.Clone(c.Refer.Notify)
		out.Refer = &r
	}
	if c.Reinvite != nil {
		r := *c.Reinvite
		out.Reinvite = &r
	}
	if c.Pings != nil {
		p := *c.Pings
		out.Pings = &p
	}
	return out
}

// Header returns the first value of an X- header of the INVITE, or "".
func (c *Call) Header(name string) string {
	for _, h := range c.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

func (c *Call) violate(v string) {
	if len(c.Violations) < maxViolations && !slices.Contains(c.Violations, v) {
		c.Violations = append(c.Violations, v)
	}
}

// customHeaders picks the headers an application sees: X- and User-to-User.
func customHeaders(m *sipmsg.Message) []sipmsg.Header {
	out := []sipmsg.Header{}
	for _, h := range m.Headers {
		name := strings.ToLower(h.Name)
		if strings.HasPrefix(name, "x-") || name == "user-to-user" {
			out = append(out, h)
		}
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
