package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/patchbay/patchbay/core/admission/number"
)

// reservedHeaders carry a call's own signaling; a route must not write them.
// RFC 3261 §20, with the compact forms of §7.3.3.
const reservedHeaders = " accept allow authorization call-id contact content-disposition content-encoding content-length content-type cseq " +
	"event expires from max-forwards proxy-authorization proxy-require record-route refer-to replaces require route session-expires supported to via " +
	"b c e f i k l m o r s t u v x "

func (v *validator) route(p path, r *Route) {
	v.instance(p.with("from"), r.From, "name the ingress plugin instance calls come from")
	v.instance(p.with("to"), r.To, "name the egress plugin instance calls go to")
	if r.From != "" && r.From == r.To {
		v.value(p.with("to"), "is the same instance as from", "name the egress plugin instance")
	}
	for _, key := range slices.Sorted(maps.Keys(r.Match)) {
		v.match(p.with("match", key), key, r.Match[key])
	}
	v.headers(p.with("headers"), r.Headers)
	if r.DefaultResult == "" {
		v.missing(p.with("default_result"), "say what a plain hang-up by the bot means: escalate, where the bot hands over to a person that way; ok, where bots end calls themselves")
	} else {
		v.result(p.with("default_result"), r.DefaultResult)
	}
	if len(r.DefaultTarget) > maxTargetLength {
		v.value(p.with("default_target"), "is over 255 characters", "use a shorter one")
	}
	if r.DefaultTarget == "" && r.DefaultResult == ResultEscalate {
		v.missing(p.with("default_target"), "default_result: escalate needs somebody to escalate to, such as agents")
	}
	for i := range r.Outcomes {
		v.outcome(p.with("outcomes", i), &r.Outcomes[i], r.DefaultTarget)
	}
}

func (v *validator) instance(p path, name, mend string) {
	if name == "" {
		v.missing(p, mend)
		return
	}
	if _, known := v.cfg.Plugins[name]; known || v.isBroken(path{"plugins"}) {
		return
	}
	names := slices.Sorted(maps.Keys(v.cfg.Plugins))
	v.value(p, v.show(p, name)+" is not a plugin instance", didYouMeanInstance(name, names))
}

func didYouMeanInstance(name string, names []string) string {
	if len(names) == 0 {
		return "add it under plugins"
	}
	return didYouMean(name, names)
}

func (v *validator) match(p path, key, value string) {
	switch key {
	case "app":
		if _, known := v.cfg.App(value); known || v.anyUnder(path{"apps"}) {
			return
		}
		var names []string
		for i := range v.cfg.Apps {
			names = append(names, v.cfg.Apps[i].Name)
		}
		v.value(p, v.show(p, value)+" is not the name of an app", didYouMean(value, names))
	case "number":
		if _, err := number.ParsePattern(value); err != nil {
			v.value(p, v.show(p, value)+" "+err.Error(), `write a number such as "+17344321234", or a prefix and a star: "+1734*"`)
		}
	case "":
		v.key(p, "has an empty name", "name a parameter, or app, number, bot or account")
	}
}

func (v *validator) headers(p path, headers map[string]*Template) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lower := strings.ToLower(name)
		switch {
		case !isToken(name):
			v.key(p.with(name), "is not a header's name", "use letters, digits and dashes, such as X-ExternalCallId")
		case strings.Contains(reservedHeaders, " "+lower+" "):
			v.key(p.with(name), "carries the call's own signaling and cannot be set", "use a header of your own, such as X-"+name)
		case seen[lower] != "":
			v.key(p.with(name), "is the same header as "+seen[lower], "keep one of them")
		}
		seen[lower] = name
	}
}

// isToken reports whether s is a token, as a header's name must be (RFC 3261
// §25.1).
func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("-.!%*_+`'~", r)
	})
}

func (v *validator) result(p path, r Result) {
	v.oneOf(p, string(r), string(ResultOK), string(ResultError), string(ResultEscalate))
}

func (v *validator) outcome(p path, o *Outcome, defaultTarget string) {
	if o.When.Header == nil && o.When.Reason == "" {
		v.missing(p.with("when"), "say which ends are meant: header or reason; default_result is for all others")
	}
	if o.When.Reason != "" {
		v.oneOf(p.with("when", "reason"), o.When.Reason, "hangup", "transfer", "failed", "lost")
	}
	if h := o.When.Header; h != nil {
		name := p.with("when", "header", "name")
		switch {
		case h.Name == "":
			v.missing(name, "name the header, such as X-Queue-Name")
		case !isToken(h.Name):
			v.value(name, v.show(name, h.Name)+" is not a header's name", "use letters, digits and dashes")
		}
	}
	if o.Result == "" {
		v.missing(p.with("result"), "use ok, error or escalate")
		return
	}
	v.result(p.with("result"), o.Result)
	if o.Result == ResultEscalate && o.Target == nil && defaultTarget == "" && o.When.Reason != "transfer" {
		v.missing(p.with("target"), "say whom to escalate to, here or as the route's default_target")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Variables)) {
		if !isToken(name) {
			v.key(p.with("variables", name), "is not a name for a variable", "use letters, digits, - and _")
		}
	}
}
