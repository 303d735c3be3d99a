package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	dto "github.com/prometheus/client_model/go"

	"github.com/patchbay/patchbay/sdk"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	up, down := newPeer(t, "udp", nil), newPeer(t, "tcp", nil)
	_ = down.listener.Close()
	certFile, keyFile, _ := certificate(t, "gw.example.com")
	p := newProvider(slog.New(slog.DiscardHandler))
	if r := p.Check(t.Context(), false); len(r) != 1 || r[0].OK {
		t.Errorf("unconfigured: %+v", r)
	}
	raw := fmt.Sprintf(`{"listen":"127.0.0.1:0","rtp_ports":"30000-39999","trunk":{"targets":[%q,%q,"sip:nobody.invalid"],"tls":{"cert_file":%q,"key_file":%q}}}`,
		up.target(), down.target(), certFile, keyFile)
	if err := p.Configure(t.Context(), json.RawMessage(raw)); err != nil {
		t.Fatal(err)
	}
	results := make(chan []sdk.CheckResult, 1)
	go func() { results <- p.Check(t.Context(), true) }()
	up.reply(up.want("OPTIONS"), "200 OK", "")
	got := map[string]bool{}
	for _, r := range <-results {
		got[r.Subject] = r.OK
		if r.Detail == "" {
			t.Errorf("%s says nothing", r.Subject)
		}
	}
	want := map[string]bool{
		"listen 127.0.0.1:0": true, "rtp_ports 30000-39999": true,
		"target " + up.target(): true, "target " + down.target(): true, "target sip:nobody.invalid:5060;transport=udp": false,
		fmt.Sprintf("OPTIONS %s at 127.0.0.1:%d", up.target(), up.port()):     true,
		fmt.Sprintf("OPTIONS %s at 127.0.0.1:%d", down.target(), down.port()): false,
	}
	for subject, ok := range want {
		if found, there := got[subject]; !there || found != ok {
			t.Errorf("%s: %v (there: %v), want %v", subject, found, there, ok)
		}
	}
	if ok, there := got["certificate "+certFile]; !there || ok { // it lives for an hour
		t.Errorf("certificate: %v %v", ok, there)
	}
}

func TestReconfigure(t *testing.T) {
	t.Parallel()
	first, second := newPeer(t, "udp", nil), newPeer(t, "udp", nil)
	g := open(t, []string{first.target()}, nil, nil)
	configure := func(rtp, target string) error {
		raw := fmt.Sprintf(`{"listen":"127.0.0.1:0","rtp_ports":%q,"trunk":{"targets":[%q]}}`, rtp, target)
		return g.provider.Configure(t.Context(), json.RawMessage(raw))
	}
	for _, err := range []error{configure("30000-30001", second.target()), configure("30000-39999", "sip:a;transport=tls")} {
		if err == nil || !strings.Contains(err.Error(), sdk.ErrRestartNeeded.Error()) {
			t.Errorf("a change of sockets: %v", err)
		}
	}
	if err := configure("30000-39999", second.target()); err != nil {
		t.Fatal(err)
	}
	c := g.place()
	second.answer()
	c.want(t, "answer")
}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	p, g, c, _ := answered(t, nil, nil)
	c.hangup(callerGone)
	p.reply(p.want("BYE"), "200 OK", "")
	c.ended()
	var families []*dto.MetricFamily
	calls := 0.0
	for _, f := range g.provider.Metrics() {
		kind := dto.MetricType_COUNTER
		if f.Type == sdk.Gauge {
			kind = dto.MetricType_GAUGE
		}
		families = append(families, &dto.MetricFamily{Name: new(f.Name), Help: new(f.Help), Type: kind.Enum()})
		if f.Name == "patchbay_sip_calls_ended_total" {
			calls = f.Metrics[0].Value
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
	if calls != 1 {
		t.Errorf("%v calls ended", calls)
	}
}

func TestHealthOrder(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	h := newHealth()
	h.now = func() time.Time { return now }
	a, b, c := target{host: "a"}, target{host: "b"}, target{host: "c"}
	h.bad(a)
	if got := h.order([]target{a, b, c}); fmt.Sprint(got) != fmt.Sprint([]target{b, c, a}) {
		t.Errorf("order %v", got)
	}
	h.good(a)
	h.bad(b)
	now = now.Add(badFor)
	if got := h.order([]target{a, b, c}); got[0] != a || got[1] != b || h.failing() != 0 {
		t.Errorf("order %v", got)
	}
}

func TestTLSTargetWithoutPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]target{
		"sip:sbc.example.com;transport=tls":        {"sbc.example.com", 5061, transportTLS},
		"sip:sbc.example.com;transport=TCP":        {"sbc.example.com", 5060, transportTCP},
		"sip:[2001:db8::1]:5070":                   {"2001:db8::1", 5070, transportUDP},
		"sip:[2001:db8::1];transport=udp":          {"2001:db8::1", 5060, transportUDP},
		"sip:192.0.2.1":                            {"192.0.2.1", 5060, transportUDP},
		"sip:sbc1.kore.example:5061;transport=tls": {"sbc1.kore.example", 5061, transportTLS},
	} {
		got, err := parseTarget(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := parseTarget(got.String()); err != nil || again != got {
			t.Errorf("%s does not read back: %v", got, err)
		}
	}
}

func TestAddressesAreReleased(t *testing.T) {
	t.Parallel()
	p := newPeers()
	a := netip.MustParseAddr("192.0.2.1")
	one, two := p.addDialog(a), p.addDialog(netip.MustParseAddr("::ffff:192.0.2.1"))
	one()
	one()
	if !p.known(a) {
		t.Error("released twice by one dialog")
	}
	two()
	if p.known(a) || len(p.dialogs) != 0 {
		t.Error("kept after the last dialog")
	}
}
