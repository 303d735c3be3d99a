package main

// The leg's frames: 20 ms of µ-law at 8000 Hz.
const (
	frameBytes = 160
	// maxFIFO is 400 ms: what is older than that in one burst is not worth hearing.
	maxFIFO = 400 * 8
)

// reframer cuts payloads of any size into frames of 160 bytes, in order.
type reframer struct {
	rest [frameBytes]byte // begun frame
	have int              // bytes in rest
	in   []byte           // not yet cut part of the last payload
}

// push takes the next payload and returns how many of the oldest bytes were
// dropped to stay within maxFIFO, a multiple of 160. The payload is referred to
// until next has returned nil.
func (r *reframer) push(payload []byte) (dropped int) {
	if over := r.have + len(payload) - maxFIFO; over > 0 {
		dropped = (over + frameBytes - 1) / frameBytes * frameBytes
		payload = payload[dropped-r.have:]
		r.have = 0
	}
	r.in = payload
	return dropped
}

// next returns the next frame, valid until the following call, or nil when the
// payload is used up.
func (r *reframer) next() []byte {
	if r.have == 0 && len(r.in) >= frameBytes {
		frame := r.in[:frameBytes]
		r.in = r.in[frameBytes:]
		return frame
	}
	n := copy(r.rest[r.have:], r.in)
	r.have += n
	r.in = r.in[n:]
	if r.have < frameBytes {
		r.in = nil
		return nil
	}
	r.have = 0
	return r.rest[:]
}
