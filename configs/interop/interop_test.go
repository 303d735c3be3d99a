//go:build interop

// Package interop places calls through the real gateway to SIP peers that others have written, with recordings of
// people speaking, and compares what arrived. `make interop` installs the peers and the recordings from Debian.
package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/configs/harness"
)

// number is the bot's.
const number = "+17345550100"

// binaries are the programs under test.
var binaries *harness.Binaries

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	var err error
	if binaries, err = harness.Find(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := binaries.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// configuration is a gateway whose trunk is the peer. The stream URL's address is put in once it is known.
const configuration = `
node: {name: interop, public_url: "ws://127.0.0.1:1"}
admin: {listen: "127.0.0.1:0"}
plugin_dir: %q
records: {path: records.jsonl}
plugins:
  talkdesk:
    config: {listen: "127.0.0.1:0"}
  smartassist:
    config:
      listen: 127.0.0.1:0
      rtp_ports: %d-%d
      trunk: {targets: ["sip:%s"]}
apps:
  - name: interop
    app_id: cs-interop
    secrets: ["a-secret-of-this-test-and-nothing-else"]
    bots: [st-interop]
    accounts: [interop-account]
    numbers: ["+1734*"]
routes:
  - from: talkdesk
    to: smartassist
    outcomes:
      - when: {header: {name: X-Queue-Name}}
        result: escalate
        target: "{{.header}}"
    default_result: ok
`

// gateway is a running gateway and how to call it.
type gateway struct {
	*harness.Gateway
	stream string // the URL
}

func startGateway(ctx context.Context, t *testing.T, peer netAddress) *gateway {
	t.Helper()
	dir, rtp := t.TempDir(), freePorts(ctx, t, 20)
	config := fmt.Sprintf(configuration, binaries.PluginDir(), rtp, rtp+19, peer)
	g, err := harness.StartGateway(ctx, ctx, binaries, config, harness.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Signal(os.Kill); err != nil {
			t.Error(err)
		}
		<-g.Done()
		logOutput(t, "the gateway", g.Process)
	})
	address, err := g.Address(ctx, "talkdesk", "stream")
	if err != nil {
		t.Fatal(err)
	}
	made, err := binaries.Run(ctx, "url", "new", "--config", filepath.Join(dir, "patchbay.yaml"), "--app", "interop",
		"--number", number, "--bot", "st-interop", "--account", "interop-account", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(made, &answer); err != nil {
		t.Fatal(err)
	}
	stream, err := url.Parse(answer.URL)
	if err != nil {
		t.Fatal(err)
	}
	stream.Host = address
	return &gateway{Gateway: g, stream: stream.String()}
}

// finish drains the gateway, which must end cleanly, and returns the record of its one call.
func (g *gateway) finish(ctx context.Context, t *testing.T) record {
	t.Helper()
	if err := g.Drain(ctx); err != nil {
		t.Error(err)
	}
	all, err := harness.Records[record](ctx, g.Gateway, "records.jsonl", 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d call records: %+v", len(all), all)
	}
	return all[0]
}

// direction is what the tests look at of one way in a call record.
type direction struct {
	Frames     int            `json:"frames"`
	Lost       int            `json:"lost"`
	Late       int            `json:"late"`
	Duplicates int            `json:"duplicates"`
	Fills      int            `json:"fills"`
	Drops      map[string]int `json:"drops"`
}

// record is what the tests look at of a call record.
type record struct {
	Offered   time.Time `json:"offered"`
	Answered  time.Time `json:"answered"`
	TalkMS    int       `json:"talk_ms"`
	Who       string    `json:"who"`
	Reason    string    `json:"reason"`
	Result    string    `json:"result"`
	Target    string    `json:"target"`
	ToEgress  direction `json:"to_egress"`
	ToIngress direction `json:"to_ingress"`
}

// report is what the tests look at of what the platform's simulator says.
type report struct {
	Outcome    string            `json:"outcome"`
	Sent       int               `json:"frames_sent"`
	SendLate   float64           `json:"send_late_max_ms"` // by how much it was itself late at worst
	Received   int               `json:"frames_received"`
	Underruns  int               `json:"underruns"`
	Violations []json.RawMessage `json:"violations"`
}

// call places a call as the platform does: the caller says what is in the file play. It returns the platform's report
// and what the caller heard.
func (g *gateway) call(ctx context.Context, t *testing.T, play string, flags ...string) (said report, heard []byte) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "heard.wav")
	args := append([]string{"--play", play, "--record", record}, flags...)
	sim, err := binaries.Sim(ctx, "talkdesk", append(args, g.stream)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { logOutput(t, "the platform", sim) })
	if err := sim.Wait(ctx); err != nil {
		t.Fatalf("the call: %v", err)
	}
	if err := json.Unmarshal(sim.Stdout(), &said); err != nil {
		t.Fatalf("read the platform's report: %v", err)
	}
	if heard, err = harness.ReadULaw(record); err != nil {
		t.Fatal(err)
	}
	return said, heard
}
