package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

const plainAnswer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"

func TestParseSDP(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    string
		err     error
		rtp     string
		rtcp    string
		payload uint8
		event   int
		alaw    bool
		held    bool
	}{
		"pcmu":              {body: plainAnswer + "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", event: 101},
		"pcma only":         {body: plainAnswer + "m=audio 4000 RTP/AVP 8\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", payload: 8, alaw: true, event: -1},
		"several codecs":    {body: plainAnswer + "m=audio 4000 RTP/AVP 18 8 0\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", payload: 8, alaw: true, event: -1},
		"dynamic types":     {body: plainAnswer + "m=audio 4000 RTP/AVP 97 98\r\na=rtpmap:97 pcmu/8000/1\r\na=rtpmap:98 TELEPHONE-EVENT/8000\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", payload: 97, event: 98},
		"c= of the media":   {body: plainAnswer + "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.9\r\na=rtcp:5000\r\n", rtp: "192.0.2.9:4000", rtcp: "192.0.2.9:5000", event: -1},
		"line feeds only":   {body: strings.ReplaceAll(plainAnswer, "\r", "") + "m=audio 4000 RTP/AVP 0\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", event: -1},
		"sendonly holds":    {body: plainAnswer + "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", event: -1, held: true},
		"inactive holds":    {body: plainAnswer + "a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", event: -1, held: true},
		"0.0.0.0 holds":     {body: plainAnswer + "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", event: -1, held: true},
		"video before":      {body: plainAnswer + "m=video 0 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 0\r\n", rtp: "192.0.2.1:4000", rtcp: "192.0.2.1:4001", event: -1},
		"refused":           {body: plainAnswer + "m=audio 0 RTP/AVP 0\r\n", err: errSDPRefused},
		"foreign codec":     {body: plainAnswer + "m=audio 4000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n", err: errSDPCodec},
		"wideband":          {body: plainAnswer + "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 PCMU/16000\r\n", err: errSDPCodec},
		"srtp":              {body: plainAnswer + "m=audio 4000 RTP/SAVP 0\r\n", err: errSDPNoAudio},
		"no media":          {body: plainAnswer, err: errSDPNoAudio},
		"host name":         {body: strings.Replace(plainAnswer, "c=IN IP4 192.0.2.1", "c=IN IP4 a.example", 1) + "m=audio 4000 RTP/AVP 0\r\n", err: errSDPAddress},
		"multicast":         {body: strings.Replace(plainAnswer, "c=IN IP4 192.0.2.1", "c=IN IP4 239.1.1.1", 1) + "m=audio 4000 RTP/AVP 0\r\n", err: errSDPAddress},
		"no c=":             {body: "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", err: errSDPAddress},
		"packets too short": {body: plainAnswer + "m=audio 4000 RTP/AVP 0\r\na=maxptime:10\r\n", err: errSDPPtime},
		"empty":             {err: errSDPSyntax},
		"garbage":           {body: "hello", err: errSDPSyntax},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := parseSDP([]byte(tt.body))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			var rtp, rtcp netip.AddrPort
			if tt.rtp != "" {
				rtp, rtcp = netip.MustParseAddrPort(tt.rtp), netip.MustParseAddrPort(tt.rtcp)
			}
			if m.rtp != rtp || m.rtcp != rtcp || m.payload != tt.payload || m.event != tt.event || m.alaw != tt.alaw || m.held != tt.held {
				t.Errorf("got %+v, want %+v", m, tt)
			}
		})
	}
}

func TestOfferReadsBack(t *testing.T) {
	t.Parallel()
	l := localMedia{address: netip.MustParseAddr("192.0.2.7"), port: 20000, session: 5, version: 6}
	m, err := parseSDP(l.offer())
	if err != nil {
		t.Fatal(err)
	}
	if m.rtp.String() != "192.0.2.7:20000" || m.payload != payloadPCMU || m.event != payloadEvent || m.held {
		t.Errorf("offer reads back as %+v", m)
	}
}

func TestAnswerMirrorsOffer(t *testing.T) {
	t.Parallel()
	offer, err := parseSDP([]byte(plainAnswer + "m=video 9 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := localMedia{address: netip.MustParseAddr("192.0.2.7"), port: 20000, session: 5, version: 7}
	want := "v=0\r\no=- 5 7 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=video 0 RTP/AVP 31\r\n" +
		"m=audio 20000 RTP/AVP 8 96\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\na=ptime:20\r\na=recvonly\r\n"
	if got := string(l.answer(offer)); got != want {
		t.Errorf("answer:\n%s\nwant:\n%s", got, want)
	}
}

// FuzzParseSDP: whatever comes, it is an error, or a description that can be used: a payload type in range, distinct
// event type, a unicast address and a port unless held, and an answer that reads back.
func FuzzParseSDP(f *testing.F) {
	f.Add([]byte(plainAnswer + "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"))
	f.Add([]byte(plainAnswer + "m=video 0 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 97\r\na=rtpmap:97 PCMA/8000\r\na=inactive\r\n"))
	f.Add(localMedia{address: netip.MustParseAddr("::1"), port: 20000}.offer())
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseSDP(body)
		if err != nil {
			return
		}
		if m.payload > 127 || m.event > 127 || m.event == int(m.payload) {
			t.Fatalf("payload types %d and %d", m.payload, m.event)
		}
		if !m.held && (!m.rtp.IsValid() || m.rtp.Port() == 0 || m.rtp.Addr().IsUnspecified() || m.rtp.Addr().IsMulticast()) {
			t.Fatalf("address %v", m.rtp)
		}
		own := localMedia{address: netip.MustParseAddr("192.0.2.7"), port: 20000}
		back, err := parseSDP(own.answer(m))
		if err != nil {
			t.Fatalf("our answer to %q cannot be read: %v", body, err)
		}
		if back.payload != m.payload || back.alaw != m.alaw || back.event != m.event {
			t.Fatalf("our answer names another codec: %+v, offered %+v", back, m)
		}
	})
}
