package g711_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay/patchbay/sdk/media/g711"
)

// law is one of the two laws, so that each test is written once.
type law struct {
	name      string
	encode    func(int16) byte
	decode    func(byte) int16
	overload  float64 // the linear value of the law's virtual end of scale
	loadLevel float64 // dBm0 of a full-scale sine (G.711 §2)
}

func lawsUnderTest() []law {
	return []law{
		{"ulaw", g711.EncodeULaw, g711.DecodeULaw, 8159 * 4, 3.17},
		{"alaw", g711.EncodeALaw, g711.DecodeALaw, 4096 * 8, 3.14},
	}
}

func TestGoldenSweep(t *testing.T) {
	for _, law := range lawsUnderTest() {
		t.Run(law.name, func(t *testing.T) {
			positive := golden(t, law.name+".positive", 1<<15)
			for i, want := range positive {
				sample := int16(i)
				if got := law.encode(sample); got != want {
					t.Fatalf("encode(%d) = %#02x, want %#02x", sample, got, want)
				}
				// G.191: a negative sample is its one's complement with the sign bit cleared.
				if got := law.encode(^sample); got != want^0x80 {
					t.Fatalf("encode(%d) = %#02x, want %#02x", ^sample, got, want^0x80)
				}
			}
			decoded := golden(t, law.name+".decoded", 1<<9)
			for code := range 1 << 8 {
				want := int16(binary.LittleEndian.Uint16(decoded[2*code:]))
				if got := law.decode(byte(code)); got != want {
					t.Fatalf("decode(%#02x) = %d, want %d", code, got, want)
				}
			}
		})
	}
}

func golden(t *testing.T, name string, size int) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != size {
		t.Fatalf("%s has %d bytes, want %d", name, len(data), size)
	}
	return data
}

// TestRecommendationValues checks the segment ends of G.711 tables 1a and 2a:
// the decoder's value of the first interval of each segment, and of the last.
func TestRecommendationValues(t *testing.T) {
	uLaw := map[byte]int16{ // table 2a/G.711, column 8, in 14-bit units
		0xFF: 0, 0xFE: 2, 0xEF: 33, 0xDF: 99, 0xCF: 231, 0xBF: 495, 0xAF: 1023, 0x9F: 2079, 0x8F: 4191, 0x80: 8031,
	}
	for code, value := range uLaw {
		if got := g711.DecodeULaw(code); got != value*4 {
			t.Errorf("DecodeULaw(%#02x) = %d, want %d", code, got, value*4)
		}
		if got := g711.DecodeULaw(code ^ 0x80); got != -value*4 {
			t.Errorf("DecodeULaw(%#02x) = %d, want %d", code^0x80, got, -value*4)
		}
	}
	aLaw := map[byte]int16{ // table 1a/G.711, column 8, in 13-bit units, by decoder output number
		1: 1, 17: 33, 33: 66, 49: 132, 65: 264, 81: 528, 97: 1056, 113: 2112, 128: 4032,
	}
	for number, value := range aLaw {
		code := (number - 1 | 0x80) ^ 0x55
		if got := g711.DecodeALaw(code); got != value*8 {
			t.Errorf("DecodeALaw(%#02x) = %d, want %d", code, got, value*8)
		}
	}
	// Decision values: one unit below the threshold and on it (tables 1a and 2a, column 4).
	for _, threshold := range []int16{31, 95, 223, 479, 991, 2015, 4063} {
		below, on := g711.EncodeULaw(threshold*4-1), g711.EncodeULaw(threshold*4)
		if on>>4 != below>>4-1 {
			t.Errorf("u-law threshold %d: codes %#02x and %#02x are not in adjoining segments", threshold, below, on)
		}
	}
}

