package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/patchbay/patchbay/core/records"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// Metrics are the router's figures.
type Metrics struct {
	admitted        prometheus.Counter
	refusals        *prometheus.CounterVec
	results         *prometheus.CounterVec
	talk            prometheus.Histogram
	frames          *prometheus.CounterVec
	headersLeftOut  prometheus.Counter
	floods          prometheus.Counter
	strayMessages   prometheus.Counter
	unknownMessages prometheus.Counter
}

// NewMetrics registers the router's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		admitted:        counter("calls_admitted_total", "Calls let in."),
		refusals:        vec("calls_refused_total", "Calls not let in, by reason.", "reason"),
		results:         vec("calls_ended_total", "Calls ended, by result, who ended them and why.", "result", "who", "reason"),
		frames:          vec("frames_total", "Frames of sound carried by ended calls, by direction.", "direction"),
		headersLeftOut:  counter("headers_left_out_total", "Headers of a route left out because their value held a control character or was too long."),
		floods:          counter("media_floods_total", "Calls ended because a media queue was full of records that may not be dropped."),
		strayMessages:   counter("control_messages_stray_total", "Control messages of plugins for calls they have no part in."),
		unknownMessages: counter("control_messages_unknown_total", "Control messages of plugins of a kind this version does not know."),
		talk: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "patchbay", Name: "call_talk_seconds", Help: "Time from answer to end of answered calls.",
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600},
		}),
	}
	reg.MustRegister(m.talk)
	return m
}

func (m *Metrics) refused(reason pluginv1.RefusedReason) {
	m.refusals.WithLabelValues(sdk.RefusalReason(reason).String()).Inc()
}

func (m *Metrics) ended(r *records.Record) {
	m.results.WithLabelValues(r.Result, r.Who, r.Reason).Inc()
	m.frames.WithLabelValues("to_egress").Add(float64(r.ToEgress.Frames))
	m.frames.WithLabelValues("to_ingress").Add(float64(r.ToIngress.Frames))
	if r.Answered != nil {
		m.talk.Observe(float64(r.TalkMS) / 1000)
	}
}
