package sim

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/sdk/media/wav"
)

// ran is what one run of the command left behind.
type ran struct {
	code        int
	out, stderr string
}

func runCommand(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, stderr bytes.Buffer
	code := command(t.Context(), args, strings.NewReader(stdin), &out, &stderr)
	return ran{code, out.String(), stderr.String()}
}

// echoServer sends all audio back, and ends the call with an escalation at the digit #.
func echoServer(t *testing.T) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") != "secret" {
			w.Header().Set("Retry-After", "3")
			http.Error(w, "bad token", http.StatusUnauthorized)
			return
		}
		var g gateway
		serve(t, &g, func(g *gateway) {
			ticks := time.NewTicker(5 * time.Millisecond)
			defer ticks.Stop()
			for sent := 0; len(g.events("dtmf")) == 0; {
				select {
				case <-ticks.C:
				case <-g.over:
					return
				}
				for _, m := range g.events("media")[sent:] {
					g.media(payloads(t, []got{m}))
					sent++
				}
			}
			g.stop(`"command":"escalate","ringGroup":"agents"`)
		})(w, r)
	})
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	play, record := filepath.Join(dir, "play.wav"), filepath.Join(dir, "record.wav")
	var file bytes.Buffer
	if err := wav.WriteMuLaw(&file, ramp(1600)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(play, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := listen(t, echoServer(t))
	srv.Start()
	url := "ws" + strings.TrimPrefix(srv.URL, "http") + "/x?token="

	t.Run("a call", func(t *testing.T) {
		got := runCommand(t, url+"secret\n", "--play", play, "--record", record, "--dtmf", "1s:#", "--json",
			"--param", "caller_id=+49", "--linger", "10ms", "--expect", "escalate->agents", "-")
		if got.code != exitDone || got.stderr != "" {
			t.Fatalf("exit %d: %s", got.code, got.stderr)
		}
		var r Report
		if err := json.Unmarshal([]byte(got.out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Outcome != "escalate → agents" || r.DTMFSent != "#" || r.FramesReceived < 15 || r.Stop.RingGroup != "agents" || strings.Contains(got.out, "secret") {
			t.Errorf("report %s", got.out)
		}
		f, err := os.Open(record)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sound, err := wav.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		if sound.Format != wav.MuLaw || sound.SampleRate != sampleRate {
			t.Errorf("recorded %s at %d", sound.Format, sound.SampleRate)
		}
		// A host that is held up may tear the sound apart, but never reorder or lose it.
		if heard, want := strip(sound.Data), strip(ramp(1600)); !bytes.Equal(heard, want) {
			t.Errorf("%d bytes heard, want the %d played", len(heard), len(want))
		}
	})

	for name, tt := range map[string]struct {
		args   []string
		stdin  string
		code   int
		out    string
		stderr string
	}{
		"help":                {args: []string{"--help"}, out: "Example:"},
		"refused":             {args: []string{url + "bad"}, code: 1, out: `401, retry after 3: "bad token"`},
		"refused as expected": {args: []string{"--expect", "refused 401", url + "bad"}, out: "refused 401"},
		"table":               {args: []string{url + "secret", "--dtmf", "50ms:1", "--trace"}, out: "escalate → agents, ended by the gateway", stderr: "-> start"},
		"another outcome":     {args: []string{url + "secret", "--hangup-after", "50ms", "--expect", "ok"}, code: 1, stderr: `outcome "hangup", expected "ok"`},
		"escalate, any group": {args: []string{url + "secret", "--dtmf", "50ms:1", "--expect", "escalate"}},
		"drop":                {args: []string{url + "secret", "--drop-after", "50ms", "--drop-reset"}, out: "dropped, ended by the caller"},
		"unreachable":         {args: []string{"ws://127.0.0.1:1/?token=secret"}, code: 1, stderr: "dial ws://127.0.0.1:1/: "},
		"no URL":              {code: 2, stderr: "0 URLs"},
		"two URLs":            {args: []string{"a", "b"}, code: 2, stderr: "2 URLs"},
		"empty stdin":         {args: []string{"-"}, code: 2, stderr: "no URL"},
		"scheme":              {args: []string{"http://h/?token=secret"}, code: 2, stderr: "use ws:// or wss://"},
		"flag":                {args: []string{"--nope", "ws://h/"}, code: 2, stderr: "-nope"},
		"digits":              {args: []string{"--dtmf", "1s:x", "ws://h/"}, code: 2, stderr: "no DTMF digit"},
		"digits without time": {args: []string{"--dtmf", "12", "ws://h/"}, code: 2, stderr: "1500ms:12#"},
		"stall":               {args: []string{"--stall", "1s:0s", "ws://h/"}, code: 2, stderr: "stall"},
		"stall without time":  {args: []string{"--stall", "1s", "ws://h/"}, code: 2, stderr: "2s:300ms"},
		"param":               {args: []string{"--param", "x", "ws://h/"}, code: 2, stderr: "key=value"},
		"header":              {args: []string{"--header", "x", "ws://h/"}, code: 2, stderr: "name:value"},
		"fault":               {args: []string{"--fault", "x", "ws://h/"}, code: 2, stderr: "no such fault"},
		"mode":                {args: []string{"--hangup-mode", "x", "ws://h/"}, code: 2, stderr: "no such choice"},
		"frame":               {args: []string{"--frame-ms", "0", "ws://h/"}, code: 2, stderr: "1 to 1000"},
		"commands":            {args: []string{"--commands", "a,b", "ws://h/"}, code: 2, stderr: "three words"},
		"no file":             {args: []string{"--play", filepath.Join(dir, "none"), "ws://h/"}, code: 2, stderr: "open --play"},
		"no WAV":              {args: []string{"--play", os.Args[0], "ws://h/"}, code: 2, stderr: "not a RIFF"},
		"no CA":               {args: []string{"--ca-file", play, "ws://h/"}, code: 2, stderr: "no PEM certificate"},
		"no recording":        {args: []string{"--record", filepath.Join(dir, "none", "x"), "ws://h/"}, code: 1, stderr: "create --record"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runCommand(t, tt.stdin, tt.args...)
			if got.code != tt.code || !strings.Contains(got.out, tt.out) || !strings.Contains(got.stderr, tt.stderr) {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", got.code, tt.code, got.out, got.stderr)
			}
			if strings.Contains(got.out+got.stderr, "token=") {
				t.Errorf("the token shows:\n%s%s", got.out, got.stderr)
			}
		})
	}
}

// strip takes silence away.
func strip(ulaw []byte) []byte { return bytes.ReplaceAll(ulaw, []byte{0xFF}, nil) }

func TestTLS(t *testing.T) {
	srv := listen(t, echoServer(t))
	srv.StartTLS()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	url := "wss" + strings.TrimPrefix(srv.URL, "https") + "/?token=secret"
	for name, tt := range map[string]struct {
		args    []string
		outcome string
	}{
		"own CA":       {[]string{"--ca-file", ca, "--hangup-after", "50ms"}, "hangup"},
		"insecure":     {[]string{"--insecure", "--drop-after", "50ms"}, "dropped"},
		"system roots": {nil, "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runCommand(t, "", append(tt.args, "--json", "--expect", tt.outcome, url)...)
			if got.code != exitDone {
				t.Errorf("exit %d\n%s%s", got.code, got.out, got.stderr)
			}
		})
	}
}

func TestMillis(t *testing.T) {
	raw, err := json.Marshal(map[string]Millis{"a": Millis(1234567 * time.Nanosecond)})
	if err != nil || string(raw) != `{"a":1.235}` {
		t.Errorf("%s, %v", raw, err)
	}
	var back map[string]Millis
	if err := json.Unmarshal([]byte(`{"a":1.5}`), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]Millis{"a": Millis(1500 * time.Microsecond)}, back); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"a":"x"}`), &back); err == nil {
		t.Error("a string passed for milliseconds")
	}
}
