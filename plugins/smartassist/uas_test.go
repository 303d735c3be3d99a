package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

// answered is a call that is up, with its INVITE.
func answered(t *testing.T, trunk, top map[string]any) (*peer, *testGateway, *testCall, message) {
	t.Helper()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, trunk, top)
	c := g.place()
	invite := p.answer()
	c.want(t, "answer")
	return p, g, c, invite
}

// outside makes a request out of any dialog.
func outside(method string, g *testGateway, via string) string {
	return fmt.Sprintf("%s sip:gw@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:a@%s>;tag=x\r\nTo: <sip:gw@%s>\r\nCall-ID: %s-%d\r\nCSeq: 1 %s\r\nContent-Length: 0\r\n\r\n",
		method, g.sip, via, method, time.Now().UnixNano(), via, g.sip, method, time.Now().UnixNano(), method)
}

func TestOutOfDialog(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	p.from = net.UDPAddrFromAddrPort(g.sip)
	via := p.udp.LocalAddr().String()
	p.write(outside("OPTIONS", g, via))
	if m := p.want("200 OK"); !strings.Contains(m.get("Allow"), "INVITE") {
		t.Errorf("Allow %q", m.get("Allow"))
	}
	for _, method := range []string{"INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE"} {
		p.write(outside(method, g, via))
		p.want("405 ")
	}
	p.write(outside("CANCEL", g, via))
	p.want("481 ")
	if err := g.provider.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.write(outside("OPTIONS", g, via))
	p.want("503 ")
}

