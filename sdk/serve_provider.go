package sdk

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

// providerServer answers the unary calls.
type providerServer struct{ *server }

func (s *server) kind() pluginv1.Kind {
	switch s.provider.(type) {
	case Ingress:
		return pluginv1.Kind_KIND_INGRESS
	case Egress:
		return pluginv1.Kind_KIND_EGRESS
	}
	return pluginv1.Kind_KIND_UNSPECIFIED
}

// capabilities are what the provider says and what its methods show.
func (s *server) capabilities() []string {
	out := append([]string(nil), s.provider.Describe().Capabilities...)
	for _, c := range []struct {
		name string
		has  bool
	}{
		{"url", has[URLMaker](s.provider)},
		{"check", has[Checker](s.provider)},
		{"metrics", has[Measured](s.provider)},
		{"resume", has[Resumer](s.provider)},
		{"drain", has[Drainer](s.provider)},
	} {
		if c.has {
			out = append(out, c.name)
		}
	}
	return out
}

func has[T any](p Provider) bool { _, ok := p.(T); return ok }

func (s providerServer) Describe(context.Context, *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d := s.provider.Describe()
	return &pluginv1.DescribeResponse{
		Name: d.Name, Version: d.Version, Kind: s.kind(),
		Capabilities: s.capabilities(), ConfigSchema: d.ConfigSchema,
	}, nil
}

func (s providerServer) Configure(ctx context.Context, in *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	config := in.GetConfigJson()
	if len(config) == 0 {
		config = []byte("{}")
	}
	err := s.provider.Configure(ctx, config)
	var fields FieldErrors
	var field FieldError
	switch {
	case err == nil:
		return &pluginv1.ConfigureResponse{}, nil
	case errors.Is(err, ErrRestartNeeded):
		return &pluginv1.ConfigureResponse{RestartNeeded: true}, nil
	case errors.As(err, &fields):
	case errors.As(err, &field):
		fields = FieldErrors{field}
	default:
		fields = FieldErrors{{Problem: err.Error()}}
	}
	out := &pluginv1.ConfigureResponse{}
	for _, f := range fields {
		out.Errors = append(out.Errors, &pluginv1.FieldError{Pointer: f.Pointer, Problem: f.Problem, Mend: f.Mend})
	}
	return out, nil
}

func (s providerServer) Check(ctx context.Context, in *pluginv1.CheckRequest) (*pluginv1.CheckResponse, error) {
	c, ok := s.provider.(Checker)
	if !ok {
		return &pluginv1.CheckResponse{}, nil
	}
	out := &pluginv1.CheckResponse{}
	for _, r := range c.Check(ctx, in.GetConnect()) {
		out.Results = append(out.Results, &pluginv1.CheckResult{Subject: r.Subject, Ok: r.OK, Detail: r.Detail})
	}
	return out, nil
}

func (s providerServer) BuildURL(_ context.Context, in *pluginv1.BuildURLRequest) (*pluginv1.BuildURLResponse, error) {
	m, ok := s.provider.(URLMaker)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this provider has no URL")
	}
	u, err := m.BuildURL(in.GetBase(), URLParts{
		Token: in.GetToken(), Number: in.GetNumber(), Bot: in.GetBot(),
		Account: in.GetAccount(), Mode: in.GetMode(), Parameters: in.GetParameters(),
	})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &pluginv1.BuildURLResponse{Url: u}, nil
}

func (s providerServer) ParseURL(_ context.Context, in *pluginv1.ParseURLRequest) (*pluginv1.ParseURLResponse, error) {
	m, ok := s.provider.(URLMaker)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "this provider has no URL")
	}
	i := m.ParseURL(in.GetUrl())
	return &pluginv1.ParseURLResponse{
		Token: i.Token, Number: i.Number, Bot: i.Bot, Account: i.Account, Mode: i.Mode,
		Parameters: i.Parameters, Problems: i.Problems, Masked: i.Masked,
	}, nil
}

func (s providerServer) Metrics(context.Context, *pluginv1.MetricsRequest) (*pluginv1.MetricsResponse, error) {
	families := s.ownMetrics()
	if m, ok := s.provider.(Measured); ok {
		families = append(families, m.Metrics()...)
	}
	return &pluginv1.MetricsResponse{Families: metricsToProto(families)}, nil
}

// ownMetrics are what every Go plugin reports about its streams with core.
func (s *server) ownMetrics() []MetricFamily {
	q := s.conn.media.Stats()
	drop := func(reason string, n uint64) Metric {
		return Metric{Labels: map[string]string{"reason": reason}, Value: float64(n)}
	}
	return []MetricFamily{
		{
			Name: "patchbay_plugin_legs", Help: "Open legs.", Type: Gauge,
			Metrics: []Metric{{Value: float64(s.conn.open())}},
		},
		{
			Name: "patchbay_plugin_media_records_total", Help: "Records queued toward core.", Type: Counter,
			Metrics: []Metric{{Value: float64(q.Records)}},
		},
		{
			Name: "patchbay_plugin_media_dropped_total", Help: "Records dropped on the media stream, by reason.", Type: Counter,
			Metrics: []Metric{
				drop("queue_full", q.DroppedFull), drop("queue_age", q.DroppedAge), drop("overflow", q.Overflows),
				drop("closed", q.DroppedClose), drop("unknown_stream", s.counters.unknown.Load()),
				drop("truncated", s.counters.truncated.Load()), drop("malformed", s.counters.malformed.Load()),
			},
		},
	}
}

func (s providerServer) Drain(ctx context.Context, _ *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	if d, ok := s.provider.(Drainer); ok {
		if err := d.Drain(ctx); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &pluginv1.DrainResponse{Legs: uint32(s.conn.open())}, nil
}
