package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/patchbay/patchbay/core/host"
)

// registerMetrics adds what is read off the parts at each scrape.
func (g *Gateway) registerMetrics(reg *prometheus.Registry) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help}, value))
	}
	gauge("calls", "Running calls.", func() float64 { return float64(g.router.InUse()) })
	gauge("seats_in_use", "Places reserved of limits.max_calls.", func() float64 { return float64(g.gate.InUse()) })
	gauge("records_waiting", "Call records waiting in memory for the disk.", func() float64 { return float64(g.records.Stats().Waiting) })
	counter("records_written_total", "Call records written.", func() float64 { return float64(g.records.Stats().Written) })
	counter("records_lost_total", "Call records lost.", func() float64 { return float64(g.records.Stats().Lost) })
	reg.MustRegister(&pluginCollector{g})
}

// pluginCollector reports core's side of each plugin.
type pluginCollector struct{ g *Gateway }

var (
	upDesc       = prometheus.NewDesc("patchbay_plugin_up", "1 while the plugin carries calls.", []string{"plugin"}, nil)
	restartsDesc = prometheus.NewDesc("patchbay_plugin_restarts_total", "Times the plugin was started again.", []string{"plugin"}, nil)
	recordsDesc  = prometheus.NewDesc("patchbay_media_records_total", "Media records from and to the plugin.", []string{"plugin", "direction"}, nil)
	droppedDesc  = prometheus.NewDesc("patchbay_media_dropped_total", "Media records dropped by core, by reason.", []string{"plugin", "reason"}, nil)
	heldDesc     = prometheus.NewDesc("patchbay_media_queue_bytes", "Bytes waiting to be sent to the plugin.", []string{"plugin"}, nil)
)

// Describe implements prometheus.Collector.
func (c *pluginCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, restartsDesc, recordsDesc, droppedDesc, heldDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *pluginCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.g.Plugins() {
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{s.Instance}, labels...)...)
		}
		up := 0.0
		if s.State == host.Running {
			up = 1
		}
		send(upDesc, prometheus.GaugeValue, up)
		send(restartsDesc, prometheus.CounterValue, float64(s.Restarts))
		m := s.Media
		if m == nil {
			continue
		}
		send(heldDesc, prometheus.GaugeValue, float64(m.Held))
		send(recordsDesc, prometheus.CounterValue, float64(m.Records), "from")
		send(recordsDesc, prometheus.CounterValue, float64(m.Queue.Records), "to")
		for reason, n := range map[string]uint64{
			"queue_full": m.Queue.DroppedFull, "queue_age": m.Queue.DroppedAge, "overflow": m.Queue.Overflows,
			"unknown_stream": m.Unknown, "truncated": m.Truncated, "malformed": m.Malformed,
		} {
			send(droppedDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
}
