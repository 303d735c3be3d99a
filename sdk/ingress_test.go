package sdk

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

type verdict struct {
	Admission
	err error
}

// admit asks for a call and returns what core was asked, and where the answer
// will be.
func (c *core) admit(t *testing.T, gw Gateway, req AdmitRequest) (*pluginv1.Admit, <-chan verdict) {
	t.Helper()
	out := make(chan verdict, 1)
	ctx := t.Context()
	go func() {
		a, err := gw.Admit(ctx, req)
		out <- verdict{a, err}
	}()
	return c.next(t).GetAdmit(), out
}

func (c *core) admitted(t *testing.T, request uint64, callID string, id uint32) {
	t.Helper()
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Admitted{Admitted: &pluginv1.Admitted{
		RequestId: request, CallId: callID, Streams: []*pluginv1.Stream{PCMU8k().ToProto(id)},
	}}})
}

// offered brings an ingress leg up on stream 1 of call-1.
func offered(t *testing.T, frames func(*Frame)) (*core, IngressLeg) {
	t.Helper()
	p := newCaller()
	c := connect(t, p)
	ask, answer := c.admit(t, await(t, p.gateway, "Open"), AdmitRequest{})
	c.admitted(t, ask.GetRequestId(), "call-1", 1)
	v := await(t, answer, "answer to Admit")
	if v.err != nil {
		t.Fatal(v.err)
	}
	leg, err := v.Offer(Offer{
		Caller: "+1734", PlatformAccount: "acc", PlatformCallID: "conv", Parameters: map[string]string{"k": "v"},
	}, frames)
	if err != nil {
		t.Fatal(err)
	}
	want := &pluginv1.Offer{
		CallId: "call-1", Streams: []*pluginv1.Stream{PCMU8k().ToProto(1)}, Caller: "+1734",
		PlatformAccount: "acc", PlatformCallId: "conv", Parameters: map[string]string{"k": "v"},
	}
	if got := c.next(t).GetOffer(); !proto.Equal(got, want) {
		t.Errorf("offer %v, want %v", got, want)
	}
	v.Withdraw() // after Offer it does nothing: the next message shows it
	return c, leg
}

func TestIngressCall(t *testing.T) {
	frames := make(chan string, 10)
	c, leg := offered(t, func(f *Frame) { frames <- string(f.Payload) })
	select {
	case <-leg.Answered():
		t.Fatal("answered by nobody")
	default:
	}
	answered := func(early bool) *pluginv1.CoreMessage {
		return &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Answered{Answered: &pluginv1.LegAnswered{CallId: "call-1", Early: early}}}
	}
	c.tell(t, answered(true)) // early media is no answer
	c.send(t, wire.Record{Stream: 1, Payload: []byte("early")})
	if got := await(t, frames, "frame"); got != "early" {
		t.Errorf("frame %q", got)
	}
	c.tell(t, answered(false))
	c.tell(t, answered(false)) // twice does no harm
	await(t, leg.Answered(), "answer")

	leg.Write(Frame{Payload: []byte("hello")})
	leg.Write(Frame{Stream: 1, Payload: []byte("no such stream")})
	leg.Write(Frame{Stream: -1, Payload: []byte("no such stream")})
	if r := c.record(t); string(r.Payload) != "hello" || r.Stream != 1 {
		t.Errorf("record %+v", r)
	}

	why := Termination{Who: Bot, Reason: ReasonHangup, Q850: 16}
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Finish{Finish: &pluginv1.Finish{
		CallId: "call-1", Result: ResultEscalate, Target: "agents", Variables: map[string]string{"a": "b"}, Termination: why.ToProto(),
	}}})
	c.send(t, wire.Record{Stream: 1, Payload: []byte("last")}, wire.Record{Stream: 1, Flags: wire.FlagEnd})
	got := await(t, leg.Finished(), "finish")
	want := Finish{Result: ResultEscalate, Target: "agents", Variables: map[string]string{"a": "b"}, Termination: why}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("finish (-want +got):\n%s", diff)
	}
	if got := await(t, frames, "frame"); got != "last" {
		t.Errorf("frame %q", got)
	}
	leg.End(Ending{Termination: why})
	leg.End(Ending{Termination: Termination{Who: Caller}}) // the first counts
	leg.Write(Frame{Payload: []byte("too late")})
	leg.Event(true, "too late")
	if r := c.record(t); !r.End() {
		t.Errorf("record %+v after the end", r)
	}
	if got := TerminationFromProto(c.next(t).GetEnded().GetTermination()); got != why {
		t.Errorf("ended with %v", got)
	}
	if len(c.said) != 0 || c.server.conn.open() != 0 {
		t.Error("the leg goes on after its end")
	}
}

