package admission_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/core/admission"
	"github.com/patchbay/patchbay/core/config"
)

const (
	secretNew = "demo-secret-new-0123456789"
	secretOld = "demo-secret-old-0123456789"
	hmacKey   = "hmac-secret-0123456789"
)

const configuration = `
limits: {max_calls: 5, calls_per_second: 100}
plugins: {in: {}, out: {}, other: {}}
apps:
  - {name: demo, app_id: cs-demo, secrets: [demo-secret-new-0123456789, demo-secret-old-0123456789],
     bots: [st-demo], accounts: [acc-demo], platform_accounts: [p-1], numbers: ["+17344*", "+49301234"], max_calls: 3}
  - {name: strict, app_id: cs-strict, secrets: [strict-secret-0123456789], bots: ["*"], accounts: ["*"], numbers: ["+1*"], require_exp: true}
  - {name: signed, app_id: key-1, auth: hmac, secrets: [hmac-secret-0123456789], bots: ["*"], accounts: ["*"], numbers: ["+1*"]}
  - {name: local, auth: peer, peers: [127.0.0.2, "::1"], bots: ["*"], accounts: ["*"], numbers: ["+1*"]}
routes:
  - {from: in, to: other, match: {app: demo, queue: vip}, default_result: ok}
  - {from: in, to: other, match: {number: "+49*"}, default_result: ok}
  - {from: in, to: out, match: {app: demo, bot: st-demo, account: acc-demo}, default_result: ok}
  - {from: in, to: out, match: {app: strict}, default_result: ok}
  - {from: in, to: out, match: {app: signed}, default_result: ok}
  - {from: in, to: out, match: {app: local}, default_result: ok}
`

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func settings(tb testing.TB, text string) *config.Config {
	tb.Helper()
	c, err := config.Parse([]byte(text), config.Options{Environ: []string{}, Hostname: "gw"})
	if err != nil {
		tb.Fatalf("parse configuration: %v", err)
	}
	return c
}

func gate(tb testing.TB) *admission.Gate {
	tb.Helper()
	return admission.NewGate(settings(tb, configuration))
}

func sign(tb testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	tb.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		tb.Fatalf("sign: %v", err)
	}
	return token
}

func hs256(tb testing.TB, secret string, claims jwt.MapClaims) string {
	tb.Helper()
	return sign(tb, jwt.SigningMethodHS256, []byte(secret), claims)
}

func request(token string) admission.Request {
	return admission.Request{
		Ingress: "in", Credential: admission.Credential{Kind: admission.CredentialJWT, Token: token},
		Number: "+17344321234", Bot: "st-demo", Account: "acc-demo", Mode: admission.ModeBot,
		Remote: netip.MustParseAddr("198.51.100.7"),
	}
}

func reasonOf(tb testing.TB, err error) string {
	tb.Helper()
	if err == nil {
		return "admitted"
	}
	var refusal *admission.Refusal
	if !errors.As(err, &refusal) {
		tb.Fatalf("%v is not a refusal", err)
	}
	return refusal.Reason.String()
}

