package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
)

func TestRefusedByTheGateway(t *testing.T) {
	for _, tt := range []struct {
		reason sdk.RefusalReason
		after  time.Duration
		status int
		retry  string
	}{
		{sdk.RefusedMalformed, 0, 400, ""},
		{sdk.RefusedUnauthenticated, 0, 401, ""},
		{sdk.RefusedForbidden, 0, 403, ""},
		{sdk.RefusedUnsupported, 0, 501, ""},
		{sdk.RefusedNoRoute, 0, 404, ""},
		{sdk.RefusedQuota, 1500 * time.Millisecond, 429, "2"},
		{sdk.RefusedBusy, 0, 503, "5"},
		{sdk.RefusedDraining, time.Minute, 503, "60"},
		{0, 0, 503, "5"},
	} {
		t.Run(tt.reason.String(), func(t *testing.T) {
			gw := &fakeGateway{admit: func(sdk.AdmitRequest) error {
				return &sdk.Refusal{Reason: tt.reason, RetryAfter: tt.after, Detail: "for the log only"}
			}}
			g := open(t, gw, "", nil)
			resp, body := g.answerOf(t, "GET", defaultPath+"?"+goodQuery, upgradeHeader())
			if resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != tt.retry {
				t.Errorf("got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
			}
			if body == "" || strings.Contains(body, "eyJ") || strings.Contains(body, "log only") {
				t.Errorf("body: %q", body)
			}
		})
	}
}

func TestRefusedByThePlugin(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	plain := http.Header{}
	badVersion := upgradeHeader()
	badVersion.Set("Sec-Websocket-Version", "8")
	for _, tt := range []struct {
		name, method, target string
		header               http.Header
		status               int
		body                 string
	}{
		{"other path", "GET", "/audiosocket/other?" + goodQuery, upgradeHeader(), 404, "no stream is served on this path\n"},
		{"below the path", "GET", defaultPath + "/x?" + goodQuery, upgradeHeader(), 404, "no stream is served on this path\n"},
		{"post", "POST", defaultPath + "/?" + goodQuery, upgradeHeader(), 405, "only GET with a WebSocket upgrade is served\n"},
		{"no upgrade", "GET", defaultPath + "/?" + goodQuery, plain, 426, "this is a WebSocket endpoint\n"},
		{"no number", "GET", defaultPath + "/?token=t", upgradeHeader(), 400, "sipuri is missing: give the bot's number, + as %2B\n"},
		{"broken escape", "GET", defaultPath + "/?sipuri=%2B1734&botId=%zz", upgradeHeader(), 400, "botId has a broken escape: write % as %25\n"},
		{"old version", "GET", defaultPath + "/?" + goodQuery, badVersion, 400, "the WebSocket handshake is broken\n"},
	} {
		resp, body := g.answerOf(t, tt.method, tt.target, tt.header)
		if resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s: got %d %q", tt.name, resp.StatusCode, body)
		}
	}
	if requests, reserved, _ := g.gw.counts(); requests != 1 || reserved != 0 { // the old version is seen after Admit
		t.Errorf("%d requests for admission, %d reserved", requests, reserved)
	}
	if err := g.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp, _ := g.answerOf(t, "GET", defaultPath+"/?"+goodQuery, upgradeHeader()); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("draining: %d", resp.StatusCode)
	}
}