func TestAdmitAsksForAll(t *testing.T) {
	p := newCaller()
	c := connect(t, p)
	gw := await(t, p.gateway, "Open")
	for name, tc := range map[string]struct {
		credential Credential
		want       *pluginv1.Credential
	}{
		"jwt":  {Credential{JWT: "e.y.J"}, &pluginv1.Credential{Kind: &pluginv1.Credential_Jwt{Jwt: "e.y.J"}}},
		"peer": {Credential{Peer: "127.0.0.1"}, &pluginv1.Credential{Kind: &pluginv1.Credential_Peer{Peer: &pluginv1.Peer{Address: "127.0.0.1"}}}},
		"hmac": {
			Credential{HMAC: &HMAC{Scheme: "sha256", KeyID: "k", Signed: []byte("x"), Signature: []byte("y")}},
			&pluginv1.Credential{Kind: &pluginv1.Credential_Hmac{Hmac: &pluginv1.Hmac{Scheme: "sha256", KeyId: "k", Signed: []byte("x"), Signature: []byte("y")}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, answer := c.admit(t, gw, AdmitRequest{
				Credential: tc.credential, Number: "+1734", Bot: "b", Account: "a", Mode: ModeBot,
				Parameters: map[string]string{"k": "v"}, Remote: "192.0.2.1",
			})
			want := &pluginv1.Admit{
				RequestId: got.GetRequestId(), Credential: tc.want, Number: "+1734", Bot: "b", Account: "a", Mode: "bot",
				Parameters: map[string]string{"k": "v"}, RemoteAddress: "192.0.2.1",
			}
			if !proto.Equal(got, want) {
				t.Errorf("asked %v, want %v", got, want)
			}
			c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Refused{Refused: &pluginv1.Refused{
				RequestId: got.GetRequestId(), Reason: pluginv1.RefusedReason_REFUSED_REASON_QUOTA, RetryAfterMs: 1500, Detail: "full",
			}}})
			v := await(t, answer, "answer")
			var refusal *Refusal
			if !errors.As(v.err, &refusal) {
				t.Fatalf("error %v", v.err)
			}
			if diff := cmp.Diff(&Refusal{RefusedQuota, 1500 * time.Millisecond, "full"}, refusal); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithdraw(t *testing.T) {
	p := newCaller()
	c := connect(t, p)
	ask, answer := c.admit(t, await(t, p.gateway, "Open"), AdmitRequest{})
	c.admitted(t, ask.GetRequestId(), "call-1", 1)
	v := await(t, answer, "answer")
	v.Withdraw()
	v.Withdraw()
	if got := c.next(t).GetWithdrawn().GetCallId(); got != "call-1" {
		t.Errorf("withdrawn %q", got)
	}
	if _, err := v.Offer(Offer{}, nil); !errors.Is(err, ErrLegEnded) {
		t.Errorf("offer after withdraw: %v", err)
	}
	if len(c.said) != 0 || c.server.conn.slots.Used() != 0 {
		t.Error("withdrawn twice, or a slot is left")
	}
}

// An offer that cannot be gives its place back at once.
func TestOfferFails(t *testing.T) {
	c, _ := offered(t, nil)
	ask, answer := c.admit(t, c.server.conn, AdmitRequest{})
	c.admitted(t, ask.GetRequestId(), "call-2", 1) // the stream is in use
	v := await(t, answer, "answer")
	if _, err := v.Offer(Offer{}, nil); err == nil {
		t.Fatal("offered on a stream in use")
	}
	if got := c.next(t).GetWithdrawn().GetCallId(); got != "call-2" {
		t.Errorf("withdrawn %q", got)
	}
}

// Core goes while a call waits and another one runs.
func TestCoreGoesDuringIngress(t *testing.T) {
	c, leg := offered(t, nil)
	_, answer := c.admit(t, c.server.conn, AdmitRequest{})
	go func() { // what a provider's Close makes its legs do
		leg.End(Ending{Termination: (<-leg.Finished()).Termination})
	}()
	if err := c.calls.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if v := await(t, answer, "answer"); !errors.As(v.err, &refusal) || refusal.Reason != RefusedDraining {
		t.Errorf("waiting call: %v", v.err)
	}
	await(t, c.served, "end of the gRPC server")
	if _, err := c.server.conn.Admit(t.Context(), AdmitRequest{}); !errors.As(err, &refusal) || refusal.Reason != RefusedDraining {
		t.Errorf("a call after the end: %v", err)
	}
}

// The clocks of the contract, without a connection: synctest's time.

func quiet() *connection {
	return newConnection(slog.New(slog.DiscardHandler), func() int64 { return 0 })
}

// spoken is what a connection has to say.
func spoken(c *connection) []*pluginv1.PluginMessage {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	return c.control.queue
}

func TestAdmitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		start := time.Now()
		_, err := c.Admit(t.Context(), AdmitRequest{})
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != RefusedBusy || time.Since(start) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		said := spoken(c)
		if len(said) != 2 || said[1].GetWithdrawn().GetRequestId() != said[0].GetAdmit().GetRequestId() {
			t.Errorf("said %v", said)
		}
		// The answer comes after all: the place is given back by its call.
		c.dispatch(t.Context(), nil, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Admitted{Admitted: &pluginv1.Admitted{
			RequestId: said[0].GetAdmit().GetRequestId(), CallId: "late",
		}}})
		if said = spoken(c); said[len(said)-1].GetWithdrawn().GetCallId() != "late" {
			t.Errorf("said %v", said)
		}
	})
}

