package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"
)

// sipCounts counts signalling for the metrics.
type sipCounts struct {
	unparsed       atomic.Uint64 // messages of peers that sipgo could not read or answer
	unknownDialog  atomic.Uint64 // 481
	headersRefused atomic.Uint64
	forks          atomic.Uint64 // second answers, hung up
	crossed        atomic.Uint64 // answers that crossed our CANCEL, hung up
	byInfo         atomic.Uint64 // digits that came by INFO

	mu       sync.Mutex
	requests map[string]uint64 // by method
	attempts map[int]uint64    // by final status; 0: none came
}

func newSIPCounts() *sipCounts {
	return &sipCounts{requests: map[string]uint64{}, attempts: map[int]uint64{}}
}

// request counts a request that came; methods beyond the known are one label.
func (c *sipCounts) request(m sip.RequestMethod) {
	name := "other"
	switch m {
	case sip.INVITE, sip.ACK, sip.CANCEL, sip.BYE, sip.OPTIONS, sip.INFO, sip.UPDATE, sip.NOTIFY, sip.REFER, sip.MESSAGE,
		sip.REGISTER, sip.SUBSCRIBE, sip.PRACK, sip.PUBLISH:
		name = string(m)
	}
	c.mu.Lock()
	c.requests[name]++
	c.mu.Unlock()
}

func (c *sipCounts) attempt(status int) {
	c.mu.Lock()
	c.attempts[status]++
	c.mu.Unlock()
}

// sipgoLog counts what sipgo has to say and keeps it out of the log: it quotes whole messages.
type sipgoLog struct{ counts *sipCounts }

// Enabled implements slog.Handler.
func (sipgoLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// Handle implements slog.Handler.
func (s sipgoLog) Handle(context.Context, slog.Record) error {
	s.counts.unparsed.Add(1)
	return nil
}

// WithAttrs implements slog.Handler.
func (s sipgoLog) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements slog.Handler.
func (s sipgoLog) WithGroup(string) slog.Handler { return s }
