package wav

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Format tags (RFC 2361).
const (
	tagPCM        = 0x0001
	tagALaw       = 0x0006
	tagMuLaw      = 0x0007
	tagExtensible = 0xFFFE
)

const (
	maxChannels   = 256
	maxSampleRate = 1 << 20
)

// guidTail is what follows the format tag in a WAVE_FORMAT_EXTENSIBLE sub-format.
const guidTail = "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

// parse walks the chunks of a whole file. The result's Data is a part of raw.
func parse(raw []byte) (*File, error) {
	if len(raw) < 12 || string(raw[:4]) != "RIFF" || string(raw[8:12]) != "WAVE" {
		return nil, fmt.Errorf("%w: it does not begin with RIFF…WAVE", ErrNotWave)
	}
	// The RIFF length at raw[4:8] is not used: streaming writers leave it 0 or
	// 0xFFFFFFFF, and the input's own end is the better witness.
	var file *File
	for rest := raw[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:8]))
		body := rest[8:]
		switch id {
		case "fmt ":
			var err error
			if file, err = parseFormat(body[:min(size, int64(len(body)))]); err != nil {
				return nil, err
			}
		case "data":
			if file == nil {
				return nil, fmt.Errorf("%w: its data comes before its format", ErrNotWave)
			}
			if size == 0 && !startsChunk(body) {
				size = int64(len(body)) // a writer that never came back to fill in the length
			}
			body = body[:min(size, int64(len(body)))]
			whole := len(body) - len(body)%(file.Channels*file.Format.sampleBytes())
			file.Data = body[:whole:whole]
			return file, nil
		}
		rest = skip(body, size)
	}
	return nil, fmt.Errorf("%w: it holds no samples", ErrNotWave)
}

// skip returns what follows a chunk's body of the given size. Odd bodies are
// padded to even length, though not every writer does so.
func skip(body []byte, size int64) []byte {
	if size >= int64(len(body)) {
		return nil
	}
	body = body[size:]
	if size%2 == 1 && !startsChunk(body) {
		body = body[1:]
	}
	return body
}

// startsChunk reports whether b begins with the name of a chunk that stands near samples.
func startsChunk(b []byte) bool {
	for _, id := range []string{"data", "fmt ", "fact", "LIST"} {
		if bytes.HasPrefix(b, []byte(id)) {
			return true
		}
	}
	return false
}

func parseFormat(body []byte) (*File, error) {
	if len(body) < 16 {
		return nil, fmt.Errorf("%w: its format chunk has %d bytes, want 16 or more", ErrNotWave, len(body))
	}
	le := binary.LittleEndian
	tag, channels, rate, bits := le.Uint16(body), le.Uint16(body[2:]), le.Uint32(body[4:]), le.Uint16(body[14:])
	if tag == tagExtensible {
		if len(body) < 40 || string(body[26:40]) != guidTail {
			return nil, fmt.Errorf("%w: an extensible format of unknown kind; convert it to 16-bit PCM", ErrUnsupported)
		}
		tag = le.Uint16(body[24:])
	}
	if channels == 0 || channels > maxChannels || rate == 0 || rate > maxSampleRate {
		return nil, fmt.Errorf("%w: %d channels at %d Hz", ErrUnsupported, channels, rate)
	}
	file := &File{SampleRate: int(rate), Channels: int(channels)}
	switch {
	case tag == tagPCM && bits == 16:
		file.Format = PCM16
	case tag == tagMuLaw && bits == 8:
		file.Format = MuLaw
	case tag == tagALaw && bits == 8:
		file.Format = ALaw
	default:
		return nil, fmt.Errorf("%w: format tag 0x%04x with %d bits, want 16-bit PCM, mu-law or A-law", ErrUnsupported, tag, bits)
	}
	return file, nil
}
