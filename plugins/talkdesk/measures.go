package main

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

// drop is the reason why a message or frame went no further.
type drop uint8

const (
	dropBeforeStart  drop = iota // media before start
	dropAfterEnd                 // media when the call is over
	dropTrack                    // a track that is not the caller's
	dropPayload                  // payload is no base64
	dropBacklog                  // more than 400 ms in one message; counted in frames
	dropSecondStart              // start on a stream that has one
	dropDigit                    // character in dtmf that is no digit
	dropNoDTMF                   // digit for the platform, which takes none
	dropComfortNoise             // the platform needs no frames in silence
	dropMonitor                  // frame toward a stream that only listens
	dropLateFrame                // frame toward the platform when the call is over
	dropSendFull                 // the platform reads too slowly: queue full
	dropSendOld                  // the platform reads too slowly: too old to play
	dropCount
)

// String is the reason's word in metrics and records.
func (d drop) String() string {
	return [dropCount]string{
		"before_start", "after_end", "track", "payload", "backlog", "second_start", "digit",
		"no_dtmf", "comfort_noise", "monitor", "late_frame", "send_full", "send_old",
	}[d]
}

// drops counts by reason.
type drops [dropCount]atomic.Uint64

// snapshot lists the reasons from first to before end that occurred. Those from
// dropNoDTMF on are of what was meant for the platform.
func (d *drops) snapshot(first, end drop) map[string]uint64 {
	var out map[string]uint64
	for i := first; i < end; i++ {
		if n := d[i].Load(); n > 0 {
			if out == nil {
				out = make(map[string]uint64)
			}
			out[i.String()] = n
		}
	}
	return out
}

// Statuses a request for a stream can be answered with.
var statuses = [...]int{101, 400, 401, 403, 404, 405, 426, 429, 500, 501, 503}

// measures are the plugin's figures.
type measures struct {
	in, out   [eventCount]atomic.Uint64
	malformed atomic.Uint64
	dropped   drops
	answers   [len(statuses)]atomic.Uint64
	stops     [3]atomic.Uint64 // by result: ok, error, escalate
	open      atomic.Int64
}

var results = [...]string{sdk.ResultOK, sdk.ResultError, sdk.ResultEscalate}

func (m *measures) answered(status int) {
	for i, s := range statuses {
		if s == status {
			m.answers[i].Add(1)
			return
		}
	}
	m.answered(500)
}

func (m *measures) stopped(result string) {
	for i, r := range results {
		if r == result {
			m.stops[i].Add(1)
			return
		}
	}
	m.stopped(sdk.ResultError)
}

// families are all figures in Prometheus' data model.
func (m *measures) families(expiry time.Time) []sdk.MetricFamily {
	messages := counter("talkdesk_messages_total", "Messages of the stream protocol by direction and event.")
	for e := range m.in {
		if event(e) != eventClear {
			messages.add(m.in[e].Load(), "direction", "in", "event", event(e).String())
		}
	}
	for _, e := range []event{eventMedia, eventMark, eventClear, eventStop} {
		messages.add(m.out[e].Load(), "direction", "out", "event", e.String())
	}
	malformed := counter("talkdesk_malformed_messages_total", "Messages that are no JSON object with an event.")
	malformed.add(m.malformed.Load())
	dropped := counter("talkdesk_drops_total", "Messages and frames that went no further, by reason.")
	for i := range m.dropped {
		dropped.add(m.dropped[i].Load(), "reason", drop(i).String())
	}
	requests := counter("talkdesk_requests_total", "Requests for a stream by the HTTP status of the answer; 101 is a stream.")
	for i, status := range statuses {
		requests.add(m.answers[i].Load(), "status", strconv.Itoa(status))
	}
	stops := counter("talkdesk_stops_total", "Stop messages sent, by result.")
	for i, result := range results {
		stops.add(m.stops[i].Load(), "result", result)
	}
	open := family{sdk.MetricFamily{Name: "talkdesk_streams", Help: "Streams open now.", Type: sdk.Gauge}}
	open.Metrics = []sdk.Metric{{Value: float64(m.open.Load())}}
	out := []sdk.MetricFamily{
		messages.MetricFamily, malformed.MetricFamily, dropped.MetricFamily,
		requests.MetricFamily, stops.MetricFamily, open.MetricFamily,
	}
	if !expiry.IsZero() {
		out = append(out, sdk.MetricFamily{
			Name: "talkdesk_certificate_expiry_timestamp_seconds", Help: "When the certificate in use expires.", Type: sdk.Gauge,
			Metrics: []sdk.Metric{{Value: float64(expiry.Unix())}},
		})
	}
	return out
}

type family struct{ sdk.MetricFamily }

func counter(name, help string) family {
	return family{sdk.MetricFamily{Name: name, Help: help, Type: sdk.Counter}}
}

func (f *family) add(value uint64, labels ...string) {
	m := sdk.Metric{Value: float64(value)}
	if len(labels) > 0 {
		m.Labels = make(map[string]string, len(labels)/2)
		for i := 0; i+1 < len(labels); i += 2 {
			m.Labels[labels[i]] = labels[i+1]
		}
	}
	f.Metrics = append(f.Metrics, m)
}
