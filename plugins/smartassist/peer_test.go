package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// message is a SIP message as the test's own end reads it: nothing of it is shared with the code under test.
type message struct {
	first   string
	headers [][2]string
	body    string
}

func (m message) get(name string) string {
	for _, h := range m.headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

func (m message) method() string { method, _, _ := strings.Cut(m.first, " "); return method }

func (m message) uri() string { return strings.Fields(m.first)[1] }

// param is a ;name=value of a header.
func (m message) param(header, name string) string {
	_, rest, _ := strings.Cut(m.get(header), ";"+name+"=")
	value, _, _ := strings.Cut(rest, ";")
	return strings.TrimSpace(value)
}

func readMessage(r *bufio.Reader) (message, error) {
	var m message
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return m, err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case m.first == "" && line != "":
			m.first = line
		case line != "":
			name, value, _ := strings.Cut(line, ":")
			m.headers = append(m.headers, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		case m.first != "":
			n, _ := strconv.Atoi(m.get("Content-Length"))
			body := make([]byte, n)
			_, err := io.ReadFull(r, body)
			m.body = string(body)
			return m, err
		}
	}
}

// peer is a SIP end written by hand: a socket and a queue of what came.
type peer struct {
	t         *testing.T
	transport string
	udp       *net.UDPConn
	listener  net.Listener
	in        chan message
	wg        sync.WaitGroup

	mu    sync.Mutex
	conn  net.Conn // stream transports
	conns int      // accepted so far
	from  net.Addr // UDP: who sent last
	tag   string
	rtp   *net.UDPConn
	cseq  int
}

// newPeer listens over transport ("udp", "tcp", or "tls" with conf).
func newPeer(t *testing.T, transport string, conf *tls.Config) *peer {
	t.Helper()
	p := &peer{t: t, transport: transport, in: make(chan message, 100), tag: "peer" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	p.rtp = testUDP(t)
	if transport == "udp" {
		p.udp = testUDP(t)
		p.wg.Go(p.readUDP)
	} else {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if conf != nil {
			l = tls.NewListener(l, conf)
		}
		p.listener = l
		p.wg.Go(p.accept)
	}
	t.Cleanup(func() {
		if p.udp != nil {
			_ = p.udp.Close()
		} else {
			_ = p.listener.Close()
			p.mu.Lock()
			if p.conn != nil {
				_ = p.conn.Close()
			}
			p.mu.Unlock()
		}
		p.wg.Wait()
	})
	return p
}

func testUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *peer) readUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := p.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.from = from
		p.mu.Unlock()
		if m, err := readMessage(bufio.NewReader(strings.NewReader(string(buf[:n])))); err == nil {
			p.in <- m
		}
	}
}

func (p *peer) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conn = c
		p.conns++
		p.mu.Unlock()
		p.wg.Go(func() {
			r := bufio.NewReader(c)
			for {
				m, err := readMessage(r)
				if err != nil {
					return
				}
				p.in <- m
			}
		})
	}
}

func (p *peer) port() int {
	if p.udp != nil {
		return p.udp.LocalAddr().(*net.UDPAddr).Port
	}
	return p.listener.Addr().(*net.TCPAddr).Port
}

// target is the peer as a trunk target.
func (p *peer) target() string {
	return fmt.Sprintf("sip:127.0.0.1:%d;transport=%s", p.port(), p.transport)
}

func (p *peer) write(text string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.udp != nil {
		_, err = p.udp.WriteTo([]byte(text), p.from)
	} else {
		_, err = io.WriteString(p.conn, text)
	}
	if err != nil {
		p.t.Errorf("peer writes: %v", err)
	}
}

// want waits for a request of that method, or a response whose first line holds it. Retransmissions and other
// messages in between are skipped.
func (p *peer) want(what string) message {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-p.in:
			if m.method() == what || strings.HasPrefix(m.first, "SIP/2.0 ") && strings.Contains(m.first, what) {
				return m
			}
		case <-deadline:
			p.t.Fatalf("peer waited in vain for %s", what)
		}
	}
}

// none fails when a message of that method comes within d.
func (p *peer) none(what string, d time.Duration) {
	p.t.Helper()
	deadline := time.After(d)
	for {
		select {
		case m := <-p.in:
			if m.method() == what {
				p.t.Fatalf("peer got an unwanted %s", what)
			}
		case <-deadline:
			return
		}
	}
}

// reply answers a request. extra are header lines.
func (p *peer) reply(r message, status, body string, extra ...string) {
	p.t.Helper()
	p.write(p.response(r, p.tag, status, body, extra...))
}

func (p *peer) response(r message, tag, status, body string, extra ...string) string {
	var b strings.Builder
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, h := range r.headers {
		switch name := strings.ToLower(h[0]); name {
		case "via", "from", "call-id", "cseq":
			b.WriteString(h[0] + ": " + h[1] + "\r\n")
		case "to":
			to := h[1]
			if !strings.Contains(to, ";tag=") && !strings.HasPrefix(status, "100") {
				to += ";tag=" + tag
			}
			b.WriteString("To: " + to + "\r\n")
		}
	}
	b.WriteString("Contact: <" + p.contact() + ">\r\n")
	for _, e := range extra {
		b.WriteString(e + "\r\n")
	}
	if body != "" {
		b.WriteString("Content-Type: application/sdp\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.String()
}

func (p *peer) contact() string {
	return fmt.Sprintf("sip:bot@127.0.0.1:%d;transport=%s", p.port(), p.transport)
}

// request sends a request inside the dialog that invite began.
func (p *peer) request(invite message, method, body string, extra ...string) {
	p.t.Helper()
	p.cseq++
	p.write(p.inDialog(invite, method, p.cseq, body, extra...))
}

func (p *peer) inDialog(invite message, method string, cseq int, body string, extra ...string) string {
	contact := strings.Trim(strings.SplitN(invite.get("Contact"), ">", 2)[0], "<>")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.1:%d;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\n",
		method, contact, strings.ToUpper(p.transport), p.port(), p.tag+method, cseq)
	fmt.Fprintf(&b, "From: %s;tag=%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <%s>\r\n",
		invite.get("To"), p.tag, invite.get("From"), invite.get("Call-ID"), cseq, method, p.contact())
	for _, e := range extra {
		b.WriteString(e + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.String()
}

// sdp is the peer's description.
func (p *peer) sdp(lines ...string) string {
	s := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n", p.rtp.LocalAddr().(*net.UDPAddr).Port)
	for _, l := range lines {
		s += l + "\r\n"
	}
	return s
}

// answer takes the INVITE and answers it.
func (p *peer) answer() message {
	p.t.Helper()
	invite := p.want("INVITE")
	p.reply(invite, "100 Trying", "")
	p.reply(invite, "200 OK", p.sdp())
	p.want("ACK")
	return invite
}
