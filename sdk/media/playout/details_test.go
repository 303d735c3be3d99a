package playout_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk/media/g711"
	"github.com/patchbay/patchbay/sdk/media/playout"
)

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		config playout.Config
		want   string // in the error
	}{
		{playout.Config{}, ""},
		{playout.Config{Ptime: 30 * time.Millisecond}, ""},
		{playout.Config{Law: 7}, "law 7"},
		{playout.Config{Ptime: time.Millisecond}, "ptime 1ms"},
		{playout.Config{Ptime: 20*time.Millisecond + 1}, "ptime"},
		{playout.Config{Floor: 50 * time.Millisecond}, "floor 50ms"},
		{playout.Config{Ceiling: 60 * time.Millisecond}, "ceiling 60ms"},
		{playout.Config{Ceiling: time.Minute}, "ceiling 1m0s"},
	} {
		_, err := playout.NewBuffer(test.config)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: error is %v, want %q", test.config, err, test.want)
		}
	}
}

func TestEmpty(t *testing.T) {
	for law, silence := range map[playout.Law]byte{playout.ULaw: g711.SilenceULaw, playout.ALaw: g711.SilenceALaw} {
		b := newBuffer(t, playout.Config{Law: law})
		dst := make([]byte, b.FrameSize())
		for i := range 3 {
			if _, kind := b.Pop(int64(i)*ptime, dst); kind != playout.Fill {
				t.Errorf("kind %d, want Fill", kind)
			}
			if !bytes.Equal(dst, bytes.Repeat([]byte{silence}, frame)) {
				t.Errorf("law %d is filled with %x", law, dst[:4])
			}
		}
		if s := b.Stats(); s.Fills != 3 || s.Frames != 3 || s.Underruns != 0 {
			t.Errorf("stats %+v", s)
		}
	}
}

func TestALawSilenceIsKnown(t *testing.T) {
	b := newBuffer(t, playout.Config{Law: playout.ALaw})
	dst := make([]byte, frame)
	b.Pop(0, dst)
	b.Push(ms, bytes.Repeat([]byte{g711.SilenceALaw}, 6*frame), 0)
	for i := range 1000 {
		b.Push(int64(i+1)*ptime, bytes.Repeat([]byte{g711.SilenceALaw}, frame), 0)
		b.Pop(int64(i+1)*ptime+5*ms, dst)
	}
	if s := b.Stats(); s.Silence == 0 || s.Speech != 0 || b.Depth() > 20*time.Millisecond {
		t.Errorf("depth %v, stats %+v", b.Depth(), s)
	}
}

func TestClear(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	dst := make([]byte, frame)
	b.Pop(0, dst)
	b.Push(ms, stream(1, 3, always), 1)
	b.Clear()
	if b.Depth() != 0 || b.Stats().Cleared != 3*frame {
		t.Errorf("depth %v, stats %+v", b.Depth(), b.Stats())
	}
	next := stream(2, 1, always)
	b.Push(21*ms, next, 2)
	for now := 25 * ms; ; now += ptime {
		origin, kind := b.Pop(now, dst)
		if kind == playout.Fill && now < 100*ms {
			continue
		}
		if kind != playout.Audio || origin != 2 || !bytes.Equal(dst, next) {
			t.Errorf("kind %d, origin %d, frame %x", kind, origin, dst[:4])
		}
		break
	}
}

func TestOverflowKeepsTheNewest(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	dst := make([]byte, frame)
	b.Pop(0, dst)
	audio := stream(5, 100, always)
	b.Push(ms, audio[:90*frame], 1)
	b.Push(2*ms, audio[90*frame:], 2)
	if s := b.Stats(); s.Overflow != 94*frame || b.Depth() != 120*time.Millisecond {
		t.Errorf("depth %v, stats %+v", b.Depth(), s)
	}
	origin, kind := b.Pop(20*ms, dst)
	if kind != playout.Audio || origin != 2 || !bytes.Contains(audio[94*frame:], dst) {
		t.Errorf("kind %d, origin %d, frame %x", kind, origin, dst[:4])
	}
}

// TestPreroll: audio that came before the first Pop teaches the jitter and adds no delay.
func TestPreroll(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(6, 100, always)
	dst := make([]byte, frame)
	for i := range 100 {
		b.Push(int64(i)*ptime, audio[i*frame:(i+1)*frame], int64(i))
		checkAccount(t, b)
	}
	origin, kind := b.Pop(99*ptime+5*ms, dst)
	if kind != playout.Audio || origin != 99 || !bytes.Equal(dst, audio[99*frame:]) {
		t.Errorf("kind %d, origin %d, stats %+v", kind, origin, b.Stats())
	}
}

// TestResidue: what is too short for a frame is played after a while, not joined to the next talk.
func TestResidue(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	dst := make([]byte, frame)
	piece := stream(8, 1, always)[:100]
	b.Pop(0, dst)
	b.Push(ms, piece, 77)
	for now := ptime; now < 400*ms; now += ptime {
		origin, kind := b.Pop(now, dst)
		if kind == playout.Fill {
			continue
		}
		if now < 100*ms || origin != 77 || !bytes.Equal(dst[:100], piece) || !bytes.Equal(dst[100:], bytes.Repeat([]byte{0xFF}, 60)) {
			t.Errorf("at %d ms: origin %d, frame %x", now/ms, origin, dst)
		}
		checkAccount(t, b)
	}
	if s := b.Stats(); s.Played != 100 || s.Frames-s.Fills != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestTinyPayloads(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	audio := stream(9, 100, always)
	out := play(b, arrivals(audio, 1, none), 3*ms, func() { checkAccount(t, b) })
	if !bytes.Equal(heard(out), audio) {
		t.Errorf("%d samples heard of %d, stats %+v", len(heard(out)), len(audio), b.Stats())
	}
}

func TestNoAllocation(t *testing.T) {
	b := newBuffer(t, playout.Config{})
	payload, dst := stream(1, 1, always), make([]byte, frame)
	var now int64
	if n := testing.AllocsPerRun(1000, func() {
		b.Push(now, payload, now)
		b.Pop(now+5*ms, dst)
		now += ptime
	}); n != 0 {
		t.Errorf("Push and Pop allocate %v times", n)
	}
}

func BenchmarkPushPop(b *testing.B) {
	buffer := newBuffer(b, playout.Config{})
	payload, dst := stream(1, 1, always), make([]byte, frame)
	var now int64
	b.ReportAllocs()
	for b.Loop() {
		buffer.Push(now, payload, now)
		buffer.Pop(now+5*ms, dst)
		now += ptime
	}
}
