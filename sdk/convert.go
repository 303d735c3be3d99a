package sdk

import (
	"time"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// The Go names of this package and the proto's are converted here and nowhere
// else; the numbers of the enums agree.

// ToProto converts a termination for the wire.
func (t Termination) ToProto() *pluginv1.Termination {
	return &pluginv1.Termination{
		Who:    pluginv1.Who(t.Who),
		Reason: pluginv1.Reason(t.Reason),
		Q850:   uint32(max(t.Q850, 0)),
		Sip:    uint32(max(t.SIP, 0)),
		Detail: t.Detail,
	}
}

// TerminationFromProto converts a termination from the wire; values this
// version does not know become unknown.
func TerminationFromProto(p *pluginv1.Termination) Termination {
	t := Termination{Q850: int(p.GetQ850()), SIP: int(p.GetSip()), Detail: p.GetDetail()}
	if w := p.GetWho(); w > 0 && w <= pluginv1.Who_WHO_GATEWAY {
		t.Who = Who(w)
	}
	if r := p.GetReason(); r > 0 && r <= pluginv1.Reason_REASON_LOST {
		t.Reason = Reason(r)
	}
	return t
}

// HeadersToProto converts headers for the wire.
func HeadersToProto(hs []Header) []*pluginv1.Header {
	out := make([]*pluginv1.Header, len(hs))
	for i, h := range hs {
		out[i] = &pluginv1.Header{Name: h.Name, Value: h.Value}
	}
	return out
}

// HeadersFromProto converts headers from the wire.
func HeadersFromProto(hs []*pluginv1.Header) []Header {
	out := make([]Header, len(hs))
	for i, h := range hs {
		out[i] = Header{Name: h.GetName(), Value: h.GetValue()}
	}
	return out
}

// ToProto converts a stream for the wire under the id it has there.
func (s Stream) ToProto(id uint32) *pluginv1.Stream {
	return &pluginv1.Stream{
		Id:        id,
		Role:      pluginv1.Role(s.Role),
		Direction: pluginv1.Direction(s.Direction),
		Codec:     s.Codec,
		ClockRate: uint32(max(s.ClockRate, 0)),
		PtimeMs:   uint32(max(s.Ptime.Milliseconds(), 0)),
	}
}

// StreamFromProto converts a stream from the wire.
func StreamFromProto(p *pluginv1.Stream) Stream {
	return Stream{
		Role:      Role(p.GetRole()),
		Direction: Direction(p.GetDirection()),
		Codec:     p.GetCodec(),
		ClockRate: int(p.GetClockRate()),
		Ptime:     time.Duration(p.GetPtimeMs()) * time.Millisecond,
	}
}

// ToProto converts media figures for the wire.
func (s LegStats) ToProto() *pluginv1.LegStats {
	return &pluginv1.LegStats{
		FramesIn: s.FramesIn, FramesOut: s.FramesOut,
		Lost: s.Lost, Late: s.Late, Duplicates: s.Duplicates, Reordered: s.Reordered,
		Fills: s.Fills, Drops: s.Drops, DropsOut: s.DropsOut,
		JitterMs: s.JitterMS, RoundTripMs: s.RoundTripMS,
		DelayOut: &pluginv1.Delay{
			P50Ms: s.DelayOut.P50MS, P99Ms: s.DelayOut.P99MS,
			MaxMs: s.DelayOut.MaxMS, Count: s.DelayOut.Count,
		},
	}
}

// LegStatsFromProto converts media figures from the wire.
func LegStatsFromProto(p *pluginv1.LegStats) LegStats {
	d := p.GetDelayOut()
	return LegStats{
		FramesIn: p.GetFramesIn(), FramesOut: p.GetFramesOut(),
		Lost: p.GetLost(), Late: p.GetLate(), Duplicates: p.GetDuplicates(), Reordered: p.GetReordered(),
		Fills: p.GetFills(), Drops: p.GetDrops(), DropsOut: p.GetDropsOut(),
		JitterMS: p.GetJitterMs(), RoundTripMS: p.GetRoundTripMs(),
		DelayOut: Delay{P50MS: d.GetP50Ms(), P99MS: d.GetP99Ms(), MaxMS: d.GetMaxMs(), Count: d.GetCount()},
	}
}

func (c Credential) toProto() *pluginv1.Credential {
	switch {
	case c.HMAC != nil:
		return &pluginv1.Credential{Kind: &pluginv1.Credential_Hmac{Hmac: &pluginv1.Hmac{
			Scheme: c.HMAC.Scheme, KeyId: c.HMAC.KeyID, Signed: c.HMAC.Signed, Signature: c.HMAC.Signature,
		}}}
	case c.Peer != "":
		return &pluginv1.Credential{Kind: &pluginv1.Credential_Peer{Peer: &pluginv1.Peer{Address: c.Peer}}}
	default:
		return &pluginv1.Credential{Kind: &pluginv1.Credential_Jwt{Jwt: c.JWT}}
	}
}

func metricsToProto(families []MetricFamily) []*pluginv1.MetricFamily {
	out := make([]*pluginv1.MetricFamily, len(families))
	for i, f := range families {
		pf := &pluginv1.MetricFamily{Name: f.Name, Help: f.Help, Type: pluginv1.MetricType(f.Type)}
		for _, m := range f.Metrics {
			pm := &pluginv1.Metric{Labels: m.Labels, Value: m.Value, Count: m.Count}
			for _, b := range m.Bucket {
				pm.Buckets = append(pm.Buckets, &pluginv1.Bucket{UpperBound: b.UpperBound, CumulativeCount: b.CumulativeCount})
			}
			pf.Metrics = append(pf.Metrics, pm)
		}
		out[i] = pf
	}
	return out
}
