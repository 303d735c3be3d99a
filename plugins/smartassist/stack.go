package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// agent is one sipgo user agent: a set of connections, their transactions, and how TLS is spoken on them.
type agent struct {
	ua *sipgo.UserAgent
	tx *sip.TransactionLayer
	tp *sip.TransportLayer
}

// stack owns the SIP sockets. UDP, TCP and all listeners belong to one agent; each name that TLS targets are verified
// against has its own, because a user agent has one TLS configuration, and its connections are found by address alone.
type stack struct {
	log     *slog.Logger
	peers   *peers
	dialogs *dialogTable
	counts  *sipCounts
	// request is called for each request from a known peer, in a goroutine of its own. It must respond.
	request func(*sip.Request, *sip.ServerTx)

	main *agent
	tls  map[string]*agent

	udp, tcp, tlsAddr netip.AddrPort // as bound; tlsAddr is not valid without tls_listen
	closers           []func() error
	wg                sync.WaitGroup // listeners

	life context.Context // of what runs in the background
	end  context.CancelFunc

	jobsMu  sync.Mutex
	closing bool
	jobs    sync.WaitGroup
}

// openStack binds the sockets of c.
func openStack(ctx context.Context, c *config, log *slog.Logger, request func(*stack, *sip.Request, *sip.ServerTx)) (*stack, error) {
	s := &stack{log: log, peers: newPeers(), dialogs: newDialogTable(), counts: newSIPCounts(), tls: map[string]*agent{}}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.request = func(r *sip.Request, tx *sip.ServerTx) { request(s, r, tx) }
	var err error
	if s.main, err = s.newAgent(nil); err != nil {
		return nil, err
	}
	err = s.listen(ctx, c)
	for _, t := range c.targets {
		if t.transport != transportTLS || err != nil {
			continue
		}
		name := verifiedName(c, t)
		if s.tls[name] != nil {
			continue
		}
		var conf *tls.Config
		if conf, err = clientTLS(c.tls, name); err == nil {
			s.tls[name], err = s.newAgent(conf)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	for _, t := range c.targets {
		addrs, err := resolve(ctx, t.host, s.v4())
		if err != nil { // it may be back when a call needs it
			log.Warn("a trunk target's name has no address now", "target", t.String(), "error", err)
		}
		s.peers.addTargets(addrs)
	}
	return s, nil
}

// verifiedName is the name the certificate of a target must hold: never taken from a Contact, which is an IP literal.
func verifiedName(c *config, t target) string {
	if c.tls.ServerName != "" {
		return c.tls.ServerName
	}
	return t.host
}

func (s *stack) v4() bool { return s.udp.Addr().Is4() }

// agentFor is the agent that talks to t.
func (s *stack) agentFor(c *config, t target) *agent {
	if t.transport == transportTLS {
		return s.tls[verifiedName(c, t)]
	}
	return s.main
}

func (s *stack) newAgent(conf *tls.Config) (*agent, error) {
	quiet := slog.New(sipgoLog{s.counts}) // sipgo logs whole messages of whoever sends them
	ua, err := sipgo.NewUA(
		sipgo.WithUserAgentHostname("invalid"), // we write every From ourselves
		sipgo.WithUserAgenTLSConfig(conf),
		sipgo.WithUserAgentTransportLayerOptions(
			sip.WithTransportLayerLogger(quiet), sip.WithTransportLayerReadFilter(s.peers.filter)),
		sipgo.WithUserAgentTransactionLayerOptions(
			sip.WithTransactionLayerLogger(quiet), sip.WithTransactionLayerUnhandledResponseHandler(s.strayResponse),
			sip.WithTransactionLayerTerminateOnConnClose()),
	)
	if err != nil {
		return nil, fmt.Errorf("make a sip user agent: %w", err)
	}
	a := &agent{ua: ua, tx: ua.TransactionLayer(), tp: ua.TransportLayer()}
	a.tx.OnRequest(func(r *sip.Request, tx *sip.ServerTx) {
		s.counts.request(r.Method)
		s.request(r, tx)
		tx.TerminateGracefully()
	})
	s.closers = append(s.closers, ua.Close)
	return a, nil
}

// bindBoth binds UDP and TCP on one port. A port of 0 lets the system choose:
// one that is free for UDP may be taken for TCP, then the next is tried.
func bindBoth(ctx context.Context, version string, at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	var lc net.ListenConfig
	for try := 0; ; try++ {
		udp, err := lc.ListenPacket(ctx, "udp"+version, at.String())
		if err != nil {
			return nil, nil, fmt.Errorf("listen for sip over udp: %w", err)
		}
		tcp, err := lc.Listen(ctx, "tcp"+version, udp.LocalAddr().String())
		if err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close()
		if at.Port() != 0 || try == 15 {
			return nil, nil, fmt.Errorf("listen for sip over tcp: %w", err)
		}
	}
}

// listen binds UDP and TCP on one port, and TLS.
func (s *stack) listen(ctx context.Context, c *config) error {
	v := "6"
	if c.listen.Addr().Is4() {
		v = "4"
	}
	var lc net.ListenConfig
	udp, tcp, err := bindBoth(ctx, v, c.listen)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, udp.Close, tcp.Close)
	s.udp = udp.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // a UDP socket has a UDP address
	s.tcp = s.udp
	var secure net.Listener
	if c.tlsListen.IsValid() {
		conf, err := serverTLS(c.tls)
		if err != nil {
			return err
		}
		raw, err := lc.Listen(ctx, "tcp", c.tlsListen.String())
		if err != nil {
			return fmt.Errorf("listen for sip over tls: %w", err)
		}
		s.closers = append(s.closers, raw.Close)
		s.tlsAddr = raw.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // a TCP listener has a TCP address
		secure = tls.NewListener(guardedListener{raw, s.peers}, conf)
	}
	// Known to the pool before the reader runs: the first request may come before it does.
	s.main.tp.Pool("udp").Add(s.udp.String(), &sip.UDPConnection{PacketConn: udp, PacketAddr: s.udp.String(), Listener: true})
	s.serve(func() error { return s.main.tp.ServeUDP(udp) })
	s.serve(func() error { return s.main.tp.ServeTCP(guardedListener{tcp, s.peers}) })
	if secure != nil {
		s.serve(func() error { return s.main.tp.ServeTLS(secure) })
	}
	return nil
}

func (s *stack) serve(run func() error) {
	s.wg.Go(func() {
		if err := run(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Error("a sip listener has stopped", "error", err)
		}
	})
}

// background runs what must be finished on the wire after a call is over. close waits for it.
func (s *stack) background(job func(context.Context)) {
	s.jobsMu.Lock()
	closing := s.closing
	if !closing {
		s.jobs.Go(func() { job(s.life) })
	}
	s.jobsMu.Unlock()
	if closing { // nothing can be sent any more; the job sees that its context has ended
		job(s.life)
	}
}

// settled waits until nothing runs in the background, or ctx ends.
func (s *stack) settled(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.jobs.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.end()
		<-done
	}
}

