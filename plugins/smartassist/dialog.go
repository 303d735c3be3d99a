package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"

	"github.com/patchbay/patchbay/sdk"
)

// dialogUser is what a dialog needs of the call it belongs to. Its methods are called without the dialog's lock.
type dialogUser interface {
	// peerOffer takes an offer of the peer's and returns our answer.
	peerOffer(mediaDescription) []byte
	// ownOffer is our current description, for a request that asks for it.
	ownOffer() []byte
	// peerAnswer takes the answer to ownOffer.
	peerAnswer(mediaDescription)
	// digit was pressed, told by INFO.
	digit(digit byte, milliseconds int)
	// event is a line of the call's ladder.
	event(outbound bool, text string)
}

type dialogState int

const (
	dialogCalling   dialogState = iota // INVITE sent, no 2xx yet
	dialogConfirmed                    // 2xx came and was acknowledged
	dialogEnded                        // BYE sent or received, or the attempt failed
)

// dialogEnd is how the peer ended a dialog.
type dialogEnd struct {
	termination sdk.Termination
	headers     []sdk.Header
	target      string // of a transfer
	open        bool   // the dialog is not over yet: we send the BYE
}

// dialog is one attempt of one call, RFC 3261 §12: from the INVITE on, not from its answer, because a BYE may overtake
// the 2xx. A failed-over call has several, one after the other.
type dialog struct {
	stack *stack
	agent *agent
	auth  fileAuth
	user  dialogUser
	log   *slog.Logger

	callID, localTag string
	transport        string
	dest             netip.AddrPort // where the INVITE goes
	advertise        netip.Addr

	ended chan struct{} // closed when the peer has ended it, or refers us elsewhere
	end   dialogEnd     // valid once ended is closed

	mu           sync.Mutex
	state        dialogState
	invite       *sip.Request // as sent last
	seq          uint32       // CSeq of our last request
	remoteSeq    uint32       // CSeq of the peer's last offer
	remoteTag    string
	remoteTarget sip.Uri
	routes       []sip.Uri
	contact      *sip.ContactHeader
	acks         map[string]*sip.Request // by the tag of the answer
	release      func()                  // of the remote target's address
	finished     bool                    // ended is closed
	ackWait      chan *sip.Request       // ACK to a 2xx of ours
}

func newDialog(s *stack, a *agent, c *config, user dialogUser, t target, dest netip.AddrPort, advertise netip.Addr) *dialog {
	return &dialog{
		stack: s, agent: a, auth: c.auth, user: user, transport: t.transport, dest: dest, advertise: advertise,
		callID: uuid.NewString(), localTag: sip.GenerateTagN(16),
		ended: make(chan struct{}), acks: map[string]*sip.Request{}, release: func() {},
	}
}

// dialogTable finds dialogs by what a peer's request names: Call-ID and our tag.
type dialogTable struct {
	mu sync.Mutex
	m  map[string]*dialog
}

func newDialogTable() *dialogTable { return &dialogTable{m: map[string]*dialog{}} }

func (t *dialogTable) put(d *dialog) {
	t.mu.Lock()
	t.m[d.callID+"\n"+d.localTag] = d
	t.mu.Unlock()
}

func (t *dialogTable) get(callID, localTag string) *dialog {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[callID+"\n"+localTag]
}

func (t *dialogTable) drop(d *dialog) {
	t.mu.Lock()
	delete(t.m, d.callID+"\n"+d.localTag)
	t.mu.Unlock()
	d.mu.Lock()
	release := d.release
	d.mu.Unlock()
	release()
}

func (t *dialogTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// confirm takes a 2xx to the INVITE: it sets the route, and acknowledges. It is called for retransmissions and for
// answers of other forks, too.
func (d *dialog) confirm(res *sip.Response) error {
	tag := ""
	if to := res.To(); to != nil {
		tag, _ = to.Params.Get("tag")
	}
	d.mu.Lock()
	ack, again := d.acks[tag]
	fork := false
	if !again {
		target, routes := answerRoute(res, d.invite.Recipient)
		ack = d.ackFor(res, target, routes)
		d.acks[tag] = ack
		first := d.remoteTag == "" || d.state == dialogCalling && d.remoteTag == tag
		fork = !first && d.remoteTag != tag
		if !fork {
			d.remoteTag, d.remoteTarget, d.routes = tag, target, routes
			d.release()
			d.release = d.admit(target)
			if d.state == dialogCalling {
				d.state = dialogConfirmed
			}
		}
	}
	d.mu.Unlock()
	if err := d.write(ack); err != nil {
		return fmt.Errorf("send ACK: %w", err)
	}
	if fork { // RFC 3261 §13.2.2.4: every 2xx is acknowledged, all but one of the dialogs hung up
		d.stack.counts.forks.Add(1)
		d.hangUpFork(res)
	}
	return nil
}

// admit lets in-dialog requests in from the address the peer named as its own.
func (d *dialog) admit(target sip.Uri) func() {
	a, err := netip.ParseAddr(target.Host)
	if err != nil {
		return func() {}
	}
	return d.stack.peers.addDialog(a)
}

// answerRoute is the remote target and the route set that a 2xx sets up, RFC 3261 §12.1.2.
func answerRoute(res *sip.Response, requestURI sip.Uri) (sip.Uri, []sip.Uri) {
	target := requestURI
	if c := res.Contact(); c != nil && !c.Address.Wildcard && c.Address.Host != "" {
		target = *c.Address.Clone()
		target.Headers = nil
	}
	var routes []sip.Uri
	for _, h := range res.GetHeaders("Record-Route") {
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			routes = append([]sip.Uri{*rr.Address.Clone()}, routes...)
		}
	}
	return target, routes
}

