package sdk

import (
	"encoding/binary"
	"time"

	"github.com/patchbay/patchbay/sdk/wire"
)

// FrameKind says what a frame carries.
type FrameKind = wire.Kind

// The kinds of frame.
const (
	Audio        = wire.KindAudio
	DTMF         = wire.KindDTMF
	ComfortNoise = wire.KindComfortNoise
	Mark         = wire.KindMark
	Clear        = wire.KindClear
)

// Frame is one ptime of media in the stream's codec, or something that has its
// place in between: a digit, a mark, a clear.
type Frame struct {
	Kind          FrameKind
	TalkSpurt     bool   // first frame after silence
	Discontinuity bool   // frames are missing before this one
	End           bool   // the stream's last
	Stream        int    // index into the leg's streams
	Sequence      uint32 // counts frames of the stream
	Timestamp     uint32 // in units of the codec's clock
	Origin        int64  // CLOCK_MONOTONIC ns of the first socket read; 0 unknown
	Payload       []byte // valid only until the handler returns
}

// DTMFPayload appends a digit's payload to dst; a length of 0 is unknown.
func DTMFPayload(dst []byte, digit byte, length time.Duration) []byte {
	ms := min(max(length.Milliseconds(), 0), 65535)
	return binary.LittleEndian.AppendUint16(append(dst, digit), uint16(ms))
}

// Digit reads the payload of a DTMF frame: one of 0-9 * # A-D, and how long it
// was pressed (0 unknown).
func (f *Frame) Digit() (digit byte, length time.Duration, ok bool) {
	if f.Kind != DTMF || len(f.Payload) < 1 || !ValidDigit(f.Payload[0]) {
		return 0, 0, false
	}
	if len(f.Payload) >= 3 {
		length = time.Duration(binary.LittleEndian.Uint16(f.Payload[1:])) * time.Millisecond
	}
	return f.Payload[0], length, true
}

// ValidDigit tells whether d is one of 0-9 * # A-D.
func ValidDigit(d byte) bool {
	return d >= '0' && d <= '9' || d >= 'A' && d <= 'D' || d == '*' || d == '#'
}

func (f *Frame) from(r *wire.Record, stream int) {
	*f = Frame{
		Kind:          r.Kind,
		TalkSpurt:     r.Flags&wire.FlagTalkSpurt != 0,
		Discontinuity: r.Flags&wire.FlagDiscontinuity != 0,
		End:           r.End(),
		Stream:        stream,
		Sequence:      r.Sequence,
		Timestamp:     r.Timestamp,
		Origin:        r.Origin,
		Payload:       r.Payload,
	}
}

func (f *Frame) record(id wire.StreamID) wire.Record {
	r := wire.Record{
		Kind: f.Kind, Stream: id, Sequence: f.Sequence,
		Timestamp: f.Timestamp, Origin: f.Origin, Payload: f.Payload,
	}
	if f.TalkSpurt {
		r.Flags |= wire.FlagTalkSpurt
	}
	if f.Discontinuity {
		r.Flags |= wire.FlagDiscontinuity
	}
	if f.End {
		r.Flags |= wire.FlagEnd
	}
	return r
}
