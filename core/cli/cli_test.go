package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/core/version"
	"github.com/patchbay/patchbay/sdk"
)

// TestMain makes the test's own executable the plugin of the tests.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "maker" {
		if len(os.Args) > 1 && os.Args[1] == "sim" {
			fmt.Println("simulating", os.Args[2:])
			os.Exit(len(os.Args))
		}
		sdk.Serve(maker{})
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// maker is an ingress plugin that makes URLs, and carries no calls.
type maker struct{}

func (maker) Describe() sdk.Description { return sdk.Description{Name: "maker", Version: "1"} }

func (maker) Configure(_ context.Context, block json.RawMessage) error {
	if strings.Contains(string(block), "bad") {
		return sdk.FieldErrors{{Pointer: "/bad", Problem: "is bad", Mend: "take it out"}}
	}
	return nil
}

func (maker) Open(context.Context, sdk.Gateway) ([]sdk.Listener, error) { return nil, nil }

func (maker) Close(context.Context) error { return nil }

func (maker) BuildURL(base string, p sdk.URLParts) (string, error) {
	return base + "/" + strings.Join([]string{p.Number, p.Bot, p.Account, p.Token}, "/"), nil
}

func (maker) ParseURL(url string) sdk.URLInfo {
	parts := strings.Split(strings.TrimPrefix(url, "wss://gw.example.com/"), "/")
	if len(parts) != 4 {
		return sdk.URLInfo{Problems: []string{"want four parts"}, Masked: "(masked)"}
	}
	return sdk.URLInfo{
		URLParts: sdk.URLParts{Number: parts[0], Bot: parts[1], Account: parts[2], Token: parts[3], Mode: sdk.ModeBot},
		Masked:   "wss://gw.example.com/" + strings.Join(parts[:3], "/") + "/…",
	}
}

type result struct {
	code     int
	out, err string
}

func patchbay(t *testing.T, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(t.Context(), args, Streams{In: strings.NewReader(in), Out: &out, Err: &errs})
	return result{code, out.String(), errs.String()}
}

func (r result) want(t *testing.T, code int, text string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out+r.err, text) {
		t.Errorf("exit code %d, want %d and %q\nout: %s\nerr: %s", r.code, code, text, r.out, r.err)
	}
	if code != exitDone && r.err == "" {
		t.Error("nothing on standard error")
	}
}

const secret = "a-secret-that-is-long-enough-for-hs256"

