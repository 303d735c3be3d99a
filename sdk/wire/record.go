// Package wire is the media plane both ends share: the packed record, the
// batch with its gRPC codec, the bounded queue in front of the sender, and the
// slot table that turns a record's stream number into its leg.
//
// Core and the SDK use it; a plugin author does not need to.
package wire

import (
	"encoding/binary"
	"errors"
)

// Kind says what a record carries.
type Kind uint8

// The kinds of the contract (media.proto). A receiver skips others.
const (
	KindAudio        Kind = 0
	KindDTMF         Kind = 1
	KindComfortNoise Kind = 2
	KindMark         Kind = 3
	KindClear        Kind = 4
)

// Droppable tells whether a queue may lose a record of this kind under
// pressure. Only sound may be lost; what changes the call's course may not.
func (k Kind) Droppable() bool { return k == KindAudio || k == KindComfortNoise }

// Flags qualify a record.
type Flags uint8

// The flags of the contract (media.proto).
const (
	// FlagTalkSpurt marks the first frame after silence.
	FlagTalkSpurt Flags = 1
	// FlagDiscontinuity says that frames are missing before this one.
	FlagDiscontinuity Flags = 2
	// FlagEnd marks the stream's last record.
	FlagEnd Flags = 4
)

// HeaderSize is the length in bytes of a packed record's header.
const HeaderSize = 24

// MaxPayload is the longest payload the length field can say, in bytes. A
// [Queue] takes no more than fits into one batch: MaxBatch less the header.
const MaxPayload = 1<<16 - 1

// MaxBatch is the most bytes of packed records one message may carry.
const MaxBatch = 64 << 10

// ErrTruncated is a record that passes the end of its batch.
var ErrTruncated = errors.New("record passes the end of its batch")

// Record is one packed record, its payload a view into the batch it came in.
type Record struct {
	Kind      Kind
	Flags     Flags
	Stream    StreamID
	Sequence  uint32
	Timestamp uint32 // in units of the codec's clock
	Origin    int64  // CLOCK_MONOTONIC ns of the first socket read; 0 unknown
	Payload   []byte
}

// End tells whether this is the stream's last record.
func (r *Record) End() bool { return r.Flags&FlagEnd != 0 }

// droppable tells whether a queue may lose this very record.
func (r *Record) droppable() bool { return r.Kind.Droppable() && !r.End() }

// Size is the record's packed length in bytes.
func (r *Record) Size() int { return HeaderSize + len(r.Payload) }

// Append packs r behind dst. The payload must be at most MaxPayload long.
func (r *Record) Append(dst []byte) []byte {
	var h [HeaderSize]byte
	binary.LittleEndian.PutUint16(h[0:], uint16(len(r.Payload)))
	h[2], h[3] = byte(r.Kind), byte(r.Flags)
	binary.LittleEndian.PutUint32(h[4:], uint32(r.Stream))
	binary.LittleEndian.PutUint32(h[8:], r.Sequence)
	binary.LittleEndian.PutUint32(h[12:], r.Timestamp)
	binary.LittleEndian.PutUint64(h[16:], uint64(r.Origin))
	return append(append(dst, h[:]...), r.Payload...)
}

// Parse reads the record at the head of b into r and returns what follows.
// A record that passes the end of b is ErrTruncated: nothing after it can be
// trusted, so the rest of the batch is lost.
func (r *Record) Parse(b []byte) (rest []byte, err error) {
	if len(b) < HeaderSize {
		return nil, ErrTruncated
	}
	n := HeaderSize + int(binary.LittleEndian.Uint16(b))
	if n > len(b) {
		return nil, ErrTruncated
	}
	r.Kind, r.Flags = Kind(b[2]), Flags(b[3])
	r.Stream = StreamID(binary.LittleEndian.Uint32(b[4:]))
	r.Sequence = binary.LittleEndian.Uint32(b[8:])
	r.Timestamp = binary.LittleEndian.Uint32(b[12:])
	r.Origin = int64(binary.LittleEndian.Uint64(b[16:]))
	r.Payload = b[HeaderSize:n:n]
	return b[n:], nil
}
