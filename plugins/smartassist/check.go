package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"

	"github.com/patchbay/patchbay/sdk"
)

// certificateWarning is how long before its end a certificate is complained about.
const certificateWarning = 14 * 24 * time.Hour

// Check implements sdk.Checker.
func (p *provider) Check(ctx context.Context, connect bool) []sdk.CheckResult {
	p.mu.Lock()
	c, run := p.config, p.running
	p.mu.Unlock()
	if c == nil {
		return []sdk.CheckResult{{Subject: "configuration", Detail: "not configured yet"}}
	}
	k := &checker{config: c}
	s := k.sockets(ctx, p, run)
	k.ports(ctx, run)
	k.certificate()
	k.targets(ctx, s, connect)
	if run == nil && s != nil {
		if err := s.close(); err != nil {
			k.add("close", false, err.Error())
		}
	}
	return k.results
}

// checker gathers what Check finds.
type checker struct {
	config  *config
	results []sdk.CheckResult
}

func (k *checker) add(subject string, ok bool, detail string) {
	k.results = append(k.results, sdk.CheckResult{Subject: subject, OK: ok, Detail: detail})
}

// sockets checks the listening addresses, and returns a stack to talk with: the running one, or one of its own.
func (k *checker) sockets(ctx context.Context, p *provider, run *runtime) *stack {
	subject := "listen " + k.config.listen.String()
	if run != nil {
		k.add(subject, true, "open since the gateway started")
		return run.stack
	}
	refuse := func(s *stack, r *sip.Request, tx *sip.ServerTx) { s.answerRequest(r, tx, true) }
	s, err := openStack(ctx, k.config, p.logger(), refuse)
	if err == nil {
		k.add(subject, true, "free")
		return s
	}
	k.add(subject, false, err.Error()+"; if the gateway runs already this is it, else free the port or change listen")
	other := *k.config // talk to the targets from another port, so that one fault does not hide the others
	other.listen, other.tlsListen = netip.AddrPortFrom(k.config.listen.Addr(), 0), netip.AddrPort{}
	if s, err = openStack(ctx, &other, p.logger(), refuse); err != nil {
		return nil
	}
	return s
}

func (k *checker) ports(ctx context.Context, run *runtime) {
	subject := fmt.Sprintf("rtp_ports %d-%d", k.config.minPort, k.config.maxPort)
	if run != nil {
		k.add(subject, true, fmt.Sprintf("%d of %d pairs in use", run.pool.inUse(), len(run.pool.pairs)))
		return
	}
	pool := newPortPool(k.config.listen.Addr(), k.config.minPort, k.config.maxPort)
	s, err := pool.open(ctx)
	if err != nil {
		k.add(subject, false, err.Error())
		return
	}
	_, _ = s.rtp.Close(), s.rtcp.Close() // nothing was sent
	k.add(subject, true, fmt.Sprintf("room for %d calls; the firewall must let UDP in from the far side's media servers", len(pool.pairs)))
}

func (k *checker) certificate() {
	f := k.config.tls
	if f.CertFile == "" {
		return
	}
	subject := "certificate " + f.CertFile
	pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	if err != nil {
		k.add(subject, false, err.Error())
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		k.add(subject, false, err.Error())
		return
	}
	left := time.Until(leaf.NotAfter)
	switch {
	case left <= 0:
		k.add(subject, false, "expired on "+leaf.NotAfter.Format(time.DateOnly)+": renew it")
	case left < certificateWarning:
		k.add(subject, false, "expires on "+leaf.NotAfter.Format(time.DateOnly)+": renew it soon")
	default:
		k.add(subject, true, "valid until "+leaf.NotAfter.Format(time.DateOnly))
	}
}

func (k *checker) targets(ctx context.Context, s *stack, connect bool) {
	for _, t := range k.config.targets {
		addrs, err := resolve(ctx, t.host, k.config.listen.Addr().Is4())
		if err != nil {
			k.add("target "+t.String(), false, err.Error()+"; check the name and this host's DNS")
			continue
		}
		k.add("target "+t.String(), true, fmt.Sprintf("addresses %v", addrs))
		if !connect || s == nil {
			continue
		}
		s.peers.addTargets(addrs)
		for _, a := range addrs {
			dest := netip.AddrPortFrom(a, uint16(t.port))
			k.ping(ctx, s, t, dest)
		}
	}
}

// ping asks a target for its options, RFC 3261 §11. Any response shows that it is there and takes us for its peer.
func (k *checker) ping(ctx context.Context, s *stack, t target, dest netip.AddrPort) {
	subject := fmt.Sprintf("OPTIONS %s at %s", t, dest)
	ctx, cancel := context.WithTimeout(ctx, firstResponse)
	defer cancel()
	res, err := s.options(ctx, k.config, t, dest)
	switch {
	case err != nil:
		k.add(subject, false, err.Error()+"; is the address right, the firewall open, and our address allow-listed on the far side?")
	case res.StatusCode == 403 || needsCredentials(res):
		k.add(subject, true, fmt.Sprintf("answers %d: it is there, but may not take calls from this address", res.StatusCode))
	default:
		k.add(subject, true, fmt.Sprintf("answers %d %.80q", res.StatusCode, res.Reason))
	}
}

// options sends OPTIONS out of any dialog.
func (s *stack) options(ctx context.Context, c *config, t target, dest netip.AddrPort) (*sip.Response, error) {
	own := c.advertise
	if !own.IsValid() {
		own = s.udp.Addr()
	}
	if own.IsUnspecified() {
		var err error
		if own, err = routeAddress(ctx, dest); err != nil {
			return nil, err
		}
	}
	d := &dialog{stack: s, transport: t.transport, dest: dest, advertise: own}
	uri := sip.Uri{Scheme: "sip", Host: t.host, Port: t.port}
	r := sip.NewRequest(sip.OPTIONS, uri)
	r.AppendHeader(d.via())
	from := &sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: "gw", Host: own.String()}}
	from.Params.Add("tag", sip.GenerateTagN(16))
	r.AppendHeader(from)
	r.AppendHeader(&sip.ToHeader{Address: uri})
	callID := sip.CallIDHeader(uuid.NewString())
	r.AppendHeader(&callID)
	r.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.OPTIONS})
	hops := sip.MaxForwardsHeader(70)
	r.AppendHeader(&hops)
	r.AppendHeader(sip.NewHeader("User-Agent", userAgent))
	r.SetBody(nil)
	d.address(r, dest)
	return s.agentFor(c, t).do(ctx, r)
}
