// Package sim is the bot's side of a SmartAssist trunk: a SIP user agent server
// with RTP that answers, speaks, listens, hangs up and transfers as Kore's
// border controller does, and that keeps account of everything the caller did
// wrong.
//
// It is written from RFC 3261, 3264, 3550 and 4733 and from Kore's documents, on
// its own parser and transactions, and shares no code with the plugin it tests:
// two ends that err alike would find nothing.
//
// Main is the command (patchbay sim smartassist). Start is the library for
// end-to-end tests: a Bot answers calls by its Behaviour, Calls and Wait… tell
// what happened, and Hooks bend the wire where a test needs it bent.
package sim

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// ErrOptions marks options that cannot work; every error of Start before it opens a socket wraps it.
var ErrOptions = errors.New("impossible simulator options")

// Options say where a Bot listens and how it behaves.
type Options struct {
	Listen    string      // address of UDP and TCP; default 127.0.0.1:0
	TLSListen string      // address of TLS; "" for none
	TLS       *tls.Config // server certificate; needed with TLSListen
	Advertise netip.Addr  // address in Contact, Via and SDP; default: the listening one, or that of the route to the caller

	MaxCalls    int           // calls at the same time, above it 503; 0: no limit
	KeepPackets bool          // keep each received RTP packet for Packets and Recording
	T1          time.Duration // RFC 3261 §17.1.1.1; default 500 ms; all SIP timers follow from it
	Linger      time.Duration // how long after its end a call still watches for late packets and a second BYE; default 300 ms

	Behaviour
	Hooks Hooks
}

// Behaviour is what the bot does with one call. Times count from the answer, except AnswerAfter, which counts from
// the INVITE.
type Behaviour struct {
	AnswerAfter   time.Duration
	Ring          bool // send 180
	EarlyMedia    bool // send 183 with SDP and start RTP at once
	NoProvisional bool // send no 100
	Silent        bool // never answer anything: a dead host
	CrossCancel   bool // answer 200 to the INVITE although CANCEL came: the two crossed
	RecordRoute   bool // put a Record-Route in, and watch that the caller obeys it
	Codecs        []string
	Refuse        int // final response instead of 200: 300 to 699
	RefuseHeaders []sipmsg.Header

	Play []byte // 8 kHz µ-law; silence follows
	Echo bool   // send back what comes in, at the bot's own pace
	DTMF []Digit

	HangupAfter  time.Duration // 0: never
	HangupOnDTMF string        // any of these keys ends the call
	ByeHeaders   []sipmsg.Header

	Refer        string // URI of Refer-To; "" for none
	ReferAfter   time.Duration
	Reinvite     ReinviteKind
	ReinviteAt   time.Duration
	Ping         time.Duration // interval of OPTIONS to the caller; 0: none
	ExtraHeaders []sipmsg.Header
}

// Digit is one key the bot sends as RFC 4733 events.
type Digit struct {
	At       time.Duration // after the answer
	Key      byte
	Duration time.Duration // default 160 ms
}

// ReinviteKind says which re-INVITE the bot sends.
type ReinviteKind string

// The kinds of re-INVITE.
const (
	NoReinvite    ReinviteKind = ""
	ReinviteSame  ReinviteKind = "same"  // the same SDP again: a session refresh
	ReinviteNoSDP ReinviteKind = "nosdp" // the caller has to offer; the answer goes in the ACK
	ReinviteHold  ReinviteKind = "hold"  // a=sendonly
	ReinviteMove  ReinviteKind = "move"  // the media come from, and go to, another port
)

// Hooks bend a Bot's wire. Each may be nil. They are called from several goroutines and must not block.
type Hooks struct {
	// Script returns the behaviour for one call, given its INVITE.
	Script func(invite *sipmsg.Message, base Behaviour) Behaviour
	// Incoming may change a received message; false loses it.
	Incoming func(m *sipmsg.Message) bool
	// Outgoing returns what is sent instead of m: nothing loses it, two double it.
	Outgoing func(m *sipmsg.Message) []*sipmsg.Message
	// RTP returns what is sent instead of the n-th RTP packet of a call. The packet is only valid during the call.
	RTP func(callID string, n int, packet []byte) [][]byte
}

const (
	defaultT1     = 500 * time.Millisecond
	defaultLinger = 300 * time.Millisecond
	defaultDigit  = 160 * time.Millisecond
)

// withDefaults fills in what was left out and refuses what cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.T1 == 0 {
		o.T1 = defaultT1
	}
	if o.Linger == 0 {
		o.Linger = defaultLinger
	}
	if o.TLSListen != "" && (o.TLS == nil || len(o.TLS.Certificates) == 0 && o.TLS.GetCertificate == nil) {
		return o, fmt.Errorf("%w: tls needs a certificate", ErrOptions)
	}
	if o.T1 < 0 || o.Linger < 0 || o.MaxCalls < 0 {
		return o, fmt.Errorf("%w: a negative time or limit", ErrOptions)
	}
	var err error
	o.Behaviour, err = o.Behaviour.withDefaults()
	return o, err
}

func (b Behaviour) withDefaults() (Behaviour, error) {
	if len(b.Codecs) == 0 {
		b.Codecs = []string{"PCMU", "PCMA"}
	}
	b.Codecs = slices.Clone(b.Codecs)
	for i, c := range b.Codecs {
		b.Codecs[i] = strings.ToUpper(strings.TrimSpace(c))
		if b.Codecs[i] != "PCMU" && b.Codecs[i] != "PCMA" {
			return b, fmt.Errorf("%w: codec %q, want pcmu or pcma", ErrOptions, c)
		}
	}
	if b.Refuse != 0 && (b.Refuse < 300 || b.Refuse > 699) {
		return b, fmt.Errorf("%w: refuse with %d, want 300 to 699", ErrOptions, b.Refuse)
	}
	for _, d := range []time.Duration{b.AnswerAfter, b.HangupAfter, b.ReferAfter, b.ReinviteAt, b.Ping} {
		if d < 0 {
			return b, fmt.Errorf("%w: negative time %v", ErrOptions, d)
		}
	}
	switch b.Reinvite {
	case NoReinvite, ReinviteSame, ReinviteNoSDP, ReinviteHold, ReinviteMove:
	default:
		return b, fmt.Errorf("%w: re-invite %q, want same, nosdp, hold or move", ErrOptions, b.Reinvite)
	}
	b.DTMF = slices.Clone(b.DTMF)
	for i, d := range b.DTMF {
		if _, ok := rtpwire.Code(d.Key); !ok || d.At < 0 || d.Duration < 0 || d.Duration > 8*time.Second {
			return b, fmt.Errorf("%w: digit %q at %v for %v", ErrOptions, d.Key, d.At, d.Duration)
		}
		if d.Duration == 0 {
			b.DTMF[i].Duration = defaultDigit
		}
	}
	for _, h := range slices.Concat(b.RefuseHeaders, b.ByeHeaders, b.ExtraHeaders) {
		if strings.ContainsAny(h.Name+h.Value, "\r\n\x00") || h.Name == "" {
			return b, fmt.Errorf("%w: header %q", ErrOptions, h.Name)
		}
	}
	return b, nil
}