func TestStrangersAreDropped(t *testing.T) {
	t.Parallel()
	p := newPeer(t, "udp", nil)
	g := open(t, []string{p.target()}, nil, nil)
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	for _, text := range []string{outside("OPTIONS", g, "127.0.0.2"), outside("INVITE", g, "127.0.0.2"), "SIP/2.0 200 OK\r\n\r\n", "nonsense"} {
		if _, err := stranger.WriteToUDPAddrPort([]byte(text), g.sip); err != nil {
			t.Fatal(err)
		}
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := d.DialContext(t.Context(), "tcp4", g.sip.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("a stranger's connection was served")
	}
	strangers := &g.provider.running.stack.peers.strangers
	for start := time.Now(); strangers.Load() < 5 && time.Since(start) < patience; {
		p.from = net.UDPAddrFromAddrPort(g.sip) // a round trip to the same socket, instead of a sleep
		p.write(outside("OPTIONS", g, p.udp.LocalAddr().String()))
		p.want("200 OK")
	}
	if n := strangers.Load(); n != 5 {
		t.Errorf("%d strangers counted, want 5", n)
	}
	_ = stranger.SetReadDeadline(time.Now())
	if n, _, err := stranger.ReadFromUDP(make([]byte, 2000)); err == nil {
		t.Errorf("a stranger was answered with %d bytes", n)
	}
}

func TestUnknownDialog(t *testing.T) {
	t.Parallel()
	p, g, _, invite := answered(t, nil, nil)
	other := invite
	other.headers = append([][2]string{{"Call-ID", "nobody's"}}, invite.headers...)
	p.request(other, "BYE", "")
	p.want("481 ")
	p.write(strings.ReplaceAll(p.inDialog(invite, "BYE", 9, ""), "tag="+p.tag, "tag=another"))
	p.want("481 ")
	if n := g.provider.running.stack.counts.unknownDialog.Load(); n != 2 {
		t.Errorf("%d counted, want 2", n)
	}
}

func TestRequestsInsideTheDialog(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	p.request(invite, "OPTIONS", "")
	p.want("200 OK")
	p.request(invite, "NOTIFY", "", "Event: x")
	p.want("200 OK")
	p.request(invite, "MESSAGE", "hi", "Content-Type: text/plain")
	p.want("405 ")
	p.request(invite, "INFO", "")
	p.want("200 OK")
	p.request(invite, "INFO", "x", "Content-Type: text/plain")
	p.want("415 ")
	p.request(invite, "INFO", "Signal=X\r\n", "Content-Type: application/dtmf-relay")
	p.want("400 ")
	p.request(invite, "OPTIONS", "", "Require: 100rel, norefersub")
	if m := p.want("420 "); m.get("Unsupported") != "100rel" {
		t.Errorf("Unsupported %q", m.get("Unsupported"))
	}
	p.request(invite, "INFO", "Signal=#\r\nDuration=250\r\n", "Content-Type: application/dtmf-relay")
	p.want("200 OK")
	f := <-c.frames
	if digit, length, ok := f.Digit(); !ok || digit != '#' || length != 250*time.Millisecond {
		t.Errorf("digit %q of %s", digit, length)
	}
}

func TestReinvite(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	p.request(invite, "INVITE", p.sdp("a=sendonly"), "Content-Type: application/sdp")
	ok := p.want("200 OK")
	if !strings.Contains(ok.body, "a=recvonly\r\n") || !strings.Contains(ok.body, " 2 IN IP4") {
		t.Errorf("answer to hold:\n%s", ok.body)
	}
	c.want(t, "hold")
	repeated := p.want("200 OK") // no ACK yet: it is repeated
	if repeated.get("CSeq") != ok.get("CSeq") {
		t.Errorf("repeated %q", repeated.get("CSeq"))
	}
	p.write(p.inDialog(invite, "ACK", p.cseq, ""))
	p.request(invite, "UPDATE", p.sdp(), "Content-Type: application/sdp")
	ok = p.want("200 OK")
	for strings.Contains(ok.get("CSeq"), "INVITE") { // a repetition on its way
		ok = p.want("200 OK")
	}
	if !strings.Contains(ok.body, "a=sendrecv\r\n") || !strings.Contains(ok.body, " 3 IN IP4") {
		t.Errorf("answer to resume:\n%s", ok.body)
	}
	c.want(t, "resumed")
	p.request(invite, "UPDATE", p.sdp(), "Content-Type: application/sdp")
	if same := p.want("200 OK"); same.body != ok.body {
		t.Errorf("our description changed without a change:\n%s", same.body)
	}
	p.request(invite, "INVITE", strings.Replace(p.sdp(), "RTP/AVP 0 101", "RTP/AVP 18", 1), "Content-Type: application/sdp")
	p.want("488 ")
	p.write(p.inDialog(invite, "INVITE", 2, p.sdp(), "Content-Type: application/sdp"))
	p.want("500 ")
}

func TestReinviteWithoutOffer(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	p.request(invite, "INVITE", "")
	ok := p.want("200 OK")
	if !strings.Contains(ok.body, "RTP/AVP 0 8 101\r\n") {
		t.Errorf("offer:\n%s", ok.body)
	}
	p.write(p.inDialog(invite, "ACK", p.cseq, strings.Replace(p.sdp(), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1), "Content-Type: application/sdp"))
	c.want(t, "hold")
}

func TestRefer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		headers []string
		target  string
		notify  bool
	}{
		"user":            {[]string{"Refer-To: <sip:sales@127.0.0.1>", "X-Summary: wants a car"}, "sales", true},
		"number":          {[]string{"Refer-To: <tel:+15550199;ext=1>"}, "+15550199", true},
		"no subscription": {[]string{"Refer-To: sip:agents@127.0.0.1", "Refer-Sub: false"}, "agents", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _, c, invite := answered(t, nil, nil)
			p.request(invite, "REFER", "", tt.headers...)
			p.want("202 ")
			if tt.notify {
				n := p.want("NOTIFY")
				if n.body != "SIP/2.0 200 OK\r\n" || !strings.HasPrefix(n.get("Subscription-State"), "terminated") || !strings.HasPrefix(n.get("Event"), "refer") {
					t.Errorf("NOTIFY: %+v", n)
				}
				p.reply(n, "200 OK", "")
			}
			p.reply(p.want("BYE"), "200 OK", "")
			c.want(t, "transfer "+tt.target)
			e := c.ended()
			if e.Reason != sdk.ReasonTransfer || e.Target != tt.target || e.Who != sdk.Bot {
				t.Errorf("ended: %+v", e)
			}
			name, value, _ := strings.Cut(tt.headers[len(tt.headers)-1], ": ")
			if header(e.Headers, name) != value {
				t.Errorf("headers: %v", e.Headers)
			}
		})
	}
}

