package rtpwire

import (
	"slices"
	"time"
)

// Kind tells what a packet's payload type stands for in the current negotiation.
type Kind uint8

// The kinds of packet.
const (
	Wrong Kind = iota // a payload type nobody agreed on
	Audio
	Telephone
)

const (
	// step is 20 ms in timestamp units (RFC 3551 §4.5.14: 8000 Hz).
	step = 160
	// gap is the inter-arrival time from which on a hole in the pacing is counted.
	gap = 25 * time.Millisecond
	// maxSSRC bounds the sources that are told apart.
	maxSSRC = 64
	// window is how many sequence numbers back a duplicate is recognised.
	window = 512
)

// Stats are the figures of the received stream; the times are in milliseconds.
type Stats struct {
	Packets        int     `json:"packets"`
	Audio          int     `json:"audio"`
	Bytes          int64   `json:"bytes"`
	Malformed      int     `json:"malformed"`
	WrongPT        int     `json:"wrong_pt"`
	ForeignSource  int     `json:"foreign_source"`
	Lost           int     `json:"lost"`
	Duplicates     int     `json:"duplicates"`
	Reordered      int     `json:"reordered"`
	SSRCs          int     `json:"ssrcs"`
	Markers        int     `json:"markers"`
	Fill           int     `json:"fill"`
	TimestampSteps int     `json:"timestamp_steps"`
	WrongSize      int     `json:"wrong_size"`
	Gaps           int     `json:"gaps"`
	P50            float64 `json:"p50_ms"`
	P99            float64 `json:"p99_ms"`
	Max            float64 `json:"max_ms"`
	Jitter         float64 `json:"jitter_ms"`
	BeforeAnswer   int     `json:"before_answer"`
	AfterEnd       int     `json:"after_end"`
	FirstMS        float64 `json:"first_ms"` // from the INVITE to the first packet; -1 without packets
}

// Receiver judges one stream. It is not safe for concurrent use.
type Receiver struct {
	stats  Stats
	dtmf   Tracker
	ssrcs  []uint32
	pacing histogram

	last    time.Time // arrival of the packet before
	ssrc    uint32
	base    uint32 // first extended sequence number of the current source
	highest uint32 // highest extended sequence number
	unique  uint32 // distinct packets of the current source
	lost    int    // of the sources before the current one
	seen    [window]uint32

	audioSeq, audioTS uint32 // of the last audio packet in order
	transit           int64  // RFC 3550 §A.8, in timestamp units
	jitter            float64
	prevExpected      uint32 // of the last report block
	prevUnique        uint32
}

// NewReceiver returns a receiver that has heard nothing.
func NewReceiver() *Receiver { return &Receiver{} }

// Packet is one received packet as it is kept for recordings and tests.
type Packet struct {
	Seq         uint16
	ExtSeq      uint32 // sequence number with the wraps counted
	Source      int    // counts the SSRCs in the order of their appearance
	Timestamp   uint32
	SSRC        uint32
	Marker      bool
	PayloadType uint8
	Kind        Kind
	Arrived     time.Time
	Payload     []byte
}

// Receive takes in one packet. The result's Payload is the argument, not a copy; new is false for a duplicate.
func (r *Receiver) Receive(h Header, payload []byte, kind Kind, fill byte, now time.Time) (p Packet, isNew bool) {
	s := &r.stats
	s.Packets++
	s.Bytes += int64(len(payload))
	if kind == Wrong {
		s.WrongPT++
	}
	if h.Marker {
		s.Markers++
	}
	if !r.last.IsZero() && h.SSRC == r.ssrc {
		r.pace(now.Sub(r.last))
	}
	r.last = now
	ext, order := r.sequence(h)
	p = Packet{
		Seq: h.Seq, ExtSeq: ext, Source: len(r.ssrcs), Timestamp: h.Timestamp, SSRC: h.SSRC, Marker: h.Marker,
		PayloadType: h.PayloadType, Kind: kind, Arrived: now, Payload: payload,
	}
	if order == duplicate {
		s.Duplicates++
		return p, false
	}
	switch kind {
	case Audio:
		r.audio(h, ext, order, payload, fill, now)
	case Telephone:
		if ev, err := ParseEvent(payload); err == nil {
			r.dtmf.Receive(h, ev, now)
		} else {
			s.Malformed++
		}
	case Wrong:
	}
	return p, true
}

type order uint8

const (
	inOrder order = iota
	firstOfSource
	late
	duplicate
)

