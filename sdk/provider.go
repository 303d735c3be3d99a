// Package sdk is what the author of a Patchbay provider plugin imports.
//
// A provider is one of two kinds. An [Ingress] brings calls in: it asks the
// [Gateway] to admit a call, offers its leg, and is told how the call came out.
// An [Egress] is asked to place a call and returns how it ended. Both read and
// write media as frames on a leg. [Serve] does everything else: the process
// handshake, the control stream, the media stream, and the end of the process.
//
// The smallest provider is in example_test.go.
package sdk

import (
	"context"
	"encoding/json"
)

// Description says what a provider is. It needs no configuration.
type Description struct {
	// Name of the provider: lower-case letters, digits, dashes.
	Name string
	// Version of the plugin, free form.
	Version string
	// ConfigSchema is the JSON Schema (2020-12) of the configuration block.
	ConfigSchema string
	// Capabilities beyond those Serve finds out itself by the optional
	// interfaces ("url", "check", "metrics", "resume"): e.g. "dtmf", "hold".
	Capabilities []string
}

// Provider is what both kinds have.
type Provider interface {
	// Describe may be called at any time.
	Describe() Description
	// Configure takes the configuration block as JSON. It opens no socket. All
	// bad fields come back at once as [FieldErrors]. It may be called again
	// while calls run: the new values then hold for new calls; a change that
	// cannot be made so is refused with [ErrRestartNeeded].
	Configure(ctx context.Context, config json.RawMessage) error
}

// Ingress brings calls in.
type Ingress interface {
	Provider
	// Open binds the provider's sockets and starts to take calls, for each of
	// which it asks gw. It returns once it listens, with what it listens on.
	Open(ctx context.Context, gw Gateway) ([]Listener, error)
	// Close stops listening, ends every leg politely (the platform is told),
	// and returns when all is closed or ctx ends.
	Close(ctx context.Context) error
}

// Egress places calls.
type Egress interface {
	Provider
	// Open binds the provider's sockets. It returns once calls can be placed.
	Open(ctx context.Context) ([]Listener, error)
	// Close ends every leg politely and returns when all is closed or ctx ends.
	Close(ctx context.Context) error
	// Place makes one call and stays until its leg has ended; it runs in a
	// goroutine of its own. When the gateway hangs up, ctx ends and
	// [HangupCause] tells why.
	Place(ctx context.Context, leg EgressLeg, to Placement) Ending
}

// Listener is an address a provider is bound to.
type Listener struct {
	Purpose string // e.g. "stream", "sip-udp"
	Address string // host:port
}

// The optional interfaces.
type (
	// Resumer takes up a leg whose process has died, from its last checkpoint.
	Resumer interface {
		Resume(ctx context.Context, leg EgressLeg, checkpoint []byte) Ending
	}
	// Drainer is told that no new work will come; running calls go on.
	Drainer interface {
		Drain(ctx context.Context) error
	}
	// Checker tells the operator whether the provider could work. With
	// connect it also talks to the far side, without placing a call.
	Checker interface {
		Check(ctx context.Context, connect bool) []CheckResult
	}
	// URLMaker builds and takes apart the address that is pasted into the
	// platform.
	URLMaker interface {
		BuildURL(base string, p URLParts) (string, error)
		ParseURL(url string) URLInfo
	}
	// Measured reports figures.
	Measured interface {
		Metrics() []MetricFamily
	}
)

// CheckResult is one thing that Check looked at.
type CheckResult struct {
	Subject string // e.g. "listen 127.0.0.1:8443"
	OK      bool
	Detail  string // what was found; when not OK, also what to do
}

// URLParts is what a stream URL carries.
type URLParts struct {
	Token      string
	Number     string // canonical: '+' and digits
	Bot        string
	Account    string
	Mode       string // ModeBot or ModeMonitor
	Parameters map[string]string
}

// URLInfo is a URL taken apart.
type URLInfo struct {
	URLParts
	Problems []string // in words; empty when nothing is wrong
	Masked   string   // the URL with its token hidden
}

// The modes a call can have.
const (
	ModeBot     = "bot"     // two-way, the bot talks with the caller
	ModeMonitor = "monitor" // one-way, both parties are listened to
)

// MetricFamily follows Prometheus' data model.
type MetricFamily struct {
	Name    string
	Help    string
	Type    MetricType
	Metrics []Metric
}

// MetricType is a family's kind.
type MetricType int

// The kinds of metric.
const (
	Counter MetricType = iota + 1
	Gauge
	Histogram
)

// Metric is one time series' current value.
type Metric struct {
	Labels map[string]string
	Value  float64  // counter, gauge; the sum of a histogram
	Count  uint64   // histogram
	Bucket []Bucket // histogram: cumulative, ascending
}

// Bucket is one bucket of a histogram.
type Bucket struct {
	UpperBound      float64
	CumulativeCount uint64
}
