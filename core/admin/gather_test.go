package admin

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

const (
	counter   = pluginv1.MetricType_METRIC_TYPE_COUNTER
	gauge     = pluginv1.MetricType_METRIC_TYPE_GAUGE
	histogram = pluginv1.MetricType_METRIC_TYPE_HISTOGRAM
)

func family(name string, kind pluginv1.MetricType, labels ...string) *pluginv1.MetricFamily {
	m := &pluginv1.Metric{Value: 1, Labels: map[string]string{}}
	for pair := range slices.Chunk(labels, 2) {
		m.Labels[pair[0]] = pair[1]
	}
	if kind == histogram {
		m.Count, m.Buckets = 1, []*pluginv1.Bucket{{UpperBound: 0.5, CumulativeCount: 1}}
	}
	return &pluginv1.MetricFamily{Name: name, Help: "Of a plugin.", Type: kind, Metrics: []*pluginv1.Metric{m}}
}

func source(instance string, families ...*pluginv1.MetricFamily) Source {
	return Source{instance, func(context.Context) ([]*pluginv1.MetricFamily, error) { return families, nil }}
}

// scrape is the text that Prometheus gets, without the comments.
func scrape(t *testing.T, sources ...Source) (samples, missed []string) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "patchbay_own_total", Help: "Core's."})
	talk := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "patchbay_talk_seconds", Help: "Core's.", Buckets: []float64{1}})
	reg.MustRegister(own, talk)
	families, err := Gatherer(reg, func() []Source { return sources }, func(i string) { missed = append(missed, i) }).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Errorf("%s: %v", f.GetName(), err)
		}
	}
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			samples = append(samples, strings.TrimSpace(line))
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "patchbay_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	return samples, missed
}

// own are core's samples, there whatever the plugins say.
func own() []string {
	return []string{
		"patchbay_own_total 0", `patchbay_talk_seconds_bucket{le="1"} 0`, `patchbay_talk_seconds_bucket{le="+Inf"} 0`,
		"patchbay_talk_seconds_sum 0", "patchbay_talk_seconds_count 0",
	}
}

func TestGathererMerges(t *testing.T) {
	got, missed := scrape(t,
		source("b", family("frames_total", counter, "zone", "z", "leg", "l"), family("wait_seconds", histogram)),
		source("a", family("frames_total", counter), family("open", gauge)),
		Source{"dead", func(context.Context) ([]*pluginv1.MetricFamily, error) { return nil, errors.New("down") }},
	)
	want := append([]string{
		`frames_total{leg="l",plugin="b",zone="z"} 1`, `frames_total{plugin="a"} 1`, `open{plugin="a"} 1`,
	}, own()...)
	want = append(want, `wait_seconds_bucket{plugin="b",le="0.5"} 1`, `wait_seconds_bucket{plugin="b",le="+Inf"} 1`, `wait_seconds_sum{plugin="b"} 1`, `wait_seconds_count{plugin="b"} 1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if !slices.Equal(missed, []string{"dead"}) {
		t.Errorf("missed %v", missed)
	}
}

// A plugin cannot put its figures in the place of core's, pass for another
// plugin, or break the page for all.
func TestGathererKeepsPluginsApart(t *testing.T) {
	for name, f := range map[string]*pluginv1.MetricFamily{
		"core's counter":          family("patchbay_own_total", counter),
		"core's in another type":  family("patchbay_own_total", gauge),
		"core's histogram":        family("patchbay_talk_seconds", histogram),
		"a series of core's":      family("patchbay_talk_seconds_count", counter),
		"core's by its sum":       family("patchbay_talk_seconds_sum", gauge),
		"core's by a bucket":      family("patchbay_talk_seconds_bucket", counter),
		"no name":                 family("", counter),
		"a bad name":              family("a b", counter),
		"a name that is a script": family("x 1\npatchbay_own_total", counter),
		"another's label":         family("x", counter, "plugin", "other"),
		"a renaming label":        family("x", counter, "__name__", "patchbay_own_total"),
		"a bad label":             family("x", counter, "a b", "c"),
		"a bucket's label":        family("x_seconds", histogram, "le", "0.1"),
		"no type":                 family("x", 0),
		"nothing in it":           {Name: "x", Type: counter},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := scrape(t, source("evil", f))
			if diff := cmp.Diff(own(), got); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
		})
	}
	got, _ := scrape(t, source("a", family("x", counter)), source("b", family("x", gauge)))
	if diff := cmp.Diff(append(own(), `x{plugin="a"} 1`), got); diff != "" {
		t.Errorf("two types (-want +got):\n%s", diff)
	}
}
