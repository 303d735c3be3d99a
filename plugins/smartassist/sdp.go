package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"
)

// Why an SDP body cannot be used. Compare with errors.Is.
var (
	errSDPSyntax  = errors.New("sdp cannot be read")
	errSDPNoAudio = errors.New("sdp has no usable audio stream")
	errSDPRefused = errors.New("sdp refuses the audio stream")
	errSDPCodec   = errors.New("sdp names no codec that was offered")
	errSDPAddress = errors.New("sdp has no usable address")
	errSDPPtime   = errors.New("sdp asks for a packet time that is not 20 ms")
)

// Static payload types, RFC 3551 §6, and the dynamic one we offer for events.
const (
	payloadPCMU  = 0
	payloadPCMA  = 8
	payloadEvent = 101
)

const (
	ptime     = 20 * time.Millisecond
	clockRate = 8000
	// frameSamples is one ptime of G.711: as many samples as bytes.
	frameSamples = clockRate / 50
)

// direction is the media direction as its sender sees it, RFC 3264 §5.1.
type direction string

const (
	sendRecv direction = "sendrecv"
	sendOnly direction = "sendonly"
	recvOnly direction = "recvonly"
	inactive direction = "inactive"
)

// reversed is the direction an answer gives to an offer's, RFC 3264 §6.1.
func (d direction) reversed() direction {
	switch d {
	case sendOnly:
		return recvOnly
	case recvOnly:
		return sendOnly
	default:
		return d
	}
}

// mediaDescription is what the peer's SDP says about the audio stream.
type mediaDescription struct {
	// rtp and rtcp are where the peer wants packets; not valid while held by 0.0.0.0.
	rtp, rtcp netip.AddrPort
	alaw      bool
	// payload and event are payload types to send; event is -1 when the peer takes no telephone events.
	payload   uint8
	event     int
	direction direction
	// held is true when the peer wants no audio from us.
	held bool
	// index of the audio stream, of media streams, for the answer to an offer.
	index, streams int
	// protocols and formats of all streams, to refuse the others with their own words.
	media []sdp.MediaName
}

// parseSDP reads an answer to our offer, or an offer of the peer's. Both may name any of our codecs under any payload
// type; the first one we speak is the one to use (RFC 3264 §6.1, §7).
func parseSDP(body []byte) (mediaDescription, error) {
	if len(body) == 0 {
		return mediaDescription{}, fmt.Errorf("%w: it is empty", errSDPSyntax)
	}
	var s sdp.SessionDescription
	if err := s.Unmarshal(body); err != nil {
		return mediaDescription{}, fmt.Errorf("%w: %w", errSDPSyntax, err)
	}
	m := mediaDescription{index: -1, event: -1, streams: len(s.MediaDescriptions)}
	for i, d := range s.MediaDescriptions {
		m.media = append(m.media, d.MediaName)
		if m.index < 0 && d.MediaName.Media == "audio" && strings.Join(d.MediaName.Protos, "/") == "RTP/AVP" {
			m.index = i
		}
	}
	if m.index < 0 {
		return mediaDescription{}, errSDPNoAudio
	}
	audio := s.MediaDescriptions[m.index]
	if audio.MediaName.Port.Value == 0 {
		return mediaDescription{}, errSDPRefused
	}
	if err := m.readCodecs(audio); err != nil {
		return mediaDescription{}, err
	}
	if err := m.readAddress(&s, audio); err != nil {
		return mediaDescription{}, err
	}
	if err := checkPtime(audio); err != nil {
		return mediaDescription{}, err
	}
	m.readDirection(&s, audio)
	return m, nil
}

// readCodecs takes the first format that is G.711 and the telephone-event that goes with it.
func (m *mediaDescription) readCodecs(audio *sdp.MediaDescription) error {
	names := map[string]string{"0": "pcmu/8000", "8": "pcma/8000"} // RFC 3551 §6: no rtpmap needed
	for _, a := range audio.Attributes {
		if a.Key != "rtpmap" {
			continue
		}
		pt, encoding, found := strings.Cut(a.Value, " ")
		if found {
			names[pt] = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(encoding)), "/1")
		}
	}
	chosen := false
	for _, format := range audio.MediaName.Formats {
		pt, err := strconv.ParseUint(format, 10, 8)
		if err != nil || pt > 127 {
			continue
		}
		switch name := names[format]; {
		case !chosen && (name == "pcmu/8000" || name == "pcma/8000"):
			chosen = true
			m.payload, m.alaw = uint8(pt), name == "pcma/8000"
		case m.event < 0 && name == "telephone-event/8000":
			m.event = int(pt)
		}
	}
	if !chosen {
		return errSDPCodec
	}
	if m.event == int(m.payload) {
		return fmt.Errorf("%w: audio and events share payload type %d", errSDPCodec, m.payload)
	}
	return nil
}