func TestRefusals(t *testing.T) {
	good := hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"})
	now := start().Unix()
	bound := func(claims jwt.MapClaims) string {
		claims["appId"] = "cs-demo"
		return hs256(t, secretNew, claims)
	}
	strict := func(claims jwt.MapClaims) string {
		claims["appId"] = "cs-strict"
		return hs256(t, "strict-secret-0123456789", claims)
	}
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","crit":["x"]}`))
	body := base64.RawURLEncoding.EncodeToString([]byte(`{"appId":"cs-demo"}`))
	tests := []struct {
		name, want string
		token      string
		change     func(*admission.Request)
	}{
		{"plain", "admitted", good, nil},
		{"older secret", "admitted", hs256(t, secretOld, jwt.MapClaims{"appId": "cs-demo"}), nil},
		{"issuer instead of appId", "admitted", hs256(t, secretNew, jwt.MapClaims{"iss": "cs-demo"}), nil},
		{"unescaped plus", "admitted", good, func(r *admission.Request) { r.Number = " 17344321234" }},
		{"exact number", "admitted", good, func(r *admission.Request) { r.Number = "49 30 1234" }},
		{"empty mode", "admitted", good, func(r *admission.Request) { r.Mode = "" }},

		{"no number", "malformed", good, func(r *admission.Request) { r.Number = "" }},
		{"letters for a number", "malformed", good, func(r *admission.Request) { r.Number = "sales" }},
		{"a URI for a bot call", "malformed", good, func(r *admission.Request) { r.Number = "sip:17344321234@evil.example" }},
		{"unknown mode", "malformed", good, func(r *admission.Request) { r.Mode = "both" }},
		{"control character in an id", "malformed", good, func(r *admission.Request) { r.Bot = "st-demo\r\n" }},
		{"endless id", "malformed", good, func(r *admission.Request) { r.Account = strings.Repeat("a", 257) }},

		{"no credential", "unauthenticated", "", func(r *admission.Request) { r.Credential = admission.Credential{} }},
		{"empty token", "unauthenticated", "", nil},
		{"not a token", "unauthenticated", "a.b", nil},
		{"over 8 KiB", "unauthenticated", bound(jwt.MapClaims{"pad": strings.Repeat("x", 8<<10)}), nil},
		{"unknown app", "unauthenticated", hs256(t, secretNew, jwt.MapClaims{"appId": "cs-none"}), nil},
		{"no app", "unauthenticated", hs256(t, secretNew, jwt.MapClaims{}), nil},
		{"another app's secret", "unauthenticated", hs256(t, secretNew, jwt.MapClaims{"appId": "cs-strict"}), nil},
		{"an hmac app's id and key", "unauthenticated", hs256(t, hmacKey, jwt.MapClaims{"appId": "key-1"}), nil},
		{"alg none", "unauthenticated", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"appId": "cs-demo"}), nil},
		{"HS512", "unauthenticated", sign(t, jwt.SigningMethodHS512, []byte(secretNew), jwt.MapClaims{"appId": "cs-demo"}), nil},
		{"RS256 header on an HMAC", "unauthenticated", confused(secretNew), nil},
		{"critical extension", "unauthenticated", signText(head+"."+body, secretNew), nil},
		{"signature cut off", "unauthenticated", good[:strings.LastIndexByte(good, '.')+1], nil},
		{"expired", "unauthenticated", bound(jwt.MapClaims{"exp": now - 61}), nil},
		{"just expired, within leeway", "admitted", bound(jwt.MapClaims{"exp": now - 59}), nil},
		{"not yet valid", "unauthenticated", bound(jwt.MapClaims{"nbf": now + 61}), nil},
		{"issued in the future", "unauthenticated", bound(jwt.MapClaims{"iat": now + 61}), nil},
		{"exp is text", "unauthenticated", bound(jwt.MapClaims{"exp": "soon"}), nil},
		{"appId is a number", "unauthenticated", hs256(t, secretNew, jwt.MapClaims{"appId": 7}), nil},
		{"never expires, must", "unauthenticated", strict(jwt.MapClaims{}), nil},
		{"expires, must", "admitted", strict(jwt.MapClaims{"exp": now + 60}), nil},

		{"bot not allowed", "forbidden", good, func(r *admission.Request) { r.Bot = "st-other" }},
		{"no bot", "forbidden", good, func(r *admission.Request) { r.Bot = "" }},
		{"account not allowed", "forbidden", good, func(r *admission.Request) { r.Account = "acc-other" }},
		{"number not allowed", "forbidden", good, func(r *admission.Request) { r.Number = "+17354321234" }},
		{"number beyond an exact one", "forbidden", good, func(r *admission.Request) { r.Number = "+493012345" }},
		{"bound to this", "admitted", bound(jwt.MapClaims{"sipuri": "1 734 432-1234", "botId": "st-demo", "accountId": "acc-demo"}), nil},
		{"bound to another number", "forbidden", bound(jwt.MapClaims{"sipuri": "+17344321235"}), nil},
		{"bound to what is no number", "forbidden", bound(jwt.MapClaims{"sipuri": "sip:x@y"}), nil},
		{"bound to another bot", "forbidden", bound(jwt.MapClaims{"botId": "st-else"}), nil},
		{"bound to another account", "forbidden", bound(jwt.MapClaims{"accountId": "acc-else"}), nil},

		{"monitored", "unsupported", good, func(r *admission.Request) { r.Mode = admission.ModeMonitor }},
		{"monitored, by URI", "unsupported", good, func(r *admission.Request) {
			r.Mode, r.Number = admission.ModeMonitor, "sip:b@example.com"
		}},
		{"no route from there", "no_route", good, func(r *admission.Request) { r.Ingress = "other" }},

		// The order: each request has all later faults as well.
		{"malformed before the token", "malformed", "x", func(r *admission.Request) { r.Number, r.Bot, r.Ingress = "x", "y", "z" }},
		{"token before the bot", "unauthenticated", "x", func(r *admission.Request) { r.Bot, r.Ingress, r.Mode = "y", "z", admission.ModeMonitor }},
		{"bot before the mode", "forbidden", good, func(r *admission.Request) { r.Bot, r.Ingress, r.Mode = "y", "z", admission.ModeMonitor }},
		{"mode before the route", "unsupported", good, func(r *admission.Request) { r.Ingress, r.Mode = "z", admission.ModeMonitor }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gate(t)
			req := request(tt.token)
			if tt.change != nil {
				tt.change(&req)
			}
			inspected := g.Inspect(start(), req)
			res, err := g.Admit(start(), req)
			if got := reasonOf(t, err); got != tt.want {
				t.Fatalf("Admit: %s (%v), want %s", got, err, tt.want)
			}
			if inspected.Admitted != (err == nil) || err != nil && inspected.Refusal.Reason.String() != tt.want {
				t.Errorf("Inspect says otherwise: %+v", inspected)
			}
			if tt.token != "" && len(tt.token) > 20 && strings.Contains(fmt.Sprint(err, inspected, req), tt.token) {
				t.Error("the token is printed")
			}
			if err == nil {
				res.Release()
			}
			if g.InUse() != 0 {
				t.Errorf("%d calls in use", g.InUse())
			}
		})
	}
}