func TestFinishWaitsForMedia(t *testing.T) {
	finish := &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Finish{Finish: &pluginv1.Finish{CallId: "c", Result: ResultOK}}}
	for _, tc := range []struct {
		name   string
		before time.Duration // the end record comes so long before the Finish; < 0: after
		want   time.Duration // from Finish
	}{
		{"end came first", 10 * time.Millisecond, 0},
		{"end comes later", -50 * time.Millisecond, 50 * time.Millisecond},
		{"end comes too late", -300 * time.Millisecond, 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := quiet()
				l, err := c.newLeg("c", []*pluginv1.Stream{PCMU8k().ToProto(1)})
				if err == nil {
					err = c.add(l, func() {})
				}
				if err != nil {
					t.Fatal(err)
				}
				end := func() { l.deliver(&wire.Record{Flags: wire.FlagEnd, Stream: 1}, 0, new(Frame)) }
				if tc.before > 0 {
					end()
					time.Sleep(tc.before)
				} else {
					late := time.AfterFunc(-tc.before, end)
					defer late.Stop()
				}
				start := time.Now()
				c.dispatch(t.Context(), nil, finish)
				c.dispatch(t.Context(), nil, finish) // a second one is no second value
				got := <-l.Finished()
				if took := time.Since(start); took != tc.want || got.Result != ResultOK {
					t.Errorf("after %v, want %v: %+v", took, tc.want, got)
				}
				time.Sleep(time.Second)
				if len(l.finished) != 0 {
					t.Error("finished twice")
				}
				l.End(Ending{})
			})
		})
	}
}

func TestEventsAreBounded(t *testing.T) {
	c := quiet()
	l, err := c.newLeg("c", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range maxEvents + 50 {
		l.Event(false, "OPTIONS")
	}
	if n := len(spoken(c)); n != maxEvents {
		t.Errorf("%d events", n)
	}
}

// A leg whose control records find no room is ended, whichever kind it is.
func TestFlood(t *testing.T) {
	c := quiet()
	l, err := c.newLeg("c", []*pluginv1.Stream{PCMU8k().ToProto(1)})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * (wire.DefaultLimits.Bytes + wire.DefaultLimits.Reserve) / 1000 {
		l.Write(Frame{Kind: Mark, Payload: make([]byte, 1000)})
	}
	f := <-l.Finished()
	want := Finish{Result: ResultError, Termination: Termination{Who: Plugin, Reason: ReasonFailed}}
	if diff := cmp.Diff(want, f, cmpopts.IgnoreFields(Termination{}, "Detail")); diff != "" {
		t.Errorf("finish (-want +got):\n%s", diff)
	}
	l.End(Ending{})
}
