package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
)

// ErrNoCall says that no call has the given Call-ID, or that it is over.
var ErrNoCall = errors.New("no such call in the simulator")

// maxCalls bounds the calls a Bot takes in its life; it keeps the account of each.
const maxCalls = 1_000_000

// Bot is a running simulator. Its methods may be called from any goroutine.
type Bot struct {
	opts Options
	udp  *net.UDPConn
	tcp  net.Listener
	tls  net.Listener

	ctx  context.Context //nolint:containedctx // ends the goroutines this value owns
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	calls    []*call
	byID     map[string]*call // by Call-ID
	byBranch map[string]*call // requests the bot sent and waits for
	streams  map[*stream]struct{}
	active   int
	ended    []*call       // Done, in that order
	changed  chan struct{} // closed and replaced at each change of a call
	totals   Totals
}

// Totals counts what belongs to no call.
type Totals struct {
	Malformed  int      `json:"malformed"` // messages that were no SIP
	Strays     int      `json:"strays"`    // requests, responses and media that belong to no call
	Options    int      `json:"options"`   // OPTIONS outside of calls, answered 200
	Violations []string `json:"violations"`
}

// Start opens the sockets and answers calls until Close.
func Start(o Options) (*Bot, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Bot{
		opts: o, ctx: ctx, stop: stop, byID: map[string]*call{}, byBranch: map[string]*call{},
		streams: map[*stream]struct{}{}, changed: make(chan struct{}),
	}
	if err := b.listen(ctx); err != nil {
		stop()
		return nil, err
	}
	b.wg.Go(b.readUDP)
	b.wg.Go(func() { b.accept(b.tcp, tcp) })
	if b.tls != nil {
		b.wg.Go(func() { b.accept(b.tls, tlsName) })
	}
	return b, nil
}

// Addr returns the address of UDP and TCP.
func (b *Bot) Addr() netip.AddrPort { return addrPort(b.udp.LocalAddr()) }

// TLSAddr returns the address of TLS, the zero value without TLS.
func (b *Bot) TLSAddr() netip.AddrPort {
	if b.tls == nil {
		return netip.AddrPort{}
	}
	return addrPort(b.tls.Addr())
}

// Close closes the sockets and waits for all goroutines. Calls that are on end as EndedClosed, without a BYE.
func (b *Bot) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		b.wg.Wait()
		return nil
	}
	b.closed = true
	streams := make([]*stream, 0, len(b.streams))
	for s := range b.streams {
		streams = append(streams, s)
	}
	b.mu.Unlock()
	b.stop()
	err := errors.Join(b.udp.Close(), b.tcp.Close())
	if b.tls != nil {
		err = errors.Join(err, b.tls.Close())
	}
	for _, s := range streams {
		_ = s.conn.Close() // its reader may have closed it already
	}
	b.wg.Wait()
	if err != nil {
		return fmt.Errorf("close simulator: %w", err)
	}
	return nil
}

// Calls returns snapshots of all calls in the order of their arrival.
func (b *Bot) Calls() []Call {
	b.mu.Lock()
	calls := slices.Clone(b.calls)
	b.mu.Unlock()
	out := make([]Call, 0, len(calls))
	for _, c := range calls {
		out = append(out, c.snapshot())
	}
	return out
}

// Totals returns what belongs to no call.
func (b *Bot) Totals() Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.totals
	t.Violations = slices.Clone(t.Violations)
	return t
}

// WaitEnded waits until n calls are Done and returns the snapshots of all.
func (b *Bot) WaitEnded(ctx context.Context, n int) ([]Call, error) {
	err := b.waitEnded(ctx, n)
	return b.Calls(), err
}

func (b *Bot) waitEnded(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		ended, changed := len(b.ended), b.changed
		b.mu.Unlock()
		if ended >= n {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return fmt.Errorf("wait for %d calls to end: simulator closed after %d", n, ended)
		case <-ctx.Done():
			return fmt.Errorf("wait for %d calls to end, %d have: %w", n, ended, context.Cause(ctx))
		}
	}
}

// endedFrom returns the calls that are Done, in the order they became so, without the first n.
func (b *Bot) endedFrom(n int) []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ended[n:])
}

// WaitCall waits until ok says yes to the snapshot of some call, and returns it.
func (b *Bot) WaitCall(ctx context.Context, ok func(Call) bool) (Call, error) {
	// Media move without waking anybody, so they are looked at in this interval as well.
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		for _, c := range b.Calls() {
			if ok(c) {
				return c, nil
			}
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-b.ctx.Done():
			return Call{}, errors.New("wait for call: simulator closed")
		case <-ctx.Done():
			return Call{}, fmt.Errorf("wait for call: %w", context.Cause(ctx))
		}
	}
}

