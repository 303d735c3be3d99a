package router

import (
	"strings"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/sdk"
)

// maxTarget is the longest target handed to a platform, in characters.
const maxTarget = 255

// outcome turns the end of the egress leg into the ingress platform's result:
// the route's own outcomes first, then the built-in ones (design §1.2).
func outcome(route *config.Route, end *sdk.Ending, params map[string]string) sdk.Finish {
	f := sdk.Finish{Termination: end.Termination}
	headers := headerMap(end.Headers)
	for i := range route.Outcomes {
		o := &route.Outcomes[i]
		matched, value := holds(&o.When, end)
		if !matched {
			continue
		}
		values := config.Values{Parameters: params, Header: value, Headers: headers}
		f.Result = string(o.Result)
		f.Target = render(o.Target, values)
		for name, t := range o.Variables {
			if v := render(t, values); v != "" {
				if f.Variables == nil {
					f.Variables = map[string]string{}
				}
				f.Variables[name] = v
			}
		}
		return withTarget(f, route, end)
	}
	switch end.Reason {
	case sdk.ReasonTransfer:
		f.Result = sdk.ResultEscalate
	case sdk.ReasonHangup:
		f.Result = string(route.DefaultResult)
	case sdk.ReasonFailed, sdk.ReasonLost, sdk.ReasonUnknown:
		f.Result = sdk.ResultError
	default:
		f.Result = sdk.ResultError
	}
	return withTarget(f, route, end)
}

// withTarget fills in whom to escalate to: what the outcome said, else where
// the far side wants the call (its user part), else the route's default.
func withTarget(f sdk.Finish, route *config.Route, end *sdk.Ending) sdk.Finish {
	if f.Result != sdk.ResultEscalate {
		f.Target = ""
		return f
	}
	if f.Target == "" && end.Reason == sdk.ReasonTransfer {
		f.Target = end.Target
	}
	if f.Target = clean(f.Target); f.Target == "" || len([]rune(f.Target)) > maxTarget {
		f.Target = route.DefaultTarget
	}
	return f
}

// holds tells whether all keys of a condition hold, and the value of the
// header it names.
func holds(w *config.When, end *sdk.Ending) (bool, string) {
	if w.Reason != "" && w.Reason != end.Reason.String() {
		return false, ""
	}
	if w.Header == nil {
		return true, ""
	}
	for _, h := range end.Headers {
		if strings.EqualFold(h.Name, w.Header.Name) && (w.Header.Value == "" || strings.EqualFold(h.Value, w.Header.Value)) {
			return true, h.Value
		}
	}
	return false, ""
}

func headerMap(hs []sdk.Header) map[string]string {
	m := make(map[string]string, len(hs))
	for _, h := range hs {
		if key := strings.ToLower(h.Name); m[key] == "" {
			m[key] = h.Value
		}
	}
	return m
}

// render fills a template in; one that grows too long is as good as empty.
func render(t *config.Template, v config.Values) string {
	if t == nil {
		return ""
	}
	s, err := t.Render(v)
	if err != nil {
		return ""
	}
	return s
}

// clean takes out what no platform's field may hold.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s))
}
