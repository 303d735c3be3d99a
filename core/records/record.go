// Package records keeps the call detail records: one JSON line per call,
// whatever happened to it.
package records

import "time"

// Record is one call's CDR. Times are UTC; durations and delays milliseconds.
type Record struct {
	CallID         string `json:"call_id"`
	Node           string `json:"node"`
	Ingress        string `json:"ingress"` // plugin instance
	Egress         string `json:"egress,omitempty"`
	App            string `json:"app"`
	Number         string `json:"number"`
	Caller         string `json:"caller,omitempty"`
	Bot            string `json:"bot,omitempty"`
	Account        string `json:"account,omitempty"`
	PlatformCallID string `json:"platform_call_id,omitempty"`

	Admitted time.Time  `json:"admitted"`
	Offered  *time.Time `json:"offered,omitempty"`
	Answered *time.Time `json:"answered,omitempty"`
	Ended    time.Time  `json:"ended"`
	// TalkMS is from the answer to the end.
	TalkMS int64 `json:"talk_ms"`

	Who    string `json:"who"`    // caller, bot, platform, plugin, gateway
	Reason string `json:"reason"` // hangup, transfer, failed, lost
	Q850   int    `json:"q850,omitempty"`
	SIP    int    `json:"sip,omitempty"`
	Detail string `json:"detail,omitempty"`

	Result string `json:"result"` // ok, error, escalate; none when the caller left first; abandoned
	Target string `json:"target,omitempty"`

	ToEgress  Direction `json:"to_egress"`
	ToIngress Direction `json:"to_ingress"`
	Events    []Event   `json:"events"`
	// EventsLost counts ladder lines beyond the bound.
	EventsLost int `json:"events_lost,omitempty"`
}

// Direction are the media figures of one way through the call.
type Direction struct {
	Frames       uint64            `json:"frames"` // carried by core
	Lost         uint64            `json:"lost"`   // on the network, at the leg they came from
	Late         uint64            `json:"late"`   //
	Duplicates   uint64            `json:"duplicates"`
	Reordered    uint64            `json:"reordered"`
	Fills        uint64            `json:"fills"` // silence put in, at the leg they went to
	Drops        map[string]uint64 `json:"drops,omitempty"`
	JitterMS     float64           `json:"jitter_ms"`
	RoundTripMS  float64           `json:"round_trip_ms,omitempty"`
	DelayToCore  Delay             `json:"delay_to_core"`  // first socket read to core
	DelayToLeave Delay             `json:"delay_to_leave"` // first socket read to last socket write
}

// Delay summarises a distribution, in milliseconds.
type Delay struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	Count uint64  `json:"count"`
}

// Event is one line of the call's ladder.
type Event struct {
	At       time.Time `json:"at"`
	Leg      string    `json:"leg"` // ingress, egress, core
	Outbound bool      `json:"outbound"`
	Text     string    `json:"text"`
}
