package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; nothing waits this long unless it is broken.
const patience = 20 * time.Second

// testT1 makes the SIP timers of a test run 16 times as fast.
const testT1 = 32 * time.Millisecond

func startBot(t *testing.T, o Options) *Bot {
	t.Helper()
	if o.T1 == 0 {
		o.T1 = testT1
	}
	if o.Linger == 0 {
		o.Linger = 20 * time.Millisecond
	}
	b, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// caller is a SIP user agent client made of text, one call each.
type caller struct {
	t         *testing.T
	bot       *Bot // nil when only its address is known
	addr      netip.AddrPort
	transport string
	udp       *net.UDPConn
	conn      net.Conn // TCP, TLS
	reader    *sipmsg.Reader
	rtp       *net.UDPConn
	rtcp      *net.UDPConn
	callID    string
	toTag     string // with ;tag=
	contact   string // of the bot
	seq       int
	branch    int
	media     netip.AddrPort // of the bot
	offer     string
	caDir     string // with the ca.pem of a TLS bot
}

func newCaller(t *testing.T, b *Bot, transport string, caDir ...string) *caller {
	t.Helper()
	c := callerTo(t, b.Addr(), transport)
	c.bot = b
	if len(caDir) > 0 {
		c.caDir = caDir[0]
	}
	c.connect()
	return c
}

// callerTo makes a caller that knows the bot by its address only; it is not connected yet.
func callerTo(t *testing.T, addr netip.AddrPort, transport string) *caller {
	t.Helper()
	c := &caller{t: t, addr: addr, transport: transport, callID: t.Name() + "@test", contact: "sip:+17344321234@" + addr.String()}
	s, err := openSockets(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	c.rtp, c.rtcp = s.rtp, s.rtcp
	t.Cleanup(func() { _ = s.close() })
	c.offer = strings.ReplaceAll("v=0\no=gw 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"+
		fmt.Sprintf("m=audio %d RTP/AVP 0 8 101\n", addrPort(c.rtp.LocalAddr()).Port())+
		"a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendrecv\n", "\n", "\r\n")
	return c
}

func (c *caller) connect() {
	c.t.Helper()
	var d net.Dialer
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var err error
	switch c.transport {
	case udp:
		c.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err == nil {
			c.t.Cleanup(func() { _ = c.udp.Close() })
		}
	case tcp:
		c.conn, err = d.DialContext(ctx, "tcp", c.addr.String())
	case tlsName:
		td := tls.Dialer{Config: c.tlsConfig()}
		c.conn, err = td.DialContext(ctx, "tcp", c.bot.TLSAddr().String())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if c.conn != nil {
		c.reader = sipmsg.NewReader(c.conn)
		c.t.Cleanup(func() { _ = c.conn.Close() })
	}
}

func (c *caller) tlsConfig() *tls.Config {
	c.t.Helper()
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(c.caDir, "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		c.t.Fatalf("ca.pem: %v", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "127.0.0.1"}
}

func (c *caller) localAddr() string {
	if c.udp != nil {
		return c.udp.LocalAddr().String()
	}
	return c.conn.LocalAddr().String()
}

// request is the text of a request. old and new pairs are replaced in it, for requests that break a rule.
func (c *caller) request(method string, body string, swaps ...string) string {
	uri := c.contact
	switch method {
	case "ACK", "CANCEL":
	default:
		c.seq++
	}
	if method != "CANCEL" {
		c.branch++
	}
	to := "<sip:+17344321234@127.0.0.1>" + c.toTag
	text := method + " " + uri + " SIP/2.0\n" +
		fmt.Sprintf("Via: SIP/2.0/%s %s;branch=z9hG4bK%s%d;rport\n", c.transport, c.localAddr(), c.callID, c.branch) +
		"Max-Forwards: 70\nFrom: \"Ann\" <sip:+15551234567@gw.example>;tag=ours\nTo: " + to + "\n" +
		"Call-ID: " + c.callID + "\n" + fmt.Sprintf("CSeq: %d %s\n", c.seq, method) +
		"Contact: <sip:gw@" + c.localAddr() + ">\n"
	if method == "INVITE" {
		text += "X-ExternalCallId: ext-1\nAllow: INVITE, ACK, BYE, CANCEL\n"
	}
	if body != "" {
		text += "Content-Type: application/sdp\n"
	}
	text = strings.ReplaceAll(text, "\n", "\r\n")
	for i := 0; i+1 < len(swaps); i += 2 {
		if !strings.Contains(text, swaps[i]) {
			c.t.Fatalf("nothing to replace: %q in\n%s", swaps[i], text)
		}
		text = strings.Replace(text, swaps[i], strings.ReplaceAll(swaps[i+1], "\n", "\r\n"), 1)
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func (c *caller) send(text string) {
	c.t.Helper()
	var err error
	if c.udp != nil {
		_, err = c.udp.WriteToUDPAddrPort([]byte(text), c.addr)
	} else {
		_, err = c.conn.Write([]byte(text))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next message from the bot.
func (c *caller) next() *sipmsg.Message {
	c.t.Helper()
	m, err := c.nextWithin(patience)
	if err != nil {
		c.t.Fatalf("no message from the bot: %v", err)
	}
	return m
}

func (c *caller) nextWithin(d time.Duration) (*sipmsg.Message, error) {
	if c.udp == nil {
		if err := c.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
			return nil, err
		}
		return c.reader.Next()
	}
	if err := c.udp.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	buf := make([]byte, sipmsg.MaxSize)
	n, _, err := c.udp.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil, err
	}
	return sipmsg.Parse(buf[:n])
}

// expect reads until the message whose start line contains want, skipping only what the others name.
func (c *caller) expect(want string, skip ...string) *sipmsg.Message {
	c.t.Helper()
	for {
		m := c.next()
		line := m.StartLine() + " " + m.Get("CSeq")
		if strings.Contains(line, want) {
			c.learn(m)
			return m
		}
		skipped := false
		for _, s := range skip {
			skipped = skipped || strings.Contains(line, s)
		}
		if !skipped {
			c.t.Fatalf("got %q, want %q", line, want)
		}
	}
}

func (c *caller) learn(m *sipmsg.Message) {
	if m.IsRequest() || m.Status <= 100 || !strings.HasSuffix(m.Get("CSeq"), "INVITE") {
		return
	}
	if tag := toTag(m); tag != "" {
		c.toTag = ";tag=" + tag
	}
	if uri, err := contactOf(m); err == nil && m.Status < 300 {
		c.contact = uri
	}
	if len(m.Body) > 0 {
		for line := range strings.Lines(string(m.Body)) {
			var port uint16
			if n, _ := fmt.Sscanf(line, "m=audio %d", &port); n == 1 {
				c.media = netip.AddrPortFrom(c.addr.Addr(), port)
			}
		}
	}
}

// ack sends the ACK of a 2xx.
func (c *caller) ack(swaps ...string) { c.t.Helper(); c.send(c.request("ACK", "", swaps...)) }

// ackFailure sends the ACK of another final response, which belongs to the INVITE's transaction.
func (c *caller) ackFailure() {
	c.t.Helper()
	c.branch--
	c.send(c.request("ACK", ""))
}

// establish makes a call up to its ACK.
func (c *caller) establish() {
	c.t.Helper()
	c.send(c.request("INVITE", c.offer))
	c.expect("SIP/2.0 200", " 100 ", " 180 ", " 183 ")
	c.ack()
}

// answer sends a response to a request of the bot's.
func (c *caller) answer(req *sipmsg.Message, status int, headers ...string) {
	c.t.Helper()
	res := sipmsg.NewResponse(req, status, "")
	for i := 0; i+1 < len(headers); i += 2 {
		res.Add(headers[i], headers[i+1])
	}
	c.send(string(res.Bytes()))
}

func (c *caller) answerSDP(req *sipmsg.Message, body string) {
	c.t.Helper()
	res := sipmsg.NewResponse(req, 200, "")
	res.Add("Contact", "<sip:gw@"+c.localAddr()+">")
	res.Add("Content-Type", "application/sdp")
	res.Body = []byte(body)
	c.send(string(res.Bytes()))
}

func (c *caller) bye() {
	c.t.Helper()
	c.send(c.request("BYE", "", "Max-Forwards", "Reason: Q.850;cause=16\nMax-Forwards"))
	c.expect("200 OK", "INVITE")
}

// done waits for the account of the one call.
func (c *caller) done() Call {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	calls, err := c.bot.WaitEnded(ctx, 1)
	if err != nil {
		c.t.Fatal(err)
	}
	return calls[0]
}

// until waits until the account of the call satisfies ok.
func (c *caller) until(what string, ok func(Call) bool) Call {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	got, err := c.bot.WaitCall(ctx, ok)
	if err != nil {
		c.t.Fatalf("%s: %v\n%+v", what, err, c.bot.Calls())
	}
	return got
}

func (c *caller) sendRTP(h rtpwire.Header, payload []byte) {
	c.t.Helper()
	if _, err := c.rtp.WriteToUDPAddrPort(h.Append(nil, payload), c.media); err != nil {
		c.t.Fatal(err)
	}
}

// hear returns the next n RTP packets of the bot's.
func (c *caller) hear(n int) []rtpwire.Packet {
	c.t.Helper()
	if err := c.rtp.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	var out []rtpwire.Packet
	buf := make([]byte, maxPacket)
	for len(out) < n {
		size, _, err := c.rtp.ReadFromUDPAddrPort(buf)
		if err != nil {
			c.t.Fatalf("rtp from the bot after %d packets: %v", len(out), err)
		}
		h, payload, err := rtpwire.Parse(buf[:size])
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, rtpwire.Packet{
			Seq: h.Seq, Timestamp: h.Timestamp, SSRC: h.SSRC, Marker: h.Marker, PayloadType: h.PayloadType,
			Payload: append([]byte(nil), payload...), Arrived: time.Now(),
		})
	}
	return out
}

func noViolations(t *testing.T, c Call) {
	t.Helper()
	if len(c.Violations) != 0 {
		t.Errorf("violations: %q", c.Violations)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
