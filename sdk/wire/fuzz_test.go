package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	goproto "google.golang.org/protobuf/proto"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// FuzzBatch: whatever a plugin sends, each record read lies within the batch;
// packed again it reads the same; and where generated code writes the message
// as it stands, it reads the very same records.
func FuzzBatch(f *testing.F) {
	records := goldenRecords()
	f.Add(marshal(f, &pluginv1.MediaBatch{Packed: packAll(records)}))
	f.Add(marshal(f, &pluginv1.MediaBatch{Packed: packAll(records[:3]), Frames: []*pluginv1.MediaFrame{typed(&records[3]), typed(&records[4])}}))
	f.Add(marshal(f, &pluginv1.MediaBatch{Packed: packAll(records)[:40], Frames: []*pluginv1.MediaFrame{{Kind: 300}, typed(&records[5])}}))
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, message []byte) {
		var b Batch
		if decode(t, &b, message, 1<<20) != nil {
			return
		}
		if len(b.Packed) > len(message)+HeaderSize*len(message) {
			t.Fatalf("%d bytes grew to %d", len(message), len(b.Packed))
		}
		got := parseSome(b.Packed)
		if diff := cmp.Diff(got, parseSome(packAll(got))); diff != "" {
			t.Fatalf("packed again (-first +second):\n%s", diff)
		}
		var m pluginv1.MediaBatch
		if goproto.Unmarshal(message, &m) != nil {
			return
		}
		if again := marshal(t, &m); !bytes.Equal(again, message) {
			return // not written as generated code writes: fields repeated or out of order
		}
		want := parseSome(m.GetPacked())
		for _, fr := range m.GetFrames() {
			if fr.GetKind() <= 255 && fr.GetFlags() <= 255 && len(fr.GetPayload()) <= MaxPayload {
				want = append(want, Record{
					Kind: Kind(fr.GetKind()), Flags: Flags(fr.GetFlags()), Stream: StreamID(fr.GetStream()), Sequence: fr.GetSequence(),
					Timestamp: fr.GetTimestamp(), Origin: int64(fr.GetOrigin()), Payload: append([]byte{}, fr.GetPayload()...),
				})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("generated code reads (-generated +ours):\n%s", diff)
		}
	})
}

// parseSome reads the records up to the first that passes the end.
func parseSome(b []byte) []Record {
	var out []Record
	for len(b) > 0 {
		var r Record
		rest, err := r.Parse(b)
		if err != nil {
			break
		}
		out, b = append(out, r), rest
	}
	return out
}
