package g711

import "math/bits"

const (
	signBit = 0x80
	// uLawBias is added to a µ-law magnitude (in 14-bit units) so that each segment starts at a power of two.
	uLawBias = 33
	// uLawClip is the largest biased µ-law magnitude.
	uLawClip = 1<<13 - 1
	// aLawToggle inverts the even bits of every A-law code (G.711 §3.1, table 1, note 2).
	aLawToggle = 0x55
)

func build() *laws {
	t := new(laws)
	for i := range 1 << 8 {
		code := byte(i)
		t.decodeULaw[code] = expandULaw(code)
		t.decodeALaw[code] = expandALaw(code)
	}
	for i := range 1 << 16 {
		sample := int16(uint16(i))
		t.encodeULaw[i] = compressULaw(sample)
		t.encodeALaw[i] = compressALaw(sample)
	}
	for i := range 1 << 8 {
		code := byte(i)
		// By way of the linear value: the nearest code of the other law.
		t.uLawToALaw[code] = compressALaw(t.decodeULaw[code])
		t.aLawToULaw[code] = compressULaw(t.decodeALaw[code])
	}
	// µ-law -0 decodes to 0, which is positive; its sign is kept so that the halves of the scale stay mirrored.
	t.uLawToALaw[SilenceULaw^signBit] = SilenceALaw ^ signBit
	return t
}

// magnitude returns a sample without its sign, as one's complement, and the
// sign bit of its code: in both laws it is set for positive samples.
func magnitude(sample int16) (size uint16, sign byte) {
	if sample < 0 {
		return uint16(^sample), 0
	}
	return uint16(sample), signBit
}

// compressULaw is the encoding law of G.711 table 2: a 14-bit magnitude,
// biased, as 3 bits of segment and 4 of mantissa, all inverted.
func compressULaw(sample int16) byte {
	size, sign := magnitude(sample)
	biased := min(size>>2+uLawBias, uLawClip)
	segment := bits.Len16(biased >> 6)
	mantissa := biased >> (segment + 1) & 0x0F
	code := segment<<4 | int(mantissa)
	return byte(^code)&^signBit | sign
}

// compressALaw is the encoding law of G.711 table 1: a 12-bit magnitude as 3
// bits of segment and 4 of mantissa; segments 0 and 1 share one step size.
func compressALaw(sample int16) byte {
	size, sign := magnitude(sample)
	size >>= 4
	segment := bits.Len16(size >> 4)
	if segment > 1 {
		size >>= segment - 1
	}
	code := segment<<4 | int(size&0x0F)
	return (byte(code) | sign) ^ aLawToggle
}

// expandULaw returns the middle of a µ-law code's quantizing interval (G.711 table 2, column 8).
func expandULaw(code byte) int16 {
	inverted := ^code
	segment := inverted >> 4 & 7
	mantissa := int16(inverted & 0x0F)
	size := (2*mantissa+uLawBias)<<segment - uLawBias
	size <<= 2
	if code&signBit == 0 {
		return -size
	}
	return size
}

// expandALaw returns the middle of an A-law code's quantizing interval (G.711 table 1, column 8).
func expandALaw(code byte) int16 {
	plain := code ^ aLawToggle
	segment := plain >> 4 & 7
	size := int16(plain&0x0F)<<1 + 1
	if segment > 0 {
		size = (size + 32) << (segment - 1)
	}
	size <<= 3
	if plain&signBit == 0 {
		return -size
	}
	return size
}
