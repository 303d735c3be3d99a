package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/patchbay/patchbay/sdk"
)

// writePair writes a self-signed certificate and its key.
func writePair(t *testing.T, files tlsFiles, name string, valid time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	writeFile(t, files.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name, block string
		pointers    []string
	}{
		{"defaults", `{}`, nil},
		{"nothing", ``, nil},
		{"behind a proxy", `{"listen":"0.0.0.0:80","allow_plain":true}`, nil},
		{"localhost", `{"listen":"localhost:8443"}`, nil},
		{"certificate", `{"listen":":443","tls":{"cert_file":"c","key_file":"k"}}`, nil},
		{"plain for all", `{"listen":"0.0.0.0:80"}`, []string{"/listen"}},
		{"plain on every address", `{"listen":":8443"}`, []string{"/listen"}},
		{"no port", `{"listen":"127.0.0.1"}`, []string{"/listen"}},
		{"half a pair", `{"tls":{"cert_file":"c"}}`, []string{"/tls/key_file"}},
		{"other half", `{"tls":{"key_file":"k"}}`, []string{"/tls/cert_file"}},
		{"unknown key", `{"lisen":"x"}`, []string{""}},
		{"wrong type", `{"allow_plain":"yes"}`, []string{""}},
		{
			"all at once", `{"path":"audio?x","trusted_proxies":["10.0.0.0/8","x"],"commands":{"ok":""},"close_grace":"2h"}`,
			[]string{"/path", "/trusted_proxies/1", "/commands/ok", "/close_grace"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseConfig(json.RawMessage(tt.block))
			var errs sdk.FieldErrors
			if err != nil && !errors.As(err, &errs) {
				t.Fatal(err)
			}
			var pointers []string
			for _, e := range errs {
				pointers = append(pointers, e.Pointer)
				if e.Problem == "" || e.Mend == "" {
					t.Errorf("%q says too little", e.Error())
				}
			}
			if diff := cmp.Diff(tt.pointers, pointers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSchema: the schema takes the defaults, and its own defaults are ours.
func TestSchema(t *testing.T) {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(new(provider).Describe().ConfigSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defaults := defaultConfig()
	defaults.TrustedProxies = []string{}
	data, err := json.Marshal(defaults)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(defaultsOf(parsed), value); diff != "" {
		t.Errorf("the schema's defaults differ: %s", diff)
	}
}

func defaultsOf(schema any) any {
	m, _ := schema.(map[string]any)
	if d, ok := m["default"]; ok {
		return d
	}
	out := map[string]any{}
	properties, _ := m["properties"].(map[string]any)
	for key, p := range properties {
		out[key] = defaultsOf(p)
	}
	return out
}

func TestReconfigure(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	if err := g.Configure(t.Context(), json.RawMessage(`{"listen":"127.0.0.1:0","commands":{"ok":"success"}}`)); err != nil {
		t.Error(err)
	}
	if err := g.Configure(t.Context(), json.RawMessage(`{"listen":"127.0.0.1:1"}`)); !errors.Is(err, sdk.ErrRestartNeeded) {
		t.Errorf("got %v", err)
	}
	p, leg := g.call(t)
	leg.finish(sdk.ResultOK, "")
	stop, _ := p.expect("stop")["stop"].(map[string]any)
	if stop["command"] != "success" {
		t.Errorf("the new call says %v", stop)
	}
}

func TestCheck(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	if r := g.Check(t.Context(), false); len(r) != 1 || !r[0].OK {
		t.Errorf("open: %v", r)
	}
	p := new(provider)
	if r := p.Check(t.Context(), false); r[0].OK {
		t.Errorf("not configured: %v", r)
	}
	dir := t.TempDir()
	files := tlsFiles{CertFile: dir + "/cert.pem", KeyFile: dir + "/key.pem"}
	block := json.RawMessage(`{"listen":"` + g.addr + `","tls":{"cert_file":"` + files.CertFile + `","key_file":"` + files.KeyFile + `"}}`)
	if err := p.Configure(t.Context(), block); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		valid  time.Duration
		ok     bool
		detail string
	}{
		{0, false, "name PEM files"}, {-time.Hour, false, "expired"}, {time.Hour, true, "expires soon"}, {90 * 24 * time.Hour, true, "valid until"},
	} {
		if tt.valid != 0 {
			writePair(t, files, "x", tt.valid)
		}
		r := p.Check(t.Context(), false)
		if len(r) != 2 || r[0].OK || r[1].OK != tt.ok || !strings.Contains(r[1].Detail, tt.detail) {
			t.Errorf("%s: %v", tt.valid, r)
		}
	}
	free := new(provider)
	if err := free.Configure(t.Context(), json.RawMessage(`{"listen":"127.0.0.1:0"}`)); err != nil {
		t.Fatal(err)
	}
	if r := free.Check(t.Context(), true); !r[0].OK {
		t.Errorf("free: %v", r)
	}
}

func TestURLMaker(t *testing.T) {
	p := new(provider)
	parts := sdk.URLParts{Token: "tok", Number: "+17345551234", Bot: "st-1", Account: "acc", Mode: sdk.ModeMonitor, Parameters: map[string]string{"a": "b"}}
	built, err := p.BuildURL("wss://voice.example.com", parts)
	if err != nil {
		t.Fatal(err)
	}
	info := p.ParseURL(built)
	if diff := cmp.Diff(parts, info.URLParts); diff != "" || len(info.Problems) > 0 || strings.Contains(info.Masked, "=tok") {
		t.Errorf("%s %v", diff, info)
	}
}

func TestOpenUnconfigured(t *testing.T) {
	if _, err := new(provider).Open(t.Context(), &fakeGateway{}); !errors.Is(err, errNotConfigured) {
		t.Errorf("got %v", err)
	}
	if err := new(provider).Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	g := open(t, &fakeGateway{}, "", nil)
	names := map[string]bool{}
	for _, f := range g.Metrics() {
		if names[f.Name] || f.Help == "" || len(f.Metrics) == 0 || (f.Type == sdk.Counter) != strings.HasSuffix(f.Name, "_total") {
			t.Errorf("%+v", f)
		}
		names[f.Name] = true
	}
}
