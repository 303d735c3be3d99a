package admin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// gatherTimeout bounds how long one scrape waits for a plugin.
const gatherTimeout = 2 * time.Second

// Source is a plugin that has metrics.
type Source struct {
	Instance string
	Metrics  func(context.Context) ([]*pluginv1.MetricFamily, error)
}

// Gatherer merges core's own metrics with the plugins', each of which gets a
// `plugin` label. A plugin that does not answer is left out.
func Gatherer(own prometheus.Gatherer, sources func() []Source, missed func(instance string)) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := own.Gather()
		if err != nil {
			return nil, err
		}
		merged := make(map[string]*dto.MetricFamily, len(families))
		taken := map[string]bool{}
		for _, f := range families {
			merged[f.GetName()] = f
			for _, name := range series(f.GetName(), f.GetType()) {
				taken[name] = true
			}
		}
		for _, a := range ask(sources()) {
			if a.err != nil {
				missed(a.instance)
				continue
			}
			for _, f := range a.families {
				add(merged, taken, a.instance, f)
			}
		}
		out := make([]*dto.MetricFamily, 0, len(merged))
		for _, name := range slices.Sorted(maps.Keys(merged)) {
			out = append(out, merged[name])
		}
		return out, nil
	})
}

type answer struct {
	instance string
	families []*pluginv1.MetricFamily
	err      error
}

func ask(sources []Source) []answer {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTimeout)
	defer cancel()
	answers := make([]answer, len(sources))
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			families, err := s.Metrics(ctx)
			answers[i] = answer{s.Instance, families, err}
		})
	}
	wg.Wait()
	return answers
}

// series are the names a family has in the text format.
func series(name string, kind dto.MetricType) []string {
	if kind == dto.MetricType_HISTOGRAM || kind == dto.MetricType_SUMMARY {
		return []string{name, name + "_bucket", name + "_sum", name + "_count"}
	}
	return []string{name}
}

// add merges one family of a plugin; one that is ill-named, clashes with core's
// own or has another type than a plugin before it is left out.
func add(merged map[string]*dto.MetricFamily, taken map[string]bool, instance string, f *pluginv1.MetricFamily) {
	kind, ok := map[pluginv1.MetricType]dto.MetricType{
		pluginv1.MetricType_METRIC_TYPE_COUNTER:   dto.MetricType_COUNTER,
		pluginv1.MetricType_METRIC_TYPE_GAUGE:     dto.MetricType_GAUGE,
		pluginv1.MetricType_METRIC_TYPE_HISTOGRAM: dto.MetricType_HISTOGRAM,
	}[f.GetType()]
	if !ok || !model.LegacyValidation.IsValidMetricName(f.GetName()) {
		return
	}
	if slices.ContainsFunc(series(f.GetName(), kind), func(name string) bool { return taken[name] }) {
		return
	}
	into := merged[f.GetName()]
	if into == nil {
		into = &dto.MetricFamily{Name: new(f.GetName()), Help: new(f.GetHelp()), Type: kind.Enum()}
	}
	if into.GetType() != kind {
		return
	}
	for _, m := range f.GetMetrics() {
		if metric := convert(kind, instance, m); metric != nil {
			into.Metric = append(into.Metric, metric)
		}
	}
	if len(into.GetMetric()) > 0 { // the text format has no empty family
		merged[f.GetName()] = into
	}
}

func convert(kind dto.MetricType, instance string, m *pluginv1.Metric) *dto.Metric {
	out := &dto.Metric{Label: []*dto.LabelPair{{Name: new("plugin"), Value: new(instance)}}}
	for _, name := range slices.Sorted(maps.Keys(m.GetLabels())) {
		// "__name__" would rename the series, "le" is the buckets' own.
		if name == "plugin" || name == "le" || strings.HasPrefix(name, "__") || !model.LegacyValidation.IsValidLabelName(name) {
			return nil
		}
		out.Label = append(out.Label, &dto.LabelPair{Name: new(name), Value: new(m.GetLabels()[name])})
	}
	slices.SortFunc(out.Label, func(a, b *dto.LabelPair) int {
		if a.GetName() < b.GetName() {
			return -1
		}
		return 1
	})
	switch kind {
	case dto.MetricType_COUNTER:
		out.Counter = &dto.Counter{Value: new(m.GetValue())}
	case dto.MetricType_GAUGE:
		out.Gauge = &dto.Gauge{Value: new(m.GetValue())}
	default:
		h := &dto.Histogram{SampleSum: new(m.GetValue()), SampleCount: new(m.GetCount())}
		for _, b := range m.GetBuckets() {
			h.Bucket = append(h.Bucket, &dto.Bucket{
				UpperBound: new(b.GetUpperBound()), CumulativeCount: new(b.GetCumulativeCount()),
			})
		}
		out.Histogram = h
	}
	return out
}
