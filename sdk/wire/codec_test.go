package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	goproto "google.golang.org/protobuf/proto"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

func marshal(tb testing.TB, m goproto.Message) []byte {
	tb.Helper()
	b, err := goproto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func typed(r *Record) *pluginv1.MediaFrame {
	return &pluginv1.MediaFrame{
		Kind: uint32(r.Kind), Flags: uint32(r.Flags), Stream: uint32(r.Stream), Sequence: r.Sequence,
		Timestamp: r.Timestamp, Origin: uint64(r.Origin), Payload: r.Payload,
	}
}

func packAll(records []Record) []byte {
	var packed []byte
	for i := range records {
		packed = records[i].Append(packed)
	}
	return packed
}

// decode reads a message through the codec in slices of at most n bytes.
func decode(tb testing.TB, b *Batch, message []byte, n int) error {
	tb.Helper()
	var data mem.BufferSlice
	for chunk := message; len(chunk) > 0; {
		k := min(n, len(chunk))
		data = append(data, mem.SliceBuffer(chunk[:k]))
		chunk = chunk[k:]
	}
	return NewCodec().Unmarshal(data, b)
}

// A peer with generated code reads what we send.
func TestGeneratedCodeReadsBatch(t *testing.T) {
	records := goldenRecords()
	data, err := NewCodec().Marshal(&Batch{Packed: packAll(records)})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	var m pluginv1.MediaBatch
	if err := goproto.Unmarshal(data.Materialize(), &m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(records, parseAll(t, m.GetPacked())); diff != "" || len(m.GetFrames()) != 0 {
		t.Errorf("%d frames, packed (-want +got):\n%s", len(m.GetFrames()), diff)
	}
}

// We read what a peer with generated code sends, packed, typed or both,
// however the transport cuts it.
func TestBatchReadsGeneratedCode(t *testing.T) {
	records := goldenRecords()
	var frames []*pluginv1.MediaFrame
	for i := range records {
		frames = append(frames, typed(&records[i]))
	}
	for name, m := range map[string]*pluginv1.MediaBatch{
		"packed": {Packed: packAll(records)},
		"typed":  {Frames: frames},
		"both":   {Packed: packAll(records[:2]), Frames: frames[2:]},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1 << 20, 7, 1} {
				batch := Batch{Packed: []byte("what an earlier message left"), Malformed: 3}
				if err := decode(t, &batch, marshal(t, m), n); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(records, parseAll(t, batch.Packed)); diff != "" || batch.Malformed != 0 {
					t.Errorf("in slices of %d: %d malformed, (-want +got):\n%s", n, batch.Malformed, diff)
				}
			}
		})
	}
}

func TestBatchTypedFrames(t *testing.T) {
	good := &pluginv1.MediaFrame{Kind: 3, Sequence: 7}
	newer := protowire.AppendString(protowire.AppendTag(marshal(t, good), 99, protowire.BytesType), "a later version's")
	bad := protowire.AppendTag(nil, 2, protowire.BytesType)
	bad = protowire.AppendBytes(bad, []byte{0xFF})
	for _, tc := range []struct {
		name      string
		message   []byte
		records   int
		malformed int
	}{
		{"kind over a byte", marshal(t, &pluginv1.MediaBatch{Frames: []*pluginv1.MediaFrame{{Kind: 256}, good}}), 1, 1},
		{"flags over a byte", marshal(t, &pluginv1.MediaBatch{Frames: []*pluginv1.MediaFrame{good, {Flags: 1 << 31}}}), 1, 1},
		{"payload too long", marshal(t, &pluginv1.MediaBatch{Frames: []*pluginv1.MediaFrame{{Payload: make([]byte, MaxPayload+1)}, good}}), 1, 1},
		{"no frame at all", append(bad, marshal(t, &pluginv1.MediaBatch{Frames: []*pluginv1.MediaFrame{good}})...), 1, 1},
		{"unknown field in frame", protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), newer), 1, 0},
		{"unknown field in batch", append(protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 9), marshal(t, &pluginv1.MediaBatch{Frames: []*pluginv1.MediaFrame{good}})...), 1, 0},
		{
			"packed bytes end inside a record",
			marshal(t, &pluginv1.MediaBatch{Packed: sound(1).Append(nil)[:100], Frames: []*pluginv1.MediaFrame{good}}), 1, 1,
		},
		{
			"packed bytes end inside a header",
			marshal(t, &pluginv1.MediaBatch{Packed: append(sound(1).Append(nil), 1), Frames: []*pluginv1.MediaFrame{good}}), 2, 1,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b Batch
			if err := decode(t, &b, tc.message, 1<<20); err != nil {
				t.Fatal(err)
			}
			got := parseAll(t, b.Packed)
			if len(got) != tc.records || b.Malformed != tc.malformed || got[len(got)-1].Sequence != 7 {
				t.Errorf("%d malformed, records %+v", b.Malformed, got)
			}
		})
	}
}

func TestBatchBrokenFraming(t *testing.T) {
	whole := marshal(t, &pluginv1.MediaBatch{Packed: sound(1).Append(nil)})
	for _, n := range []int{1, 2, 50, len(whole) - 1} {
		var b Batch
		if err := decode(t, &b, whole[:n], 1<<20); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(whole))
		}
	}
}

func TestCodecLeavesTheRestAlone(t *testing.T) {
	c := NewCodec()
	if c.Name() != proto.Name {
		t.Errorf("named %q", c.Name())
	}
	in := &pluginv1.Admit{RequestId: 7, Number: "+17345550100"}
	data, err := c.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	if !bytes.Equal(data.Materialize(), marshal(t, in)) {
		t.Error("another message is written differently")
	}
	var out pluginv1.Admit
	if err := c.Unmarshal(data, &out); err != nil || !goproto.Equal(in, &out) {
		t.Errorf("read %v, %v", &out, err)
	}
}

// Design §4: a batch costs next to nothing, whatever it holds.
func TestCodecAllocations(t *testing.T) {
	c := NewCodec()
	in := &Batch{}
	for range 100 {
		in.Packed = sound(1).Append(in.Packed)
	}
	var out Batch
	n := testing.AllocsPerRun(100, func() {
		data, err := c.Marshal(in)
		if err == nil {
			err = c.Unmarshal(data, &out)
		}
		if err != nil {
			t.Fatal(err)
		}
		data.Free()
	})
	if n > 6 {
		t.Errorf("%v allocations for a batch of 100 records", n)
	}
	if !bytes.Equal(in.Packed, out.Packed) {
		t.Error("batch came out different")
	}
}