// readAddress finds c= of the stream, or of the session, and the RTCP port (RFC 3605; else the next one up).
func (m *mediaDescription) readAddress(s *sdp.SessionDescription, audio *sdp.MediaDescription) error {
	c := audio.ConnectionInformation
	if c == nil {
		c = s.ConnectionInformation
	}
	if c == nil || c.Address == nil {
		return fmt.Errorf("%w: no c= line", errSDPAddress)
	}
	addr, err := netip.ParseAddr(c.Address.Address)
	if err != nil {
		return fmt.Errorf("%w: %q is not an IP address", errSDPAddress, c.Address.Address)
	}
	port := audio.MediaName.Port.Value
	if port < 1 || port > 65535 {
		return fmt.Errorf("%w: port %d", errSDPAddress, port)
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() { // RFC 2543's hold, RFC 3264 §8.4
		m.held = true
		return nil
	}
	if addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("%w: %s is not a unicast address", errSDPAddress, addr)
	}
	m.rtp = netip.AddrPortFrom(addr, uint16(port))
	rtcpPort := port + 1
	if value, ok := audio.Attribute("rtcp"); ok {
		first, _, _ := strings.Cut(value, " ")
		if n, err := strconv.ParseUint(first, 10, 16); err == nil && n > 0 {
			rtcpPort = int(n)
		}
	}
	if rtcpPort <= 65535 {
		m.rtcp = netip.AddrPortFrom(addr, uint16(rtcpPort))
	}
	return nil
}

// checkPtime accepts what 20 ms packets satisfy: ptime is a wish (RFC 4566 §6), maxptime a bound.
func checkPtime(audio *sdp.MediaDescription) error {
	value, ok := audio.Attribute("maxptime")
	if !ok {
		return nil
	}
	if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 && n < int(ptime/time.Millisecond) {
		return fmt.Errorf("%w: maxptime %d", errSDPPtime, n)
	}
	return nil
}

// readDirection reads the stream's direction, else the session's, else sendrecv (RFC 3264 §5.1).
func (m *mediaDescription) readDirection(s *sdp.SessionDescription, audio *sdp.MediaDescription) {
	m.direction = sendRecv
	for _, attributes := range [][]sdp.Attribute{s.Attributes, audio.Attributes} {
		for _, a := range attributes {
			switch d := direction(a.Key); d {
			case sendRecv, sendOnly, recvOnly, inactive:
				m.direction = d
			}
		}
	}
	if m.direction == sendOnly || m.direction == inactive {
		m.held = true
	}
}

// localMedia is our side of the SDP of one call.
type localMedia struct {
	address netip.Addr
	port    uint16
	// session and version identify the description; version grows by one with each change (RFC 3264 §8).
	session, version uint64
}

// offer writes our offer: PCMU, PCMA and telephone events, 20 ms.
func (l localMedia) offer() []byte {
	var b strings.Builder
	l.header(&b)
	l.audio(&b, payloadPCMU, payloadPCMA, payloadEvent, sendRecv)
	return []byte(b.String())
}

// answer writes our answer to the peer's offer: its codec, its payload types, every other stream refused.
func (l localMedia) answer(offer mediaDescription) []byte {
	var b strings.Builder
	l.header(&b)
	for i, name := range offer.media {
		if i != offer.index { // RFC 3264 §6: as many streams as offered, port 0 refuses
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", name.Media, strings.Join(name.Protos, "/"), strings.Join(name.Formats, " "))
			continue
		}
		pcmu, pcma := int(offer.payload), -1
		if offer.alaw {
			pcmu, pcma = -1, int(offer.payload)
		}
		l.audio(&b, pcmu, pcma, offer.event, offer.direction.reversed())
	}
	return []byte(b.String())
}

func (l localMedia) header(b *strings.Builder) {
	family := "IP4"
	if l.address.Is6() {
		family = "IP6"
	}
	fmt.Fprintf(b, "v=0\r\no=- %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		l.session, l.version, family, l.address, family, l.address)
}

// audio writes the m= section; a negative payload type leaves its codec out.
func (l localMedia) audio(b *strings.Builder, pcmu, pcma, event int, d direction) {
	fmt.Fprintf(b, "m=audio %d RTP/AVP", l.port)
	for _, pt := range []int{pcmu, pcma, event} {
		if pt >= 0 {
			fmt.Fprintf(b, " %d", pt)
		}
	}
	b.WriteString("\r\n")
	if pcmu >= 0 {
		fmt.Fprintf(b, "a=rtpmap:%d PCMU/8000\r\n", pcmu)
	}
	if pcma >= 0 {
		fmt.Fprintf(b, "a=rtpmap:%d PCMA/8000\r\n", pcma)
	}
	if event >= 0 { // RFC 4733 §2.4.1
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-16\r\n", event, event)
	}
	fmt.Fprintf(b, "a=ptime:20\r\na=%s\r\n", d)
}