func (b *Bot) notify() {
	b.mu.Lock()
	close(b.changed)
	b.changed = make(chan struct{})
	b.mu.Unlock()
}

func (b *Bot) find(callID string) *call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID[callID]
}

// receive hands a message to its call; it is called by the socket readers.
func (b *Bot) receive(m *sipmsg.Message, from peer, size int) {
	if b.opts.Hooks.Incoming != nil && !b.opts.Hooks.Incoming(m) {
		return
	}
	if !m.IsRequest() {
		b.receiveResponse(m, from)
		return
	}
	callID := m.Get("Call-ID")
	c := b.find(callID)
	if c != nil && c.gone() {
		c = nil
	}
	fresh := m.Method == "INVITE" && toTag(m) == ""
	if fresh && c != nil && c.over() && !c.hasBranch(m) {
		c = nil // the same Call-ID again after the end: another attempt
	}
	if c == nil && fresh {
		b.newCall(m, from, size)
		return
	}
	if c != nil {
		c.post(func() { c.request(m, from) })
		return
	}
	b.stray(m, from)
}

func toTag(m *sipmsg.Message) string {
	a, err := sipmsg.ParseNameAddr(m.Get("To"))
	if err != nil {
		return ""
	}
	return a.Tag()
}

func (b *Bot) receiveResponse(m *sipmsg.Message, from peer) {
	via, err := topVia(m)
	var c *call
	if err == nil {
		b.mu.Lock()
		c = b.byBranch[via.Branch()]
		b.mu.Unlock()
	}
	if c == nil {
		b.mu.Lock()
		b.totals.Strays++
		b.mu.Unlock()
		return
	}
	c.post(func() { c.response(m, from) })
}

// stray answers a request outside of any call (RFC 3261 §8.2).
func (b *Bot) stray(m *sipmsg.Message, from peer) {
	if b.opts.Silent {
		return
	}
	b.mu.Lock()
	options := m.Method == "OPTIONS" && toTag(m) == ""
	if options {
		b.totals.Options++
	} else {
		b.totals.Strays++
	}
	b.mu.Unlock()
	if m.Method == "ACK" {
		return // never answered
	}
	status := 481
	switch {
	case options:
		status = 200
	case toTag(m) == "" && m.Method != "CANCEL" && m.Method != "BYE":
		status = 405
	}
	res := sipmsg.NewResponse(m, status, "")
	if toTag(m) == "" {
		res.Set("To", m.Get("To")+";tag="+randomToken())
	}
	res.Add("Allow", allow)
	b.send(replyTo(m, from), res, from)
}

// send writes a message, through the hook; a response carries the peer it answers.
func (b *Bot) send(to peer, m *sipmsg.Message, from peer) {
	if !m.IsRequest() {
		stampVia(m, from)
	}
	out := []*sipmsg.Message{m}
	if b.opts.Hooks.Outgoing != nil {
		out = b.opts.Hooks.Outgoing(m)
	}
	for _, o := range out {
		// A write that fails is a message lost, which SIP's own timers notice and report.
		_ = b.write(to, o.Bytes())
	}
}

// strayMedia counts a datagram of RTP or RTCP, which begin with the bits 10 where SIP has a letter (RFC 7983 §7): the last
// report of a call whose port has become ours is nobody's violation.
func (b *Bot) strayMedia() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.totals.Strays++
}

func (b *Bot) malformed(from netip.AddrPort, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.totals.Malformed++
	if len(b.totals.Violations) < maxViolations {
		b.totals.Violations = append(b.totals.Violations, fmt.Sprintf("from %s: %v", from, err))
	}
}

// newCall takes in the first INVITE of a call.
func (b *Bot) newCall(m *sipmsg.Message, from peer, size int) {
	c := newCall(b, m, from, size)
	b.mu.Lock()
	if b.closed || len(b.calls) >= maxCalls {
		b.mu.Unlock()
		return
	}
	b.calls = append(b.calls, c)
	b.byID[m.Get("Call-ID")] = c
	full := b.opts.MaxCalls > 0 && b.active >= b.opts.MaxCalls
	b.active++
	b.wg.Go(c.run)
	b.mu.Unlock()
	c.post(func() { c.invited(full) })
}

// callEnded counts a call that is Done.
func (b *Bot) callEnded(c *call) {
	b.mu.Lock()
	b.active--
	b.ended = append(b.ended, c)
	b.mu.Unlock()
	b.notify()
}

// retired forgets a call whose transactions have all timed out; its account stays.
func (b *Bot) retired(c *call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID[c.id] == c && !b.opts.KeepPackets {
		delete(b.byID, c.id)
	}
}

func (b *Bot) expect(branch string, c *call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c == nil {
		delete(b.byBranch, branch)
		return
	}
	b.byBranch[branch] = c
}
