package main

import (
	"maps"
	"strconv"
	"sync"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/media/latency"
)

// totals are the figures of all calls since Open; those under way are added when asked for.
type totals struct {
	mu      sync.Mutex
	open    map[*session]struct{}
	media   sdk.LegStats
	delay   latency.Snapshot
	endings map[[2]string]uint64 // by who and reason
}

func (t *totals) begin(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open, t.endings, t.media.Drops = map[*session]struct{}{}, map[[2]string]uint64{}, map[string]uint64{}
	}
	t.open[s] = struct{}{}
}

func (t *totals) finish(s *session, e sdk.Ending) {
	delay := s.send.delay.Snapshot()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, s)
	t.endings[[2]string{e.Who.String(), e.Reason.String()}]++
	addStats(&t.media, e.Stats)
	t.delay.Merge(&delay)
}

func addStats(sum *sdk.LegStats, s sdk.LegStats) {
	sum.FramesIn += s.FramesIn
	sum.FramesOut += s.FramesOut
	sum.Lost += s.Lost
	sum.Late += s.Late
	sum.Duplicates += s.Duplicates
	sum.Reordered += s.Reordered
	sum.Fills += s.Fills
	for reason, n := range s.DropsOut {
		sum.Drops[reason] += n
	}
	for reason, n := range s.Drops {
		sum.Drops[reason] += n
	}
}

// snapshot is the sum over ended and running calls.
func (t *totals) snapshot() (media sdk.LegStats, delay latency.Snapshot, calls int, endings map[[2]string]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	media.Drops, endings = map[string]uint64{}, map[[2]string]uint64{}
	addStats(&media, t.media)
	delay = t.delay
	for s := range t.open {
		addStats(&media, s.stats())
		d := s.send.delay.Snapshot()
		delay.Merge(&d)
	}
	maps.Copy(endings, t.endings)
	return media, delay, len(t.open), endings
}

// Metrics implements sdk.Measured.
func (p *provider) Metrics() []sdk.MetricFamily {
	p.mu.Lock()
	run, c := p.running, p.config
	p.mu.Unlock()
	if run == nil {
		return nil
	}
	media, delay, calls, endings := run.totals.snapshot()
	s := run.stack
	out := []sdk.MetricFamily{
		gauge("patchbay_sip_calls", "Calls placed and not ended.", float64(calls)),
		gauge("patchbay_sip_dialogs", "SIP dialogs and attempts under way.", float64(s.dialogs.len())),
		gauge("patchbay_sip_targets", "Trunk targets configured.", float64(len(c.targets))),
		gauge("patchbay_sip_targets_failing", "Trunk targets that failed in the last 30 seconds.", float64(run.health.failing())),
		gauge("patchbay_rtp_port_pairs_used", "RTP port pairs in use.", float64(run.pool.inUse())),
		counter("patchbay_sip_strangers_total", "Datagrams and connections from addresses that are no peer's, dropped.", s.peers.strangers.Load()),
		counter("patchbay_sip_unreadable_total", "Messages of peers that could not be read or answered.", s.counts.unparsed.Load()),
		counter("patchbay_sip_unknown_dialogs_total", "Requests answered 481.", s.counts.unknownDialog.Load()),
		counter("patchbay_sip_headers_refused_total", "Headers left out of an INVITE.", s.counts.headersRefused.Load()),
		counter("patchbay_sip_forked_answers_total", "Second answers to one INVITE, hung up.", s.counts.forks.Load()),
		counter("patchbay_sip_crossed_answers_total", "Answers that crossed our CANCEL, hung up.", s.counts.crossed.Load()),
		counter("patchbay_rtp_frames_received_total", "Frames from the peer handed to core.", media.FramesIn),
		counter("patchbay_rtp_packets_sent_total", "RTP packets sent.", media.FramesOut),
		counter("patchbay_rtp_packets_lost_total", "RTP packets that never came.", media.Lost),
		counter("patchbay_rtp_packets_late_total", "RTP packets that came too late.", media.Late),
		counter("patchbay_rtp_packets_duplicate_total", "RTP packets that came twice.", media.Duplicates),
		counter("patchbay_rtp_packets_reordered_total", "RTP packets put back in order.", media.Reordered),
		counter("patchbay_rtp_frames_filled_total", "Frames of silence sent for want of audio.", media.Fills),
		gauge("patchbay_rtp_send_delay_p50_seconds", "Median of the time from a frame's first read to its sending.", delay.Quantile(0.5).Seconds()),
		gauge("patchbay_rtp_send_delay_p99_seconds", "99th percentile of the time from a frame's first read to its sending.", delay.Quantile(0.99).Seconds()),
	}
	out = append(out, labelled("patchbay_rtp_dropped_total", "Packets, frames and digits dropped.", "reason", media.Drops))
	ended := sdk.MetricFamily{Name: "patchbay_sip_calls_ended_total", Help: "Calls ended.", Type: sdk.Counter}
	for k, n := range endings {
		ended.Metrics = append(ended.Metrics, sdk.Metric{Labels: map[string]string{"who": k[0], "reason": k[1]}, Value: float64(n)})
	}
	return append(append(out, ended), s.counts.families()...)
}

// families are the counters that have labels.
func (c *sipCounts) families() []sdk.MetricFamily {
	c.mu.Lock()
	defer c.mu.Unlock()
	attempts := map[string]uint64{}
	for status, n := range c.attempts {
		name := "none"
		if status > 0 {
			name = strconv.Itoa(status)
		}
		attempts[name] = n
	}
	return []sdk.MetricFamily{
		labelled("patchbay_sip_requests_total", "Requests of peers.", "method", c.requests),
		labelled("patchbay_sip_attempts_total", "INVITEs by final status.", "status", attempts),
	}
}

func gauge(name, help string, v float64) sdk.MetricFamily {
	return sdk.MetricFamily{Name: name, Help: help, Type: sdk.Gauge, Metrics: []sdk.Metric{{Value: v}}}
}

func counter(name, help string, n uint64) sdk.MetricFamily {
	return sdk.MetricFamily{Name: name, Help: help, Type: sdk.Counter, Metrics: []sdk.Metric{{Value: float64(n)}}}
}

func labelled(name, help, label string, values map[string]uint64) sdk.MetricFamily {
	f := sdk.MetricFamily{Name: name, Help: help, Type: sdk.Counter}
	for value, n := range values {
		f.Metrics = append(f.Metrics, sdk.Metric{Labels: map[string]string{label: value}, Value: float64(n)})
	}
	return f
}