// sequence extends the sequence number (RFC 3550 §A.1) and tells duplicates and late packets.
func (r *Receiver) sequence(h Header) (uint32, order) {
	if len(r.ssrcs) == 0 || h.SSRC != r.ssrc {
		r.lost += r.currentLost()
		r.ssrc = h.SSRC
		if !slices.Contains(r.ssrcs, h.SSRC) && len(r.ssrcs) < maxSSRC {
			r.ssrcs = append(r.ssrcs, h.SSRC)
		}
		// One wrap is added so that a packet sent before the first one received still has a number above 0.
		r.base = 1<<16 + uint32(h.Seq)
		r.highest, r.unique, r.seen = r.base, 1, [window]uint32{}
		r.prevExpected, r.prevUnique = 0, 0
		r.seen[r.base%window] = r.base
		return r.base, firstOfSource
	}
	ext := r.highest + uint32(int32(int16(h.Seq-uint16(r.highest)))) // signed distance modulo 2^16
	if r.seen[ext%window] == ext {
		return ext, duplicate
	}
	r.seen[ext%window] = ext
	r.unique++
	if ext > r.highest {
		r.highest = ext
		return ext, inOrder
	}
	r.base = min(r.base, ext)
	r.stats.Reordered++
	return ext, late
}

func (r *Receiver) currentLost() int {
	if r.unique == 0 {
		return 0
	}
	return max(0, int(r.highest-r.base)+1-int(r.unique))
}

func (r *Receiver) pace(d time.Duration) {
	r.pacing.add(d)
	if d > gap {
		r.stats.Gaps++
	}
}

func (r *Receiver) audio(h Header, ext uint32, o order, payload []byte, fill byte, now time.Time) {
	s := &r.stats
	s.Audio++
	if len(payload) != step {
		s.WrongSize++
	}
	if isFill(payload, fill) {
		s.Fill++
	}
	transit := now.UnixMicro()*8/1000 - int64(h.Timestamp)
	if o == inOrder {
		d := max(transit-r.transit, r.transit-transit)
		if d < 8000 { // a jump of the timestamp is counted as such, not as jitter
			r.jitter += (float64(d) - r.jitter) / 16
		}
		r.checkStep(ext, h.Timestamp)
	}
	if o != late {
		r.transit, r.audioSeq, r.audioTS = transit, ext, h.Timestamp
	}
}

// checkStep counts timestamps that do not move by 160 per packet. Where packets of another kind lie between, as
// during a DTMF event, only whole steps are asked for.
func (r *Receiver) checkStep(ext, ts uint32) {
	if r.audioSeq == 0 {
		return
	}
	moved, packets := ts-r.audioTS, ext-r.audioSeq
	if packets == 1 && moved != step || packets > 1 && (moved%step != 0 || moved == 0 || moved > 1<<31) {
		r.stats.TimestampSteps++
	}
}

func isFill(payload []byte, fill byte) bool {
	for _, c := range payload {
		if c != fill {
			return false
		}
	}
	return len(payload) > 0
}

// Foreign counts a packet from an address that is not the latched one.
func (r *Receiver) Foreign() { r.stats.ForeignSource++ }

// Malformed counts a packet that was no RTP.
func (r *Receiver) Malformed() { r.stats.Malformed++ }

// BeforeAnswer counts a packet that came before the call was answered.
func (r *Receiver) BeforeAnswer() { r.stats.BeforeAnswer++ }

// AfterEnd counts a packet that came after the call had ended.
func (r *Receiver) AfterEnd() { r.stats.AfterEnd++ }

// Stats returns the figures so far.
func (r *Receiver) Stats() Stats {
	s := r.stats
	s.Lost = r.lost + r.currentLost()
	s.SSRCs = len(r.ssrcs)
	s.P50, s.P99, s.Max = r.pacing.quantile(0.50), r.pacing.quantile(0.99), r.pacing.longest()
	s.Jitter = r.jitter / 8
	s.FirstMS = -1
	return s
}

// DTMF returns the events so far.
func (r *Receiver) DTMF() []DTMFEvent { return r.dtmf.Events() }

// Block returns the report block for the current source and starts the next interval (RFC 3550 §A.3);
// ok is false while nothing was received.
func (r *Receiver) Block() (b Block, ok bool) {
	if r.unique == 0 {
		return Block{}, false
	}
	expected := r.highest - r.base + 1
	expectedNow, receivedNow := int64(expected)-int64(r.prevExpected), int64(r.unique)-int64(r.prevUnique)
	r.prevExpected, r.prevUnique = expected, r.unique
	b = Block{SSRC: r.ssrc, Lost: int32(expected - r.unique), HighestSeq: r.highest - 1<<16, Jitter: uint32(r.jitter)} // RFC 3550 field widths
	if lost := expectedNow - receivedNow; expectedNow > 0 && lost > 0 {
		b.FractionLost = uint8(min(255, lost<<8/expectedNow)) // 0..255
	}
	return b, true
}