func TestByeAfterRefer(t *testing.T) {
	t.Parallel()
	p, _, c, invite := answered(t, nil, nil)
	p.request(invite, "REFER", "", "Refer-To: <sip:sales@127.0.0.1>")
	p.want("202 ")
	n := p.want("NOTIFY")
	p.request(invite, "BYE", "")
	p.want("200 OK")
	p.reply(n, "200 OK", "")
	c.ended()
	p.none("BYE", 300*time.Millisecond)
}

func TestReferWithoutTarget(t *testing.T) {
	t.Parallel()
	p, _, _, invite := answered(t, nil, nil)
	p.request(invite, "REFER", "")
	p.want("400 ")
}

// certificate writes a self-signed certificate for name.
func certificate(t *testing.T, name string) (certFile, keyFile string, conf *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// The certificate is for a name; target and Contact are IP literals, as an SBC's are. One connection carries it all.
func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, conf := certificate(t, "sbc.example.com")
	for name, listen := range map[string]string{"with a listener": "127.0.0.1:0", "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, "tls", conf)
			g := open(t, []string{p.target()}, map[string]any{"tls": map[string]string{
				"ca_file": certFile, "server_name": "sbc.example.com", "cert_file": certFile, "key_file": keyFile,
			}}, map[string]any{"tls_listen": listen})
			c := g.place()
			invite := p.answer()
			contact := invite.get("Contact")
			if listen != "" && !strings.Contains(contact, g.tls) || !strings.Contains(contact, "transport=tls") || !strings.HasPrefix(invite.get("Via"), "SIP/2.0/TLS ") {
				t.Errorf("Contact %q, Via %q", contact, invite.get("Via"))
			}
			if listen == "" && !strings.Contains(contact, p.conn.RemoteAddr().String()) {
				t.Errorf("Contact %q does not name the connection's end %s", contact, p.conn.RemoteAddr())
			}
			c.want(t, "answer")
			p.request(invite, "OPTIONS", "")
			p.want("200 OK")
			c.hangup(callerGone)
			p.reply(p.want("BYE"), "200 OK", "")
			c.ended()
			if p.conns != 1 {
				t.Errorf("%d connections", p.conns)
			}
			if listen != "" { // and the peer may come to us
				d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
				conn, err := d.DialContext(t.Context(), "tcp", g.tls)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := conn.Write([]byte(strings.ReplaceAll(outside("OPTIONS", g, "127.0.0.1:9"), "/UDP", "/TLS"))); err != nil {
					t.Fatal(err)
				}
				if m, err := readMessage(bufio.NewReader(conn)); err != nil || !strings.Contains(m.first, "200") {
					t.Errorf("OPTIONS over our TLS listener: %v %v", m.first, err)
				}
			}
		})
	}
}

func TestTLSNameIsVerified(t *testing.T) {
	t.Parallel()
	certFile, _, conf := certificate(t, "somebody.else")
	p := newPeer(t, "tls", conf)
	g := open(t, []string{p.target()}, map[string]any{"tls": map[string]string{"ca_file": certFile, "server_name": "sbc.example.com"}}, nil)
	if e := g.place().ended(); e.Reason != sdk.ReasonFailed || !strings.Contains(e.Detail, "certificate") {
		t.Errorf("ended: %+v", e.Termination)
	}
}
