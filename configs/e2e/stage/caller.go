package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"

	"github.com/patchbay/patchbay/configs/harness"
)

// CallerReport is what the simulated platform says about its call; times are milliseconds since start was sent.
type CallerReport struct {
	UpgradeStatus int    `json:"upgrade_status"`
	RetryAfter    string `json:"retry_after"`
	Refusal       string `json:"refusal"`
	Outcome       string `json:"outcome"`
	EndedBy       string `json:"ended_by"`
	Stop          *struct {
		Command   string  `json:"command"`
		RingGroup string  `json:"ring_group"`
		AtMS      float64 `json:"at_ms"`
	} `json:"stop"`
	CloseCode      int     `json:"close_code"`
	DurationMS     float64 `json:"duration_ms"`
	FramesSent     int     `json:"frames_sent"`
	SendLateMS     float64 `json:"send_late_max_ms"`
	DTMFSent       string  `json:"dtmf_sent"`
	FramesReceived int     `json:"frames_received"`
	IntervalP50MS  float64 `json:"interval_p50_ms"`
	IntervalP99MS  float64 `json:"interval_p99_ms"`
	Underruns      int     `json:"underruns"`
	AfterStop      int     `json:"after_stop"`
	ViolationCount int     `json:"violation_count"`
	Violations     []struct {
		Rule   string `json:"rule"`
		Detail string `json:"detail"`
	} `json:"violations"`
}

// Caller is a running simulated platform with one caller.
type Caller struct{ *harness.Process }

// StartCaller starts `talkdesk sim` with args for url.
func StartCaller(ctx context.Context, b *harness.Binaries, url string, args ...string) (*Caller, error) {
	p, err := b.Sim(ctx, "talkdesk", append(args, url)...)
	if err != nil {
		return nil, err
	}
	return &Caller{p}, nil
}

// Report waits for the call's end and returns its report. A call that the simulator itself calls failed is no error.
func (c *Caller) Report(ctx context.Context) (*CallerReport, error) {
	err := c.Wait(ctx)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	var r CallerReport
	if jsonErr := json.Unmarshal(c.Stdout(), &r); jsonErr != nil {
		return nil, errors.Join(fmt.Errorf("read the caller's report: %w", jsonErr), err)
	}
	return &r, nil
}

// Call runs a whole call.
func Call(ctx context.Context, b *harness.Binaries, url string, args ...string) (*CallerReport, error) {
	c, err := StartCaller(ctx, b, url, args...)
	if err != nil {
		return nil, err
	}
	return c.Report(ctx)
}
