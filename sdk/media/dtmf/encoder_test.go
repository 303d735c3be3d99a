package dtmf_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/sdk/media/dtmf"
)

const (
	ptime = 20 * time.Millisecond
	frame = 160
)

// dump writes what an encoder sends, a line per slot; runs of slots without a packet are one line.
func dump(e *dtmf.Encoder, slots int, keep func(slot int) bool) string {
	var out strings.Builder
	idle := 0
	for slot := range slots {
		packet, ok := e.Next(uint32(1000 + slot*frame))
		if !ok {
			idle++
			continue
		}
		if idle > 0 {
			fmt.Fprintf(&out, "audio × %d\n", idle)
			idle = 0
		}
		if keep == nil || keep(slot) {
			fmt.Fprintf(&out, "slot %d: ts %d marker %-5v payload %x\n", slot, packet.Timestamp, packet.Marker, packet.Payload)
		}
	}
	if idle > 0 {
		fmt.Fprintf(&out, "audio × %d\n", idle)
	}
	return out.String()
}

func TestEncoderGolden(t *testing.T) {
	tests := []struct {
		name  string
		add   func(e *dtmf.Encoder) error
		slots int
		keep  func(slot int) bool
	}{
		{"two-digits", func(e *dtmf.Encoder) error {
			return errors.Join(e.Add('5', 0), e.Add('#', time.Millisecond))
		}, 30, nil},
		// 9 s are 72000 units: the segment of 65535 closes in slot 409.
		{
			"long", func(e *dtmf.Encoder) error { return e.Add('d', 9*time.Second) }, 460,
			func(slot int) bool { return slot < 2 || slot > 406 && slot < 413 || slot > 447 },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want, err := os.ReadFile("testdata/" + test.name + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			e := dtmf.NewEncoder(ptime)
			if err := test.add(e); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), dump(e, test.slots, test.keep)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if e.Busy() {
				t.Error("still busy at the end")
			}
		})
	}
}

func TestEncoderAdd(t *testing.T) {
	e := dtmf.NewEncoder(ptime)
	for _, digit := range []byte{'E', 'e', ' ', 0, 0xFF, 'x'} {
		if err := e.Add(digit, 0); !errors.Is(err, dtmf.ErrDigit) {
			t.Errorf("Add(%q) = %v, want %v", digit, err, dtmf.ErrDigit)
		}
	}
	for range dtmf.QueueSize {
		if err := e.Add('1', 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Add('1', 0); !errors.Is(err, dtmf.ErrQueueFull) {
		t.Errorf("Add to a full queue = %v, want %v", err, dtmf.ErrQueueFull)
	}
	if _, ok := e.Next(0); !ok {
		t.Fatal("nothing is sent")
	}
	e.Clear()
	sent := 1
	for slot := 1; e.Busy(); slot++ {
		if _, ok := e.Next(uint32(slot * frame)); ok {
			sent++
		}
	}
	if sent != 8+2 {
		t.Errorf("%d packets of the digit that was being sent, want 10", sent)
	}
}

func TestEncoderNoAllocation(t *testing.T) {
	e := dtmf.NewEncoder(ptime)
	var timestamp uint32
	if n := testing.AllocsPerRun(1000, func() {
		if !e.Busy() {
			_ = e.Add('1', 0)
		}
		e.Next(timestamp)
		timestamp += frame
	}); n != 0 {
		t.Errorf("Next allocates %v times", n)
	}
}

func BenchmarkEncoderNext(b *testing.B) {
	e := dtmf.NewEncoder(ptime)
	var timestamp uint32
	b.ReportAllocs()
	for b.Loop() {
		if !e.Busy() {
			_ = e.Add('1', 0)
		}
		e.Next(timestamp)
		timestamp += frame
	}
}