// confused is RS256 in the header over an HMAC, as one sends who hopes that a
// public key is taken for a secret.
func confused(secret string) string {
	enc := base64.RawURLEncoding
	return signText(enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`))+"."+enc.EncodeToString([]byte(`{"appId":"cs-demo"}`)), secret)
}

func signText(text, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestRoutes(t *testing.T) {
	g := gate(t)
	good := hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"})
	for _, tt := range []struct {
		name, number, queue, to string
	}{
		{"by a parameter", "+17344321234", "vip", "other"},
		{"the parameter's other value", "+17344321234", "all", "out"},
		{"by the number's prefix", "+49301234", "", "other"},
		{"by app, bot and account", "+17344321234", "", "out"},
	} {
		req := request(good)
		req.Number = tt.number
		if tt.queue != "" {
			req.Parameters = map[string]string{"queue": tt.queue}
		}
		res, err := g.Admit(start(), req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if res.Route.To != tt.to || res.App != "demo" || res.Number != tt.number {
			t.Errorf("%s: %+v", tt.name, res)
		}
		if reasonOf(t, res.CheckPlatformAccount("p-1")) != "admitted" || reasonOf(t, res.CheckPlatformAccount("p-2")) != "forbidden" {
			t.Errorf("%s: the platform's account is not checked", tt.name)
		}
		res.Release()
	}
}

func TestHMACAndPeer(t *testing.T) {
	g := gate(t)
	signed := []byte("(request-target): get /x")
	mac := hmac.New(sha256.New, []byte(hmacKey))
	mac.Write(signed)
	signature := mac.Sum(nil)
	credential := func(change func(*admission.Credential)) admission.Credential {
		c := admission.Credential{Kind: admission.CredentialHMAC, Scheme: "HMAC-SHA256", KeyID: "key-1", Signed: signed, Signature: signature}
		if change != nil {
			change(&c)
		}
		return c
	}
	peer := func(addr string) admission.Credential {
		return admission.Credential{Kind: admission.CredentialPeer, Address: netip.MustParseAddr(addr)}
	}
	for _, tt := range []struct {
		name, want, remote string
		credential         admission.Credential
	}{
		{"signed", "admitted", "198.51.100.7", credential(nil)},
		{"other bytes", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.Signed = []byte("x") })},
		{"nothing signed", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.Signed = nil })},
		{"no signature", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.Signature = nil })},
		{"unknown key", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.KeyID = "key-2" })},
		{"a jwt app's id", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.KeyID = "cs-demo" })},
		{"unknown scheme", "unauthenticated", "198.51.100.7", credential(func(c *admission.Credential) { c.Scheme = "md5" })},
		{"peer", "admitted", "127.0.0.2", peer("127.0.0.2")},
		{"peer, mapped", "admitted", "127.0.0.2", peer("::ffff:127.0.0.2")},
		{"peer, v6", "admitted", "::1", peer("::1")},
		{"another loopback address", "unauthenticated", "127.0.0.1", peer("127.0.0.1")},
		{"peer beyond the host", "unauthenticated", "198.51.100.7", peer("198.51.100.7")},
		{"peer claimed from beyond", "unauthenticated", "198.51.100.7", peer("127.0.0.2")},
	} {
		req := request("")
		req.Credential, req.Remote = tt.credential, netip.MustParseAddr(tt.remote)
		res, err := g.Admit(start(), req)
		if got := reasonOf(t, err); got != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if err == nil {
			res.Release()
		}
	}
}

func TestLimitsInTheirOrder(t *testing.T) {
	g := gate(t)
	demo := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	strict := request(hs256(t, "strict-secret-0123456789", jwt.MapClaims{"appId": "cs-strict", "exp": start().Unix() + 3600}))
	var held []*admission.Reservation
	for i, tt := range []struct {
		req  admission.Request
		want string
	}{
		{demo, "admitted"},
		{demo, "admitted"},
		{demo, "admitted"},
		{demo, "app_quota"},
		{strict, "admitted"},
		{strict, "admitted"},
		{strict, "node_limit"},
		{demo, "app_quota"},
	} {
		res, err := g.Admit(start(), tt.req)
		if got := reasonOf(t, err); got != tt.want {
			t.Fatalf("request %d: %v, want %s", i, err, tt.want)
		}
		var refusal *admission.Refusal
		if errors.As(err, &refusal) && refusal.RetryAfter <= 0 {
			t.Errorf("request %d does not say when to retry", i)
		}
		if err == nil {
			held = append(held, res)
		}
	}
	if g.InUse() != 5 || g.InUseBy("demo") != 3 {
		t.Errorf("in use: %d, by demo %d", g.InUse(), g.InUseBy("demo"))
	}
	g.Drain()
	if got := reasonOf(t, second(g.Admit(start(), strict))); got != "node_limit" {
		t.Errorf("full and draining: %s", got)
	}
	for _, res := range held {
		res.Release()
		res.Release()
	}
	if g.InUse() != 0 || g.InUseBy("demo") != 0 {
		t.Errorf("after release in use: %d, by demo %d", g.InUse(), g.InUseBy("demo"))
	}
	if got := reasonOf(t, second(g.Admit(start(), strict))); got != "draining" || !g.Draining() {
		t.Errorf("draining: %s", got)
	}
}

func second(_ *admission.Reservation, err error) error { return err }

func TestRateIsSpentByAuthenticatedRequestsOnly(t *testing.T) {
	g := admission.NewGate(settings(t, strings.Replace(configuration, "max_calls: 5, calls_per_second: 100", "max_calls: 50, calls_per_second: 2", 1)))
	good := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	bad := request("x.y.z")
	for range 100 {
		if err := second(g.Admit(start(), bad)); err == nil {
			t.Fatal("a bad token is admitted")
		}
		if !g.Inspect(start(), good).Admitted {
			t.Fatal("looking at a request spends the rate")
		}
	}
	for i, want := range []string{"admitted", "admitted", "rate", "rate"} {
		if got := reasonOf(t, second(g.Admit(start(), good))); got != want {
			t.Fatalf("request %d: %s, want %s", i, got, want)
		}
	}
	if got := reasonOf(t, second(g.Admit(start().Add(time.Second), good))); got != "admitted" {
		t.Errorf("a second later: %s", got)
	}
}

func TestBadTokensSlowTheirSenderOnly(t *testing.T) {
	g := gate(t)
	good := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	bad := request(hs256(t, "not-the-secret-0123456789", jwt.MapClaims{"appId": "cs-demo"}))
	for i := range 12 {
		err := second(g.Admit(start(), bad))
		want := "unauthenticated"
		if i >= 10 {
			want = "too_many_bad_tokens"
		}
		var refusal *admission.Refusal
		if got := reasonOf(t, err); got != want || errors.As(err, &refusal) && (refusal.RetryAfter > 0) != (i >= 10) {
			t.Fatalf("bad token %d: %v, want %s", i, err, want)
		}
	}
	res, err := g.Admit(start(), good)
	if err != nil {
		t.Fatalf("a good token from the same address: %v", err)
	}
	res.Release()
	other := bad
	other.Remote = netip.MustParseAddr("198.51.100.8")
	if got := reasonOf(t, second(g.Admit(start(), other))); got != "unauthenticated" {
		t.Errorf("another address: %s", got)
	}
	if got := reasonOf(t, second(g.Admit(start().Add(6*time.Second), bad))); got != "unauthenticated" {
		t.Errorf("6 s later: %s", got)
	}
	// Two addresses of one IPv6 network are one sender.
	for i := range 11 {
		bad.Remote = netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2::%x", i+1))
		err = second(g.Admit(start(), bad))
	}
	if got := reasonOf(t, err); got != "too_many_bad_tokens" {
		t.Errorf("eleven addresses of one network: %s", got)
	}
}

func TestUnknownAppLooksLikeABadSignature(t *testing.T) {
	g := gate(t)
	unknown := second(g.Admit(start(), request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-none"}))))
	bad := second(g.Admit(start(), request(hs256(t, "not-the-secret-0123456789", jwt.MapClaims{"appId": "cs-demo"}))))
	var a, b *admission.Refusal
	if !errors.As(unknown, &a) || !errors.As(bad, &b) {
		t.Fatalf("got %v and %v", unknown, bad)
	}
	a.Detail, b.Detail = "", "" // for the operator's log alone
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("they differ:\n%s", diff)
	}
}

func TestAbandonedReservations(t *testing.T) {
	g := admission.NewGate(settings(t, strings.NewReplacer("max_calls: 5, calls_per_second: 100", "max_calls: 2000, calls_per_second: 100000", "max_calls: 3", "max_calls: 2000").Replace(configuration)))
	req := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	var wg sync.WaitGroup
	var admitted atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 125 {
				res, err := g.Admit(start(), req)
				if err != nil {
					t.Errorf("admit: %v", err)
					return
				}
				admitted.Add(1)
				wg.Go(res.Release)
				wg.Go(res.Release)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 1000 || g.InUse() != 0 || g.InUseBy("demo") != 0 {
		t.Errorf("admitted %d, in use %d, by the app %d", admitted.Load(), g.InUse(), g.InUseBy("demo"))
	}
}

// TestLimitHoldsUnderLoad lets many ask at once while the configuration is
// replaced: never more than the limit are in.
func TestLimitHoldsUnderLoad(t *testing.T) {
	text := strings.NewReplacer("max_calls: 3", "max_calls: 50", "calls_per_second: 100", "calls_per_second: 100000").Replace(configuration)
	cfg := settings(t, text)
	g := admission.NewGate(cfg)
	req := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	var in, most atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				if i%50 == 0 {
					g.Update(cfg)
				}
				res, err := g.Admit(start(), req)
				if err != nil {
					continue
				}
				n := in.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				in.Add(-1)
				res.Release()
			}
		})
	}
	wg.Wait()
	if most.Load() > 5 || most.Load() == 0 || g.InUse() != 0 {
		t.Errorf("at most %d were in, %d are", most.Load(), g.InUse())
	}
}

func TestUpdateKeepsCounts(t *testing.T) {
	g := gate(t)
	req := request(hs256(t, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	res, err := g.Admit(start(), req)
	if err != nil {
		t.Fatal(err)
	}
	g.Update(settings(t, strings.NewReplacer("max_calls: 3", "max_calls: 1", "+17344*", "+17*").Replace(configuration)))
	if got := reasonOf(t, second(g.Admit(start(), req))); got != "app_quota" {
		t.Errorf("after the update: %s", got)
	}
	g.Update(settings(t, strings.ReplaceAll(configuration, "cs-demo", "cs-new")))
	if got := reasonOf(t, second(g.Admit(start(), req))); got != "unauthenticated" || g.InUse() != 1 {
		t.Errorf("an app that is gone: %s, %d in use", got, g.InUse())
	}
	res.Release()
	if g.InUse() != 0 {
		t.Errorf("%d in use", g.InUse())
	}
}

func TestMintAndInspect(t *testing.T) {
	cfg := settings(t, configuration)
	g := admission.NewGate(cfg)
	demo, _ := cfg.App("demo")
	token, err := admission.Mint(start(), demo, admission.Claims{Number: "1 734 432 1234", Bot: "st-demo", Account: "acc-demo"}, 90*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	req := request(token)
	req.Number = " 17344321234"
	want := []string{
		`form: the number " 17344321234" is read as +17344321234`,
		"credential: signed by app demo with secret 1 of 2, expires 2026-05-30T12:00:00Z, bound to what it was made for",
		"permission: app demo may use this bot, account and number",
		"mode: a call with a bot",
		"route: routes[2] leads from in to out",
		"limits: there is room for the call",
		"the call would be admitted and placed by out",
	}
	if diff := cmp.Diff(want, g.Inspect(start(), req).Lines); diff != "" {
		t.Errorf("inspection (-want +got):\n%s", diff)
	}
	if got := reasonOf(t, second(g.Admit(start().Add(91*24*time.Hour), req))); got != "unauthenticated" {
		t.Errorf("after it expired: %s", got)
	}
	req = request(hs256(t, secretOld, jwt.MapClaims{"appId": "cs-demo"}))
	req.Bot, req.Ingress = "st-x", "nowhere"
	want = []string{
		"form: the number is +17344321234",
		"credential: signed by app demo with secret 2 of 2, never expires, bound to nothing: it works for every bot, account and number of the app",
		"permission: refused (forbidden): the bot is not among app demo's bots",
		"mode: a call with a bot",
		"route: refused (no_route): none of 6 routes matches a call from nowhere by app demo",
		"limits: there is room for the call",
	}
	if diff := cmp.Diff(want, g.Inspect(start(), req).Lines); diff != "" {
		t.Errorf("inspection (-want +got):\n%s", diff)
	}
	strict, _ := cfg.App("strict")
	signed, _ := cfg.App("signed")
	for name, err := range map[string]error{
		"an app that wants exp":     mintError(strict, admission.Claims{}, 0),
		"an app without tokens":     mintError(signed, admission.Claims{}, time.Hour),
		"what is no number":         mintError(demo, admission.Claims{Number: "sip:x@y"}, time.Hour),
		"a number that is too long": mintError(demo, admission.Claims{Number: "+1234567890123456"}, time.Hour),
	} {
		if err == nil {
			t.Errorf("a token was made for %s", name)
		}
	}
}

func TestCredentialsNeverPrint(t *testing.T) {
	req := request("head.body.signature")
	req.Credential.Signature = []byte("sig-bytes")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("dump", "request", req, "credential", req.Credential)
	slog.New(slog.NewTextHandler(&log, nil)).Info("dump", "request", req)
	printed := log.String() + fmt.Sprintf("%v %+v %#v %d %x", req, req, req, req.Credential, req.Credential)
	for _, secret := range []string{"head.body", "sig-bytes", fmt.Sprintf("%x", "head.body"), fmt.Sprintf("%d", []byte("sig-bytes"))} {
		if strings.Contains(printed, secret) {
			t.Errorf("%q is printed in %s", secret, printed)
		}
	}
}

func mintError(app config.App, claims admission.Claims, expires time.Duration) error {
	_, err := admission.Mint(start(), app, claims, expires)
	return err
}
