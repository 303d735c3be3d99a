package stage

import (
	"strings"
	"time"
)

// Record is what the demo and the tests read of a call record.
type Record struct {
	CallID    string     `json:"call_id"`
	Egress    string     `json:"egress"`
	Number    string     `json:"number"`
	Admitted  time.Time  `json:"admitted"`
	Offered   *time.Time `json:"offered"`
	Answered  *time.Time `json:"answered"`
	Ended     time.Time  `json:"ended"`
	TalkMS    int64      `json:"talk_ms"`
	Who       string     `json:"who"`
	Reason    string     `json:"reason"`
	Q850      int        `json:"q850"`
	SIP       int        `json:"sip"`
	Detail    string     `json:"detail"`
	Result    string     `json:"result"`
	Target    string     `json:"target"`
	ToEgress  Direction  `json:"to_egress"`
	ToIngress Direction  `json:"to_ingress"`
	Events    []Event    `json:"events"`
}

// Direction are the media figures of one way through the call; times are milliseconds.
type Direction struct {
	Frames       uint64            `json:"frames"`
	Lost         uint64            `json:"lost"`
	Late         uint64            `json:"late"`
	Duplicates   uint64            `json:"duplicates"`
	Reordered    uint64            `json:"reordered"`
	Fills        uint64            `json:"fills"`
	Drops        map[string]uint64 `json:"drops"`
	JitterMS     float64           `json:"jitter_ms"`
	RoundTripMS  float64           `json:"round_trip_ms"`
	DelayToCore  Delay             `json:"delay_to_core"`
	DelayToLeave Delay             `json:"delay_to_leave"`
}

// Delay summarises a distribution in milliseconds.
type Delay struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	Count uint64  `json:"count"`
}

// Event is one line of the call's ladder.
type Event struct {
	At       time.Time `json:"at"`
	Leg      string    `json:"leg"`
	Outbound bool      `json:"outbound"`
	Text     string    `json:"text"`
}

// Missing counts the frames of sound that the record admits did not go through between answer and end: lost on the
// network, too late, or dropped. What was said before the answer, and what is no sound, is left out.
func (d *Direction) Missing() int {
	n := d.Lost + d.Late
	for reason, k := range d.Drops {
		switch {
		case reason == "before_answer", strings.Contains(reason, "preroll"),
			strings.HasSuffix(reason, "_dtmf"), strings.HasSuffix(reason, "digit"), strings.Contains(reason, "event_"):
		default:
			n += k
		}
	}
	return int(n)
}