func TestHeaderTooLarge(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	header := upgradeHeader()
	header.Set("X-Filler", strings.Repeat("x", 64<<10))
	if resp, _ := g.answerOf(t, "GET", defaultPath+"/?"+goodQuery, header); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestAdmitRequest(t *testing.T) {
	g := open(t, &fakeGateway{}, `{"listen":"127.0.0.1:0","trusted_proxies":["127.0.0.0/8","10.0.0.1"]}`, nil)
	dial := func(target string, header http.Header) {
		t.Helper()
		header.Set("Origin", "https://elsewhere.example.com")
		d := websocket.Dialer{EnableCompression: true, Subprotocols: []string{"chat"}}
		conn, resp, err := d.DialContext(t.Context(), "ws://"+g.addr+target, header)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if resp.Header.Get("Sec-Websocket-Protocol") != "" || resp.Header.Get("Sec-Websocket-Extensions") != "" {
			t.Errorf("negotiated: %v", resp.Header)
		}
	}
	dial(defaultPath+"/?"+goodQuery+"&Lang=de", http.Header{"X-Forwarded-For": {"192.0.2.9, 198.51.100.7, 10.0.0.1"}})
	dial(defaultPath+"?sipuri=+17345551234&accountId=acc&botId=st-1", http.Header{"Authorization": {"bearer " + sampleToken}, "X-Forwarded-For": {"junk"}})
	want := []sdk.AdmitRequest{
		{
			Credential: sdk.Credential{JWT: sampleToken}, Number: "+17345551234", Bot: "st-1", Account: "acc",
			Mode: sdk.ModeBot, Parameters: map[string]string{"Lang": "de"}, Remote: "198.51.100.7",
		},
		{Credential: sdk.Credential{JWT: sampleToken}, Number: "+17345551234", Bot: "st-1", Account: "acc", Mode: sdk.ModeBot, Remote: "127.0.0.1"},
	}
	if diff := cmp.Diff(want, g.gw.admitted()); diff != "" {
		t.Error(diff)
	}
}

func TestForwardedForIsNotBelievedFromStrangers(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	header := upgradeHeader()
	header.Set("X-Forwarded-For", "192.0.2.9")
	g.answerOf(t, "GET", defaultPath+"?"+goodQuery, header)
	if got := g.gw.admitted()[0].Remote; got != "127.0.0.1" {
		t.Errorf("remote is %s", got)
	}
}

// TestAbandonedHandshakes: a thousand peers that vanish at any point of the
// handshake leave nothing reserved and nothing open (the harness checks).
func TestAbandonedHandshakes(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	request := "GET " + defaultPath + "/?" + goodQuery + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for i := range 1000 {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			part := request
			if i%4 == 0 {
				part = request[:len(request)*(i%97)/97]
			}
			if _, err := io.WriteString(conn, part); err != nil {
				t.Error(err)
			}
			if i%4 == 1 { // stay until the upgrade is answered
				_, _ = bufio.NewReader(conn).ReadString('\n')
			}
		})
	}
	wg.Wait()
	eventually(t, "every admission given back", func() bool {
		_, reserved, _ := g.gw.counts()
		return reserved == 0 && g.measures.open.Load() == 0
	})
	if requests, _, withdrawn := g.gw.counts(); requests == 0 || requests != withdrawn {
		t.Errorf("%d admitted, %d withdrawn", requests, withdrawn)
	}
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	files := tlsFiles{CertFile: dir + "/cert.pem", KeyFile: dir + "/key.pem"}
	writePair(t, files, "first", time.Hour)
	g := open(t, &fakeGateway{}, `{"listen":"127.0.0.1:0","tls":{"cert_file":"`+files.CertFile+`","key_file":"`+files.KeyFile+`"}}`, nil)
	served := func() string {
		t.Helper()
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := d.DialContext(t.Context(), "tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Errorf("serves %s", got)
	}
	g.server.cert.mu.Lock()
	g.server.cert.looked = time.Time{} // as if a second had passed
	g.server.cert.mu.Unlock()
	writeFile(t, files.CertFile, []byte("half a file"))
	if got := served(); got != "first" {
		t.Errorf("serves %s after a bad renewal", got)
	}
	writePair(t, files, "second, with a longer name", 24*time.Hour)
	g.server.cert.mu.Lock()
	g.server.cert.looked = time.Time{}
	g.server.cert.mu.Unlock()
	if got := served(); got != "second, with a longer name" {
		t.Errorf("serves %s after the renewal", got)
	}
	var found bool
	for _, f := range g.Metrics() {
		found = found || f.Name == "talkdesk_certificate_expiry_timestamp_seconds"
	}
	if !found {
		t.Error("no metric of the certificate's expiry")
	}
	// A whole call over TLS.
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, _, err := d.DialContext(t.Context(), "wss://"+g.addr+defaultPath+"/?"+goodQuery, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p := &peer{Conn: conn, t: t}
	p.say(sayStart)
	leg := receive(t, g.gw.legs, "offer")
	leg.finish(sdk.ResultOK, "")
	p.expect("stop")
	leg.ending(t)
}

func TestShutdownDeadline(t *testing.T) {
	g := open(t, &fakeGateway{}, "", func(s *settings) { s.shutdownGrace, s.closeGrace = time.Minute, time.Minute })
	_, leg := g.call(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	leg.ending(t)
}
