package main

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

// renewBefore is how early an expiring certificate is worth a word.
const renewBefore = 14 * 24 * time.Hour

// Check implements sdk.Checker. There is no far side to talk to: the platform
// connects to us.
func (p *provider) Check(ctx context.Context, _ bool) []sdk.CheckResult {
	set := p.settings.Load()
	if set == nil {
		return []sdk.CheckResult{{Subject: "configuration", Detail: "there is none yet: configure the plugin first"}}
	}
	out := []sdk.CheckResult{p.checkPort(ctx, set)}
	if set.tls.CertFile != "" {
		out = append(out, checkCertificate(set.tls, time.Now()))
	}
	return out
}

func (p *provider) checkPort(ctx context.Context, set *settings) sdk.CheckResult {
	r := sdk.CheckResult{Subject: "listen " + set.listen}
	if s := p.running(); s != nil {
		r.OK, r.Detail = true, "listening on "+s.listener.Addr().String()
		return r
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", set.listen)
	if err != nil {
		r.Detail = err.Error() + ": stop what listens there, or change listen"
		return r
	}
	if err := l.Close(); err != nil {
		r.Detail = "close the test listener: " + err.Error()
		return r
	}
	r.OK, r.Detail = true, "the port is free"
	return r
}

func checkCertificate(files tlsFiles, now time.Time) sdk.CheckResult {
	r := sdk.CheckResult{Subject: "certificate " + files.CertFile}
	pair, err := readPair(files)
	if err != nil {
		r.Detail = err.Error() + ": name PEM files of a chain and its key"
		return r
	}
	leaf := pair.Leaf
	until := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.After(leaf.NotAfter):
		r.Detail = "expired on " + until + ": renew it"
	case now.Before(leaf.NotBefore):
		r.Detail = "is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339) + ": check the clock"
	case len(pair.Certificate) == 1 && !selfSigned(leaf):
		r.OK, r.Detail = true, "valid until "+until+", but the file holds no intermediate certificate: the platform may not trust it"
	case leaf.NotAfter.Sub(now) < renewBefore:
		r.OK, r.Detail = true, "expires soon, on "+until+": renew it"
	default:
		r.OK, r.Detail = true, "valid until "+until
	}
	return r
}

func selfSigned(c *x509.Certificate) bool { return c.CheckSignatureFrom(c) == nil }