// TestDigitalMilliwatt checks that the 1 kHz sequences of G.711 tables 5 and 6
// have a level of 0 dBm0, and are code for code what the encoder makes of them.
func TestDigitalMilliwatt(t *testing.T) {
	sequences := map[string][]byte{
		"alaw": {0x34, 0x21, 0x21, 0x34, 0xB4, 0xA1, 0xA1, 0xB4},
		"ulaw": {0x1E, 0x0B, 0x0B, 0x1E, 0x9E, 0x8B, 0x8B, 0x9E},
	}
	for _, law := range lawsUnderTest() {
		var power float64
		for _, code := range sequences[law.name] {
			sample := law.decode(code)
			power += float64(sample) * float64(sample) / 8
			if got := law.encode(sample); got != code {
				t.Errorf("%s: encode(decode(%#02x)) = %#02x", law.name, code, got)
			}
		}
		level := 10*math.Log10(power/(law.overload*law.overload/2)) + law.loadLevel
		if math.Abs(level) > 0.05 {
			t.Errorf("%s: digital milliwatt has %.3f dBm0, want 0", law.name, level)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, law := range lawsUnderTest() {
		for code := range 1 << 8 {
			got := law.encode(law.decode(byte(code)))
			if got != byte(code) && law.decode(byte(code)) != 0 {
				t.Errorf("%s: encode(decode(%#02x)) = %#02x", law.name, code, got)
			}
		}
		last := law.decode(law.encode(math.MinInt16))
		for sample := math.MinInt16; sample <= math.MaxInt16; sample++ {
			now := law.decode(law.encode(int16(sample)))
			if now < last {
				t.Fatalf("%s: not monotonic at %d: %d after %d", law.name, sample, now, last)
			}
			last = now
		}
	}
}

func TestBetweenLaws(t *testing.T) {
	all := make([]byte, 1<<8)
	for i := range all {
		all[i] = byte(i)
	}
	toA, toU := make([]byte, len(all)), make([]byte, len(all))
	g711.ULawToALaw(toA, all)
	g711.ALawToULaw(toU, all)
	for i := range all {
		checkNear(t, "ULawToALaw", g711.DecodeULaw(all[i]), g711.DecodeALaw(toA[i]))
		checkNear(t, "ALawToULaw", g711.DecodeALaw(all[i]), g711.DecodeULaw(toU[i]))
	}
	if toA[g711.SilenceULaw] != g711.SilenceALaw {
		t.Errorf("u-law silence becomes %#02x, want %#02x", toA[g711.SilenceULaw], g711.SilenceALaw)
	}
	inPlace := bytes.Clone(all)
	g711.ULawToALaw(inPlace, inPlace)
	if !bytes.Equal(inPlace, toA) {
		t.Error("ULawToALaw in place differs from ULawToALaw into another slice")
	}
	short := make([]byte, 3)
	g711.ALawToULaw(short, all)
	if !bytes.Equal(short, toU[:3]) {
		t.Errorf("ALawToULaw into 3 bytes = %x, want %x", short, toU[:3])
	}
}

// checkNear checks that the chosen code of the other law is off by no more than
// half a quantizing interval of that law: 1/32 of the value, or 8 near zero.
func checkNear(t *testing.T, name string, value, became int16) {
	t.Helper()
	size, off := max(int(value), -int(value)), max(int(value)-int(became), int(became)-int(value))
	if off > size/32+8 {
		t.Errorf("%s: %d became %d", name, value, became)
	}
}

func TestNoAllocation(t *testing.T) {
	frame := make([]byte, 160)
	if n := testing.AllocsPerRun(100, func() { g711.ULawToALaw(frame, frame) }); n != 0 {
		t.Errorf("ULawToALaw allocates %v times", n)
	}
}

func BenchmarkULawToALaw(b *testing.B) {
	frame := make([]byte, 160)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		g711.ULawToALaw(frame, frame)
	}
}

func BenchmarkEncodeULaw(b *testing.B) {
	linear, frame := make([]int16, 160), make([]byte, 160)
	for i := range linear {
		linear[i] = int16(8000 * math.Sin(float64(i)))
	}
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		for i, sample := range linear {
			frame[i] = g711.EncodeULaw(sample)
		}
	}
}