// close closes all sockets and waits for their readers.
func (s *stack) close() error {
	s.end()
	s.jobsMu.Lock()
	s.closing = true
	s.jobsMu.Unlock()
	s.jobs.Wait()
	var errs []error
	for _, v := range slices.Backward(s.closers) {
		if err := v(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.wg.Wait()
	return errors.Join(errs...)
}

// contact is the host and port a peer reaches us at over transport; local is the address of the connection used.
func (s *stack) contact(advertise netip.Addr, transport string, local net.Addr) (host string, port int) {
	host = advertise.String()
	switch {
	case transport != transportTLS:
		return host, int(s.udp.Port())
	case s.tlsAddr.IsValid():
		return host, int(s.tlsAddr.Port())
	}
	// Without a TLS listener the peer can reach us over this connection only: its own port names it (RFC 5923).
	if tcp, ok := local.(*net.TCPAddr); ok {
		return host, tcp.Port
	}
	return host, int(s.udp.Port())
}

func clientTLS(f fileTLS, name string) (*tls.Config, error) {
	conf := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read trunk.tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("trunk.tls.ca_file %s holds no certificate in PEM form", f.CAFile)
		}
	}
	if f.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load trunk.tls.cert_file and key_file: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func serverTLS(f fileTLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load trunk.tls.cert_file and key_file: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
