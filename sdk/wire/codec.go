package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // registers the standard codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Batch is MediaBatch on this side of the codec: its records in packed form.
// Typed frames of a peer that does not pack are packed while decoding, so that
// a receiver knows one form only.
type Batch struct {
	Packed []byte
	// Malformed counts typed frames that could not be packed, and packed bytes
	// that ended inside a record with more of the batch behind them.
	Malformed int
}

// errBatch is a batch whose protobuf framing is broken.
var errBatch = errors.New("media batch is not a protobuf message")

// Codec is the gRPC codec of the media plane. It is named "proto" and writes
// plain protobuf, so that any peer understands it; only for *Batch it goes
// round the generic code (design §4: 0.3 instead of 26 allocations a frame).
type Codec struct{ standard encoding.CodecV2 }

// NewCodec returns the codec to force on clients and servers.
func NewCodec() Codec { return Codec{encoding.GetCodecV2(proto.Name)} }

// Name implements encoding.CodecV2.
func (Codec) Name() string { return proto.Name }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*Batch)
	if !ok {
		return c.standard.Marshal(v)
	}
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(b.Packed))
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	out := protowire.AppendTag((*buf)[:0], 1, protowire.BytesType)
	out = protowire.AppendBytes(out, b.Packed)
	*buf = out
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// Unmarshal implements encoding.CodecV2. A batch's Packed is reused.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*Batch)
	if !ok {
		return c.standard.Unmarshal(data, v)
	}
	b.Packed, b.Malformed = b.Packed[:0], 0
	if len(data) == 1 {
		return b.decode(data[0].ReadOnlyData())
	}
	flat := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer flat.Free()
	return b.decode(flat.ReadOnlyData())
}

// decode reads media.proto's MediaBatch: packed (1) before frames (2), other
// fields skipped.
func (b *Batch) decode(in []byte) error {
	torn := false // packed bytes are at the end, not looked at yet
	for len(in) > 0 {
		num, typ, n := protowire.ConsumeTag(in)
		if n < 0 {
			return errBatch
		}
		in = in[n:]
		if typ != protowire.BytesType || (num != 1 && num != 2) {
			if n = protowire.ConsumeFieldValue(num, typ, in); n < 0 {
				return errBatch
			}
			in = in[n:]
			continue
		}
		body, n := protowire.ConsumeBytes(in)
		if n < 0 {
			return errBatch
		}
		in = in[n:]
		if torn {
			b.cutTorn()
			torn = false
		}
		if num == 1 {
			b.Packed = append(b.Packed, body...)
			torn = true // perhaps
			continue
		}
		if err := b.pack(body); err != nil {
			b.Malformed++
		}
	}
	return nil
}

// cutTorn takes a record off the end that passes the packed bytes it came in:
// what is appended next would be taken for its payload.
func (b *Batch) cutTorn() {
	if n := wholeRecords(b.Packed, len(b.Packed)); n < len(b.Packed) {
		b.Packed = b.Packed[:n]
		b.Malformed++
	}
}

// pack decodes one MediaFrame and appends it as a packed record.
func (b *Batch) pack(in []byte) error {
	var r Record
	for len(in) > 0 {
		num, typ, n := protowire.ConsumeTag(in)
		if n < 0 {
			return errBatch
		}
		in = in[n:]
		if n = protowire.ConsumeFieldValue(num, typ, in); n < 0 {
			return errBatch
		}
		value := in[:n]
		in = in[n:]
		switch {
		case typ == protowire.VarintType:
			u, _ := protowire.ConsumeVarint(value)
			if err := r.setVarint(num, u); err != nil {
				return err
			}
		case typ == protowire.Fixed32Type && num == 3:
			r.Stream = StreamID(binary.LittleEndian.Uint32(value))
		case typ == protowire.BytesType && num == 7:
			r.Payload, _ = protowire.ConsumeBytes(value)
		}
	}
	if len(r.Payload) > MaxPayload {
		return fmt.Errorf("payload of %d bytes: at most %d fit", len(r.Payload), MaxPayload)
	}
	b.Packed = r.Append(b.Packed)
	return nil
}

// setVarint sets one of media.proto's varint fields.
func (r *Record) setVarint(num protowire.Number, u uint64) error {
	switch int(num) {
	case 1:
		if u > 255 {
			return fmt.Errorf("kind %d does not fit a byte", u)
		}
		r.Kind = Kind(u)
	case 2:
		if u > 255 {
			return fmt.Errorf("flags %#x do not fit a byte", u)
		}
		r.Flags = Flags(u)
	case 4:
		r.Sequence = uint32(u)
	case 5:
		r.Timestamp = uint32(u)
	case 6:
		r.Origin = int64(u)
	}
	return nil
}
