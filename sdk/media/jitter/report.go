package jitter

// Report is what an RTCP reception report block tells (RFC 3550 §6.4.1).
type Report struct {
	// SSRC is the source that is reported on.
	SSRC uint32
	// FractionLost is the share lost since the last Report, in 1/256.
	FractionLost uint8
	// CumulativeLost is expected less received packets; duplicates make it smaller, even
	// negative. It stays within the 24 bits of its field.
	CumulativeLost int32
	// HighestSeq is the highest sequence number received, extended by its cycles.
	HighestSeq uint32
	// Jitter is the interarrival jitter in timestamp units.
	Jitter uint32
}

// reception keeps the figures of RFC 3550 appendix A.
type reception struct {
	rate    int64
	ssrc    uint32
	base    uint32 // extended sequence number of the first packet
	highest uint32 // extended
	packets uint32

	expectedBefore, packetsBefore uint32 // at the last report

	seen      Header // the last packet received
	timed     bool
	timestamp uint32 // of the last packet timed
	arrival   uint32 // the same, in timestamp units
	jitter    uint32 // times 16
}

func (r *reception) begin(h Header) {
	*r = reception{rate: r.rate, ssrc: h.SSRC, base: uint32(h.Seq), highest: uint32(h.Seq)}
}

// received counts a packet and feeds the jitter estimate.
func (r *reception) received(now int64, h Header) {
	r.packets++
	if ahead := h.Seq - uint16(r.highest); ahead < 1<<15 { // the low half is the sequence number
		r.highest += uint32(ahead)
	}
	// Packets that share a timestamp (telephone events) would show up as jitter that no network made.
	same := h.Timestamp == r.seen.Timestamp || h.PayloadType != r.seen.PayloadType
	r.seen = h
	if r.timed && same {
		return
	}
	// Whole seconds apart, so that no clock is too large to multiply.
	arrival := uint32(now/1e9*r.rate + now%1e9*r.rate/1e9) // modulo 2^32, like timestamps
	if r.timed {
		// RFC 3550 appendix A.8.
		d := int32(arrival - r.arrival - (h.Timestamp - r.timestamp)) // a difference modulo 2^32
		size := uint32(max(d, -d))                                    // not negative but for the one value whose bits are right
		r.jitter += size - (r.jitter+8)>>4
	}
	r.timed, r.timestamp, r.arrival = true, h.Timestamp, arrival
}

// Report returns the figures for an RTCP reception report, and begins a new
// interval for FractionLost. It is false while no packet has come.
func (b *Buffer) Report() (Report, bool) {
	r := &b.report
	if r.packets == 0 {
		return Report{}, false
	}
	// RFC 3550 appendix A.3.
	expected := r.highest - r.base + 1
	lost := int64(expected) - int64(r.packets)
	interval := expected - r.expectedBefore
	lostInterval := int64(interval) - int64(r.packets-r.packetsBefore)
	r.expectedBefore, r.packetsBefore = expected, r.packets
	report := Report{
		SSRC:           r.ssrc,
		CumulativeLost: int32(min(max(lost, -1<<23), 1<<23-1)),
		HighestSeq:     r.highest,
		Jitter:         r.jitter >> 4,
	}
	if interval > 0 && lostInterval > 0 {
		report.FractionLost = uint8(min(lostInterval<<8/int64(interval), 255))
	}
	return report, true
}

// Jitter returns the interarrival jitter estimate of RFC 3550 §6.4.1 in ns.
func (b *Buffer) Jitter() int64 {
	return int64(b.report.jitter>>4) * 1e9 / b.report.rate
}
