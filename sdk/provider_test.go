package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		p    Provider
		kind pluginv1.Kind
		caps []string
	}{
		{placer{basis: newBasis()}, pluginv1.Kind_KIND_EGRESS, []string{"dtmf"}},
		{newCaller(), pluginv1.Kind_KIND_INGRESS, []string{"dtmf"}},
		{able{placer{basis: newBasis()}}, pluginv1.Kind_KIND_EGRESS, []string{"dtmf", "url", "check", "metrics", "resume", "drain"}},
	} {
		t.Run(fmt.Sprintf("%T", tc.p), func(t *testing.T) {
			got, err := dial(t, tc.p).provider.Describe(t.Context(), &pluginv1.DescribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			want := &pluginv1.DescribeResponse{Name: "fake", Version: "1.2", Kind: tc.kind, Capabilities: tc.caps, ConfigSchema: `{"type":"object"}`}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	a := FieldError{Pointer: "/trunk/targets/0", Problem: "no SIP URI", Mend: "write sip:host"}
	b := FieldError{Pointer: "/port", Problem: "out of range", Mend: "1 to 65535"}
	pa := &pluginv1.FieldError{Pointer: a.Pointer, Problem: a.Problem, Mend: a.Mend}
	pb := &pluginv1.FieldError{Pointer: b.Pointer, Problem: b.Problem, Mend: b.Mend}
	for _, tc := range []struct {
		name string
		err  error
		want *pluginv1.ConfigureResponse
	}{
		{"right", nil, &pluginv1.ConfigureResponse{}},
		{"fields", FieldErrors{a, b}, &pluginv1.ConfigureResponse{Errors: []*pluginv1.FieldError{pa, pb}}},
		{"wrapped fields", fmt.Errorf("configure: %w", FieldErrors{b}), &pluginv1.ConfigureResponse{Errors: []*pluginv1.FieldError{pb}}},
		{"one field", a, &pluginv1.ConfigureResponse{Errors: []*pluginv1.FieldError{pa}}},
		{"something else", errors.New("disk on fire"), &pluginv1.ConfigureResponse{Errors: []*pluginv1.FieldError{{Problem: "disk on fire"}}}},
		{"restart", fmt.Errorf("listen: %w", ErrRestartNeeded), &pluginv1.ConfigureResponse{RestartNeeded: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := placer{basis: newBasis()}
			var seen string
			p.configure = func(config json.RawMessage) error { seen = string(config); return tc.err }
			c := dial(t, p)
			got, err := c.provider.Configure(t.Context(), &pluginv1.ConfigureRequest{ConfigJson: []byte(`{"port":0}`)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if seen != `{"port":0}` {
				t.Errorf("configured with %s", seen)
			}
			if _, err = c.provider.Configure(t.Context(), &pluginv1.ConfigureRequest{}); err != nil || seen != "{}" {
				t.Errorf("no block is configured as %q, %v", seen, err)
			}
		})
	}
}

// able has all the optional interfaces.
type able struct{ placer }

func (able) Resume(context.Context, EgressLeg, []byte) Ending { return Ending{} }

func (able) Drain(context.Context) error { return nil }

func (able) Check(_ context.Context, connect bool) []CheckResult {
	return []CheckResult{{Subject: "peer", OK: connect, Detail: "d"}}
}

func (able) BuildURL(base string, p URLParts) (string, error) {
	if p.Number == "" {
		return "", errors.New("no number")
	}
	return base + "?n=" + p.Number, nil
}

func (able) ParseURL(url string) URLInfo {
	return URLInfo{URLParts: URLParts{Token: "t", Number: url, Mode: ModeBot}, Problems: []string{"p"}, Masked: "m"}
}

func (able) Metrics() []MetricFamily {
	return []MetricFamily{{
		Name: "fake_seconds", Help: "h", Type: Histogram,
		Metrics: []Metric{{Labels: map[string]string{"a": "b"}, Value: 1.5, Count: 2, Bucket: []Bucket{{0.5, 1}, {1, 2}}}},
	}}
}

func TestOptionalInterfaces(t *testing.T) {
	c := dial(t, able{placer{basis: newBasis()}})
	checked, err := c.provider.Check(t.Context(), &pluginv1.CheckRequest{Connect: true})
	if err != nil || len(checked.GetResults()) != 1 || !checked.GetResults()[0].GetOk() {
		t.Errorf("check: %v, %v", checked, err)
	}
	built, err := c.provider.BuildURL(t.Context(), &pluginv1.BuildURLRequest{Base: "wss://h", Number: "+1"})
	if err != nil || built.GetUrl() != "wss://h?n=+1" {
		t.Errorf("build: %v, %v", built, err)
	}
	if _, err = c.provider.BuildURL(t.Context(), &pluginv1.BuildURLRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("build without number: %v", err)
	}
	parsed, err := c.provider.ParseURL(t.Context(), &pluginv1.ParseURLRequest{Url: "u"})
	want := &pluginv1.ParseURLResponse{Token: "t", Number: "u", Mode: "bot", Problems: []string{"p"}, Masked: "m"}
	if diff := cmp.Diff(want, parsed, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("parse: %v (-want +got):\n%s", err, diff)
	}
	if _, err = c.provider.Drain(t.Context(), &pluginv1.DrainRequest{}); err != nil {
		t.Errorf("drain: %v", err)
	}
	bare := dial(t, placer{basis: newBasis()})
	if _, err = bare.provider.ParseURL(t.Context(), &pluginv1.ParseURLRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("parse by a provider without URL: %v", err)
	}
	if out, err := bare.provider.Check(t.Context(), &pluginv1.CheckRequest{}); err != nil || len(out.GetResults()) != 0 {
		t.Errorf("check by a provider without: %v, %v", out, err)
	}
}

func TestMetrics(t *testing.T) {
	placed := make(chan struct{})
	c := connect(t, able{placer{newBasis(), func(ctx context.Context, leg EgressLeg, to Placement) Ending {
		leg.Write(Frame{Payload: []byte("one")})
		close(placed)
		return untilHangup(ctx, leg, to)
	}}})
	c.place(t, "call-1", 1)
	await(t, placed, "Place")
	c.send(t, wire.Record{Stream: 99})
	if err := c.media.SendMsg(&wire.Batch{Packed: []byte("torn")}); err != nil {
		t.Fatal(err)
	}
	// The records above are read by the time the plugin has answered them.
	deadline := time.Now().Add(patience)
	for c.server.counters.truncated.Load() == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	out, err := c.provider.Metrics(t.Context(), &pluginv1.MetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range out.GetFamilies() {
		for _, m := range f.GetMetrics() {
			got[f.GetName()+"/"+m.GetLabels()["reason"]] = m.GetValue()
		}
	}
	want := map[string]float64{
		"patchbay_plugin_legs/": 1, "patchbay_plugin_media_records_total/": 1, "fake_seconds/": 1.5,
		"patchbay_plugin_media_dropped_total/queue_full": 0, "patchbay_plugin_media_dropped_total/queue_age": 0,
		"patchbay_plugin_media_dropped_total/overflow": 0, "patchbay_plugin_media_dropped_total/closed": 0,
		"patchbay_plugin_media_dropped_total/unknown_stream": 1, "patchbay_plugin_media_dropped_total/truncated": 1,
		"patchbay_plugin_media_dropped_total/malformed": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