// ackFor builds the ACK of a 2xx: the INVITE's CSeq number whatever was sent since (RFC 3261 §13.2.2.4), and its
// credentials (§22.1). Called with the lock held.
func (d *dialog) ackFor(res *sip.Response, target sip.Uri, routes []sip.Uri) *sip.Request {
	to := d.invite.To()
	if res.To() != nil {
		to = res.To()
	}
	ack := d.build(sip.ACK, d.invite.CSeq().SeqNo, target, routes, to)
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		sip.CopyHeaders(name, d.invite, ack)
	}
	return ack
}

// next builds the next request of the confirmed dialog.
func (d *dialog) next(method sip.RequestMethod) *sip.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	to := sip.ToHeader{DisplayName: d.invite.To().DisplayName, Address: *d.invite.To().Address.Clone()}
	if d.remoteTag != "" {
		to.Params.Add("tag", d.remoteTag)
	}
	return d.build(method, d.seq, d.remoteTarget, d.routes, &to)
}

// build makes a request inside the dialog, RFC 3261 §12.2.1.1. Called with the lock held.
func (d *dialog) build(method sip.RequestMethod, seq uint32, remote sip.Uri, routes []sip.Uri, to *sip.ToHeader) *sip.Request {
	uri := remote
	if len(routes) > 0 {
		if _, loose := routes[0].UriParams.Get("lr"); !loose { // a strict router gets what RFC 2543 knew
			uri, routes = routes[0], append(append([]sip.Uri{}, routes[1:]...), remote)
		}
	}
	r := sip.NewRequest(method, *uri.Clone())
	r.AppendHeader(d.via())
	for _, route := range routes {
		r.AppendHeader(&sip.RouteHeader{Address: *route.Clone()})
	}
	r.AppendHeader(sip.HeaderClone(d.invite.From()))
	r.AppendHeader(sip.HeaderClone(to))
	callID := sip.CallIDHeader(d.callID)
	r.AppendHeader(&callID)
	r.AppendHeader(&sip.CSeqHeader{SeqNo: seq, MethodName: method})
	hops := sip.MaxForwardsHeader(70)
	r.AppendHeader(&hops)
	if d.contact != nil && method != sip.BYE && method != sip.ACK {
		r.AppendHeader(d.contact.Clone())
	}
	r.AppendHeader(sip.NewHeader("User-Agent", userAgent))
	r.SetBody(nil)
	d.address(r, d.nextHop(uri, routes))
	return r
}

// nextHop is where a request inside the dialog is sent. Over a connection it is the INVITE's: an SBC's Contact may name
// a port nobody listens on for us, and a certificate does not hold its address.
func (d *dialog) nextHop(uri sip.Uri, routes []sip.Uri) netip.AddrPort {
	if sip.IsReliable(d.transport) {
		return d.dest
	}
	if len(routes) > 0 {
		uri = routes[0]
	}
	a, err := netip.ParseAddr(uri.Host)
	if err != nil { // a name: the INVITE went to one of its addresses, or to a proxy in front
		return d.dest
	}
	port := uri.Port
	if port <= 0 || port > 65535 {
		port = sip.DefaultPort(d.transport)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

func (d *dialog) via() *sip.ViaHeader {
	host, port := d.stack.contact(d.advertise, d.transport, nil)
	if d.contact != nil {
		host, port = d.contact.Address.Host, d.contact.Address.Port
	}
	v := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: d.transport, Host: host, Port: port}
	v.Params.Add("branch", sip.GenerateBranch())
	v.Params.Add("rport", "") // RFC 3581 §3
	return v
}

// address tells sipgo which connection to use.
func (d *dialog) address(r *sip.Request, to netip.AddrPort) {
	r.SetTransport(d.transport)
	r.SetDestination(to.String())
	if d.transport == transportUDP { // from the listening socket: peers know us by its port
		r.Laddr = sip.Addr{IP: d.stack.udp.Addr().AsSlice(), Port: int(d.stack.udp.Port())}
	}
}

func (d *dialog) write(r *sip.Request) error {
	d.user.event(true, string(r.Method))
	return d.agent.tp.WriteMsg(r.Clone()) //nolint:wrapcheck // wrapped by callers
}

// do sends a request other than INVITE and ACK and waits for the final response, whatever it says.
func (d *dialog) do(ctx context.Context, r *sip.Request) error {
	d.user.event(true, string(r.Method))
	res, err := d.agent.do(ctx, r)
	if err == nil && needsCredentials(res) && d.auth.Username != "" {
		d.mu.Lock()
		d.seq++
		seq := d.seq
		d.mu.Unlock()
		if err = authorize(r, res, d.auth); err != nil {
			return err
		}
		r.CSeq().SeqNo = seq
		renewBranch(r)
		res, err = d.agent.do(ctx, r)
	}
	if err == nil {
		d.user.event(false, fmt.Sprintf("%d %s (%s)", res.StatusCode, res.Reason, r.Method))
	}
	return err
}

// do sends a request and returns its final response. Provisional ones are skipped.
func (a *agent) do(ctx context.Context, r *sip.Request) (*sip.Response, error) {
	tx, err := a.tx.Request(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("send %s: %w", r.Method, err)
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, nil
			}
		case <-tx.Done():
			return nil, fmt.Errorf("%s: %w", r.Method, tx.Err())
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", r.Method, ctx.Err())
		}
	}
}

// finish ends the dialog from the peer's side, once.
func (d *dialog) finish(e dialogEnd) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !e.open { // also after a REFER: then the BYE that we owe it is not sent any more
		d.state = dialogEnded
	}
	if d.finished {
		return
	}
	d.finished, d.end = true, e
	close(d.ended)
}