// folder holds the plugin and a configuration; change edits the latter.
func folder(t *testing.T, change ...string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "maker")); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(change...).Replace(fmt.Sprintf(`
node: {name: test, public_url: "wss://gw.example.com"}
plugin_dir: %q
plugins:
  maker: {config: {}}
  other: {plugin: maker}
apps:
  - {name: demo, app_id: cs, secrets: [%q], bots: ["st-1"], accounts: ["*"], numbers: ["+1734*"]}
routes:
  - {from: maker, to: other, default_result: ok}
`, dir, secret))
	file = filepath.Join(dir, "patchbay.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestExitCodes(t *testing.T) {
	dir, file := folder(t)
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{nil, 0, "Usage: patchbay"},
		{[]string{"--help"}, 0, "Example: "},
		{[]string{"version"}, 0, "patchbay " + version.String()},
		{[]string{"nonsense"}, 2, "nonsense"},
		{[]string{"--nonsense", "version"}, 2, "--nonsense"},
		{[]string{"version", "too", "much"}, 2, "too"},
		{[]string{"url"}, 2, "new"},
		{[]string{"url", "new", "-c", file}, 2, "--app"},
		{[]string{"url", "inspect", "-c", file}, 2, "url"},
		{[]string{"hangup"}, 2, "call-id"},
		{[]string{"check", "-c", filepath.Join(dir, "none.yaml")}, 1, "none.yaml"},
		{[]string{"run", "-c", filepath.Join(dir, "none.yaml")}, 1, "none.yaml"},
		{[]string{"run", "-c", file, "--log-level", "loud"}, 1, "loud"},
		{[]string{"plugins", "-c", filepath.Join(dir, "none.yaml")}, 1, "--admin"},
		{[]string{"drain", "--admin", "http://127.0.0.1:1", "-c", file}, 1, "is it running"},
		{[]string{"drain", "--admin", "http://bad host", "-c", file}, 2, "--admin"},

		{[]string{"sim", "none", "--plugin-dir", dir}, 1, "none"},
		{[]string{"sim", "--plugin-dir", dir, "none"}, 1, "build the plugin"},
		{[]string{"sim", "--plugin-dir", dir, "../maker"}, 2, "no plugin's name"},
		{[]string{"sim", "--plugin-dir", dir, ".maker"}, 2, "no plugin's name"},
		{[]string{"sim", "--plugin-dir", dir}, 2, "name"},

		{[]string{"url", "new", "-c", file, "--app", "none", "--number", "+17345550100"}, 2, "no such app"},
		{[]string{"url", "new", "-c", file, "--app", "demo", "--number", "abc", "--account", "a"}, 2, "--number"},
		{[]string{"url", "new", "-c", file, "--app", "demo", "--number", "+17345550100"}, 2, "--account is needed"},
		{[]string{"url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "a", "--expires", "soon"}, 2, "--expires soon"},
		{[]string{"url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "a", "--expires", "-1h"}, 2, "--expires"},
		{[]string{"url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "a", "--from", "none"}, 1, "none"},
		{[]string{"url", "inspect", "-c", file, "-"}, 2, "no URL on standard input"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			patchbay(t, "\n", tc.args...).want(t, tc.code, tc.text)
		})
	}
}

func TestHelpHasAnExample(t *testing.T) {
	for _, command := range []string{
		"run", "check", "url new", "url inspect", "sim", "plugins", "drain", "reload", "hangup", "schema", "version",
	} {
		r := patchbay(t, "", append(strings.Fields(command), "--help")...)
		r.want(t, exitDone, "Example: patchbay "+command)
	}
}

func TestVersionAndSchema(t *testing.T) {
	var v struct{ Version string }
	if err := json.Unmarshal([]byte(patchbay(t, "", "version", "--json").out), &v); err != nil || v.Version != version.String() {
		t.Errorf("version %+v, %v", v, err)
	}
	if r := patchbay(t, "", "schema"); r.code != 0 || r.out != config.Schema() || !json.Valid([]byte(r.out)) {
		t.Errorf("schema: exit code %d", r.code)
	}
}

func TestSim(t *testing.T) {
	dir, _ := folder(t)
	r := patchbay(t, "", "sim", "--plugin-dir", dir, "maker", "--fast", "--help", "x")
	if r.out != "simulating [--fast --help x]\n" || r.code != 5 {
		t.Errorf("%+v: the simulator's arguments and exit code are its own", r)
	}
}

// A URL made by one command is taken apart by the other.
func TestURL(t *testing.T) {
	_, file := folder(t)
	made := patchbay(t, "", "url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "acc", "--expires", "90d")
	made.want(t, exitDone, "wss://gw.example.com/+17345550100/st-1/acc/")
	token := made.out[strings.LastIndex(strings.TrimSpace(made.out), "/")+1:]

	seen := patchbay(t, made.out, "url", "inspect", "-c", file, "--json", "-")
	var i inspection
	if err := json.Unmarshal([]byte(seen.out), &i); err != nil {
		t.Fatalf("%v: %+v", err, seen)
	}
	if seen.code != 0 || !i.Admitted || i.Number != "+17345550100" || i.Bot != "st-1" || i.Account != "acc" {
		t.Errorf("inspected: %+v", seen)
	}
	foreign := strings.Replace(made.out, "+17345550100", "+49305550100", 1)
	refused := patchbay(t, "", "url", "inspect", "-c", file, strings.TrimSpace(foreign))
	refused.want(t, exitFailed, "would refuse")
	broken := patchbay(t, "", "url", "inspect", "-c", file, "wss://gw.example.com/x")
	broken.want(t, exitFailed, "want four parts")
	for _, r := range []result{seen, refused} {
		if strings.Contains(r.out+r.err, strings.TrimSpace(token)) || strings.Contains(r.out+r.err, secret) {
			t.Errorf("a secret is shown: %+v", r)
		}
	}
	if j := patchbay(t, "", "url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "acc", "--json"); !json.Valid([]byte(j.out)) {
		t.Errorf("no JSON: %+v", j)
	}
	_, file = folder(t, `, public_url: "wss://gw.example.com"`, "")
	patchbay(t, "", "url", "new", "-c", file, "--app", "demo", "--number", "+17345550100", "--account", "a").want(t, exitFailed, "node.public_url")
}

func TestCheck(t *testing.T) {
	_, file := folder(t, "config: {}", "config: {bad: 1}")
	r := patchbay(t, "", "check", "-c", file)
	r.want(t, exitFailed, "is bad")
	if !strings.Contains(r.out, "patchbay.yaml:") {
		t.Errorf("the plugin's complaint has no place in the file: %s", r.out)
	}
	var report struct {
		OK       bool
		Findings []finding
	}
	r = patchbay(t, "", "check", "-c", file, "--json")
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.OK || r.code != exitFailed || len(report.Findings) < 3 {
		t.Errorf("report %+v, %v", report, err)
	}
}

// TestRemote are the commands that talk to a running gateway.
func TestRemote(t *testing.T) {
	var asked []string
	gw := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.EscapedPath()+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/api/v1/plugins":
			_ = json.NewEncoder(w).Encode(map[string]any{"plugins": []host.Status{{
				Instance: "echo", State: host.BackingOff, LastError: "it died", Addresses: []host.Address{{Purpose: "stream", Address: "127.0.0.1:1"}},
			}}})
		case "/api/v1/reload":
			fmt.Fprint(w, `{"status":"reloaded","needs_restart":["admin.listen"]}`)
		case "/api/v1/calls/none":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"no running call has this id"}`)
		case "/api/v1/calls/teapot":
			w.WriteHeader(http.StatusTeapot)
		default:
			fmt.Fprint(w, `{"status":"ok"}`)
		}
	}))
	defer gw.Close()
	t.Setenv("PATCHBAY_ADMIN", gw.URL+"/")
	t.Setenv("PATCHBAY_ADMIN_TOKEN", "the-admin-token-of-the-test")
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"plugins"}, 0, "stream 127.0.0.1:1"},
		{[]string{"plugins"}, 0, "it died"},
		{[]string{"plugins", "--json"}, 0, `"state":"backing_off"`},
		{[]string{"drain"}, 0, "draining"},
		{[]string{"drain", "--json"}, 0, `{"status":"ok"}`},
		{[]string{"reload"}, 0, "takes effect at the next start: admin.listen"},
		{[]string{"hangup", "call-1"}, 0, "hanging up call-1"},
		{[]string{"hangup", "none"}, 1, "no running call has this id"},
		{[]string{"hangup", "teapot"}, 1, "418"},
		{[]string{"hangup", "../drain"}, 0, "hanging up"},
	} {
		patchbay(t, "", tc.args...).want(t, tc.code, tc.text)
	}
	for _, want := range []string{"DELETE /api/v1/calls/call-1", "DELETE /api/v1/calls/..%2Fdrain", "POST /api/v1/drain"} {
		if !slices.Contains(asked, want+" Bearer the-admin-token-of-the-test") {
			t.Errorf("nobody asked %s: %q", want, asked)
		}
	}
}
