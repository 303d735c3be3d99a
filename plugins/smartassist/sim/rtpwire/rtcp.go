package rtpwire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// RTCP packet types of RFC 3550 §12.1.
const (
	typeSR   = 200
	typeRR   = 201
	typeSDES = 202
	typeBYE  = 203
	typeAPP  = 204
)

// Report is what one compound RTCP packet said.
type Report struct {
	SenderReports   int
	ReceiverReports int
	Descriptions    int
	Byes            int
	Blocks          int // report blocks in SR and RR
	SSRC            uint32
	SenderPackets   uint32 // of the last SR
	SenderOctets    uint32
	NTP             uint64 // of the last SR
	FractionLost    uint8  // of the last block
	Jitter          uint32 // of the last block, in timestamp units
}

// ParseRTCP reads a compound packet and checks it against RFC 3550 appendix A.2: it begins with SR or RR, each part
// says version 2, and the lengths add up.
func ParseRTCP(b []byte) (Report, error) {
	var r Report
	for first := true; len(b) > 0; first = false {
		if len(b) < 8 || b[0]>>6 != 2 {
			return r, fmt.Errorf("%w: rtcp header", ErrMalformed)
		}
		kind, size := b[1], 4+4*int(binary.BigEndian.Uint16(b[2:]))
		if size > len(b) || size < 8 {
			return r, fmt.Errorf("%w: rtcp part of %d bytes in %d", ErrMalformed, size, len(b))
		}
		if first && kind != typeSR && kind != typeRR {
			return r, fmt.Errorf("%w: rtcp compound begins with type %d, not with SR or RR", ErrMalformed, kind)
		}
		if err := r.part(kind, int(b[0]&0x1f), b[4:size]); err != nil {
			return r, err
		}
		b = b[size:]
	}
	return r, nil
}

// part takes in one part of a compound; body begins with the SSRC.
func (r *Report) part(kind uint8, count int, body []byte) error {
	switch kind {
	case typeSR:
		if len(body) < 24+24*count {
			return fmt.Errorf("%w: sender report of %d bytes with %d blocks", ErrMalformed, len(body), count)
		}
		r.SenderReports++
		r.SSRC = binary.BigEndian.Uint32(body)
		r.NTP = binary.BigEndian.Uint64(body[4:])
		r.SenderPackets = binary.BigEndian.Uint32(body[16:])
		r.SenderOctets = binary.BigEndian.Uint32(body[20:])
		r.blocks(count, body[24:])
	case typeRR:
		if len(body) < 4+24*count {
			return fmt.Errorf("%w: receiver report of %d bytes with %d blocks", ErrMalformed, len(body), count)
		}
		r.ReceiverReports++
		r.SSRC = binary.BigEndian.Uint32(body)
		r.blocks(count, body[4:])
	case typeSDES:
		r.Descriptions++
	case typeBYE:
		r.Byes++
	}
	return nil
}

func (r *Report) blocks(count int, b []byte) {
	r.Blocks += count
	for range count {
		r.FractionLost = b[4]
		r.Jitter = binary.BigEndian.Uint32(b[12:])
		b = b[24:]
	}
}

// Outgoing is what the simulator says in its reports.
type Outgoing struct {
	SSRC      uint32
	Packets   uint32 // 0: a receiver report is sent (RFC 3550 §6.4)
	Octets    uint32
	Timestamp uint32
	CNAME     string
	Blocks    []Block
	Bye       bool
}

// Block is one report block (RFC 3550 §6.4.1).
type Block struct {
	SSRC         uint32
	FractionLost uint8
	Lost         int32
	HighestSeq   uint32
	Jitter       uint32
	LastSR       uint32
	DelaySinceSR uint32 // in 1/65536 s
}

// Append writes the compound packet SR or RR, SDES and, at the end, BYE behind dst.
func (o Outgoing) Append(dst []byte, now time.Time) []byte {
	n := len(o.Blocks)
	if o.Packets > 0 {
		dst = header(dst, n, typeSR, 24+24*n)
		dst = binary.BigEndian.AppendUint32(dst, o.SSRC)
		dst = binary.BigEndian.AppendUint64(dst, NTP(now))
		dst = binary.BigEndian.AppendUint32(dst, o.Timestamp)
		dst = binary.BigEndian.AppendUint32(dst, o.Packets)
		dst = binary.BigEndian.AppendUint32(dst, o.Octets)
	} else {
		dst = header(dst, n, typeRR, 4+24*n)
		dst = binary.BigEndian.AppendUint32(dst, o.SSRC)
	}
	for _, b := range o.Blocks {
		dst = binary.BigEndian.AppendUint32(dst, b.SSRC)
		lost := min(max(b.Lost, -1<<23), 1<<23-1)
		dst = binary.BigEndian.AppendUint32(dst, uint32(b.FractionLost)<<24|uint32(lost)&0xffffff) // 24-bit two's complement
		dst = binary.BigEndian.AppendUint32(dst, b.HighestSeq)
		dst = binary.BigEndian.AppendUint32(dst, b.Jitter)
		dst = binary.BigEndian.AppendUint32(dst, b.LastSR)
		dst = binary.BigEndian.AppendUint32(dst, b.DelaySinceSR)
	}
	name := o.CNAME[:min(len(o.CNAME), 255)]
	size := (4 + 2 + len(name) + 4) &^ 3 // SSRC, item header, text, and one to four zero bytes to end the chunk
	dst = header(dst, 1, typeSDES, size)
	dst = binary.BigEndian.AppendUint32(dst, o.SSRC)
	dst = append(dst, 1, byte(len(name))) // cut at 255
	dst = append(dst, name...)
	dst = append(dst, make([]byte, size-6-len(name))...)
	if o.Bye {
		dst = header(dst, 1, typeBYE, 4)
		dst = binary.BigEndian.AppendUint32(dst, o.SSRC)
	}
	return dst
}

func header(dst []byte, count int, kind uint8, size int) []byte {
	dst = append(dst, 0x80|byte(count&0x1f), kind)
	return binary.BigEndian.AppendUint16(dst, uint16(size/4)) // far below 2^16
}

// NTP returns a time in the 64-bit format of RFC 5905: seconds since 1900 and their 32-bit fraction.
func NTP(t time.Time) uint64 {
	const from1900 = 2208988800
	sec := uint64(t.Unix() + from1900)                   // after 1900
	frac := uint64(t.Nanosecond()) << 32 / 1_000_000_000 // below 2^32
	return sec<<32 | frac
}
