package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/patchbay/patchbay/sdk"
)

// TestMain makes the test's own executable the plugin it starts.
func TestMain(m *testing.M) {
	if os.Getenv("PATCHBAY_TEST_PLUGIN") != "" {
		sdk.Serve(fixture{os.Stderr})
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fixture is an egress plugin that does what its configuration asks for.
type fixture struct {
	stderr *os.File // the process's own: go-plugin replaces os.Stderr
}

type fixtureConfig struct {
	Refuse bool     `json:"refuse"`
	Stderr []string `json:"stderr"` // written as it stands
	Print  string   `json:"print"`
}

func (fixture) Describe() sdk.Description {
	return sdk.Description{Name: "fixture", Version: "1", ConfigSchema: `{"type":"object"}`}
}

func (x fixture) Configure(_ context.Context, config json.RawMessage) error {
	var c fixtureConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	if c.Refuse {
		return sdk.FieldErrors{{Pointer: "/refuse", Problem: "is true", Mend: "write false"}}
	}
	for _, line := range c.Stderr {
		fmt.Fprintln(x.stderr, line)
	}
	if c.Print != "" {
		fmt.Println(c.Print)
		fmt.Fprintln(os.Stderr, c.Print)
	}
	return nil
}

func (fixture) Open(context.Context) ([]sdk.Listener, error) {
	return []sdk.Listener{{Purpose: "test", Address: "127.0.0.1:9"}}, nil
}

func (fixture) Close(context.Context) error { return nil }

func (fixture) Place(ctx context.Context, leg sdk.EgressLeg, to sdk.Placement) sdk.Ending {
	if to.Destination == "+1999" {
		os.Exit(3)
	}
	leg.OnFrame(func(f *sdk.Frame) { leg.Write(*f) })
	leg.Answer(nil)
	<-ctx.Done()
	return sdk.Ending{Termination: sdk.HangupCause(ctx)}
}

func (fixture) Metrics() []sdk.MetricFamily {
	return []sdk.MetricFamily{{Name: "fixture_up", Type: sdk.Gauge, Metrics: []sdk.Metric{{Value: 1}}}}
}
