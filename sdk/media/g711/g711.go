// Package g711 converts between 16-bit linear audio and the two laws of ITU-T
// G.711, and between the laws, by table: one load per sample and no branch.
//
// The encoding follows the reference of ITU-T G.191 (the Software Tools
// Library): negative samples are taken as one's complement, so that the two
// halves of the scale are mirror images, ^x encoding to the code of x with the
// sign bit flipped.
package g711

const (
	// SilenceULaw is the µ-law code of a zero sample, byte for byte what a silent frame holds.
	SilenceULaw = 0xFF
	// SilenceALaw is the A-law code of the smallest positive sample; A-law has no code for zero.
	SilenceALaw = 0xD5
	// SampleRate is the rate of G.711 in samples (and so bytes) per second.
	SampleRate = 8000
)

// laws holds every table; it is built once, before main, and never written again.
type laws struct {
	encodeULaw [1 << 16]byte
	encodeALaw [1 << 16]byte
	decodeULaw [1 << 8]int16
	decodeALaw [1 << 8]int16
	uLawToALaw [1 << 8]byte
	aLawToULaw [1 << 8]byte
}

var table = build()

// EncodeULaw returns the µ-law code of a linear sample. The 14 most significant bits count.
func EncodeULaw(sample int16) byte { return table.encodeULaw[uint16(sample)] }

// EncodeALaw returns the A-law code of a linear sample. The 12 most significant bits count.
func EncodeALaw(sample int16) byte { return table.encodeALaw[uint16(sample)] }

// DecodeULaw returns the linear value of a µ-law code, 14 bits left justified (±32124).
func DecodeULaw(code byte) int16 { return table.decodeULaw[code] }

// DecodeALaw returns the linear value of an A-law code, 13 bits left justified (±32256).
func DecodeALaw(code byte) int16 { return table.decodeALaw[code] }

// ULawToALaw converts min(len(dst), len(src)) µ-law codes to A-law. dst may be src.
func ULawToALaw(dst, src []byte) { convert(&table.uLawToALaw, dst, src) }

// ALawToULaw converts min(len(dst), len(src)) A-law codes to µ-law. dst may be src.
func ALawToULaw(dst, src []byte) { convert(&table.aLawToULaw, dst, src) }

func convert(by *[1 << 8]byte, dst, src []byte) {
	dst = dst[:min(len(dst), len(src))]
	for i := range dst {
		dst[i] = by[src[i]]
	}
}
