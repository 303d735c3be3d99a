package sdk

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
	"github.com/patchbay/patchbay/sdk/wire"
)

// TestEgressCall is a call from Place to its end: what the provider says
// arrives in order, media goes both ways, the leg's end is its last record.
func TestEgressCall(t *testing.T) {
	placed := make(chan Placement, 1)
	c := connect(t, placer{newBasis(), func(ctx context.Context, leg EgressLeg, to Placement) Ending {
		placed <- to
		digits := make(chan byte, 1)
		leg.OnFrame(func(f *Frame) {
			if d, _, ok := f.Digit(); ok {
				digits <- d
				return
			}
			leg.Write(*f)
		})
		leg.Event(true, "INVITE")
		leg.Progress(183, true)
		leg.Answer([]Header{{Name: "X-Bot", Value: "b"}})
		leg.Hold()
		leg.Resumed()
		leg.Checkpoint([]byte("state"))
		select {
		case d := <-digits:
			leg.Transfer("agents", []Header{{Name: "X-Digit", Value: string(d)}})
		case <-ctx.Done():
		}
		return Ending{
			Termination: Termination{Who: Bot, Reason: ReasonTransfer, Q850: 16, SIP: 200, Detail: "bye"},
			Headers:     []Header{{Name: "X-Queue-Name", Value: "q"}}, Target: "agents",
			Stats: LegStats{FramesIn: 3, Drops: map[string]uint64{"late": 1}, DelayOut: Delay{P50MS: 1.5, Count: 2}},
		}
	}})
	const id = 7<<20 | 300
	c.place(t, "call-1", id)
	want := Placement{
		CallID: "call-1", Destination: "+17345550100", Caller: "+17345550199",
		Headers: []Header{{Name: "X-Id", Value: "7"}}, Streams: []Stream{PCMU8k()},
	}
	if diff := cmp.Diff(want, await(t, placed, "Place")); diff != "" {
		t.Errorf("placement (-want +got):\n%s", diff)
	}
	if e := c.next(t).GetEvent(); e.GetText() != "INVITE" || !e.GetOutbound() || e.GetCallId() != "call-1" {
		t.Errorf("event %v", e)
	}
	if p := c.next(t).GetProgress(); p.GetStatus() != 183 || !p.GetEarlyMedia() {
		t.Errorf("progress %v", p)
	}
	if a := c.next(t).GetAnswered(); len(a.GetHeaders()) != 1 || a.GetStreams()[0].GetId() != id {
		t.Errorf("answered %v", a)
	}
	if c.next(t).GetHold() == nil || c.next(t).GetResumed() == nil {
		t.Error("no hold, or no resumed")
	}
	if string(c.next(t).GetCheckpoint().GetOpaque()) != "state" {
		t.Error("no checkpoint")
	}

	said := wire.Record{
		Kind: wire.KindAudio, Flags: wire.FlagTalkSpurt | wire.FlagDiscontinuity, Stream: id, Sequence: 9,
		Timestamp: 160, Origin: 12345, Payload: []byte{1, 2, 3},
	}
	c.send(t, wire.Record{Stream: id + 1<<20, Payload: []byte("an older leg's")}, said)
	if diff := cmp.Diff(said, c.record(t)); diff != "" {
		t.Errorf("echo (-want +got):\n%s", diff)
	}
	c.send(t, wire.Record{Kind: wire.KindDTMF, Stream: id, Payload: DTMFPayload(nil, '5', 0)})
	if tr := c.next(t).GetTransfer(); tr.GetTarget() != "agents" || tr.GetHeaders()[0].GetValue() != "5" {
		t.Errorf("transfer %v", tr)
	}
	if r := c.record(t); !r.End() || r.Stream != id {
		t.Errorf("last record %+v", r)
	}
	checkEnding(t, c.next(t).GetEnded())
	if n := c.server.conn.open(); n != 0 || c.server.conn.slots.Used() != 0 {
		t.Errorf("%d legs, %d slots left", n, c.server.conn.slots.Used())
	}
}

func checkEnding(t *testing.T, e *pluginv1.Ended) {
	t.Helper()
	got := Ending{TerminationFromProto(e.GetTermination()), HeadersFromProto(e.GetHeaders()), e.GetTarget(), LegStatsFromProto(e.GetStats())}
	want := Ending{
		Termination: Termination{Who: Bot, Reason: ReasonTransfer, Q850: 16, SIP: 200, Detail: "bye"},
		Headers:     []Header{{Name: "X-Queue-Name", Value: "q"}}, Target: "agents",
		Stats: LegStats{FramesIn: 3, Drops: map[string]uint64{"late": 1}, DelayOut: Delay{P50MS: 1.5, Count: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ending (-want +got):\n%s", diff)
	}
}

// untilHangup is a Place that stays until the gateway hangs up.
func untilHangup(ctx context.Context, leg EgressLeg, _ Placement) Ending {
	leg.Answer(nil)
	<-ctx.Done()
	return Ending{Termination: HangupCause(ctx)}
}

func TestHangupCause(t *testing.T) {
	c := connect(t, placer{newBasis(), untilHangup})
	c.place(t, "call-1", 1)
	c.next(t)
	why := Termination{Who: Platform, Reason: ReasonHangup, Q850: 16, Detail: "stop"}
	c.hangup(t, "nobody's", why)
	c.hangup(t, "call-1", why)
	if got := TerminationFromProto(c.next(t).GetEnded().GetTermination()); got != why {
		t.Errorf("ended with %v, want %v", got, why)
	}
}

func TestPanicEndsOneCall(t *testing.T) {
	c := connect(t, placer{newBasis(), func(ctx context.Context, leg EgressLeg, to Placement) Ending {
		if leg.CallID() == "bad" {
			panic("a bug, with a secret in it")
		}
		return untilHangup(ctx, leg, to)
	}})
	c.place(t, "good", 1)
	c.next(t)
	c.place(t, "bad", 2)
	e := c.next(t).GetEnded()
	got := TerminationFromProto(e.GetTermination())
	if e.GetCallId() != "bad" || got.Who != Plugin || got.Reason != ReasonFailed || strings.Contains(got.Detail, "secret") {
		t.Errorf("ended %v", e)
	}
	c.hangup(t, "good", Termination{Who: Caller, Reason: ReasonHangup})
	if e := c.next(t).GetEnded(); e.GetCallId() != "good" || e.GetTermination().GetWho() != pluginv1.Who_WHO_CALLER {
		t.Errorf("the other call ended %v", e)
	}
}

func TestPlaceRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		callID string
		stream uint32
	}{
		{"call is there already", "call-1", 2},
		{"stream is in use", "call-2", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := connect(t, placer{newBasis(), untilHangup})
			c.place(t, "call-1", 1)
			c.next(t)
			c.place(t, tc.callID, tc.stream)
			e := c.next(t).GetEnded()
			if e.GetCallId() != tc.callID || e.GetTermination().GetWho() != pluginv1.Who_WHO_PLUGIN {
				t.Errorf("ended %v", e)
			}
			if c.server.conn.open() != 1 || c.server.conn.slots.Used() != 1 {
				t.Error("the refused leg left something behind")
			}
		})
	}
}

func TestPlaceAndResumeWithoutThem(t *testing.T) {
	c := connect(t, newCaller())
	c.place(t, "call-1", 1)
	if got := c.next(t).GetEnded().GetTermination(); got.GetReason() != pluginv1.Reason_REASON_FAILED {
		t.Errorf("ended %v", got)
	}
	c.tell(t, &pluginv1.CoreMessage{Message: &pluginv1.CoreMessage_Resume{Resume: &pluginv1.Resume{CallId: "call-2"}}})
	if got := c.next(t).GetEnded().GetTermination(); got.GetReason() != pluginv1.Reason_REASON_LOST {
		t.Errorf("ended %v", got)
	}
}

// The end of core's side of the control stream ends the legs, then the
// provider, then the server; the ends of the legs still arrive.
func TestCoreEndsTheStream(t *testing.T) {
	p := placer{newBasis(), untilHangup}
	c := connect(t, p)
	for i, id := range []string{"a", "b", "c"} {
		c.place(t, id, uint32(i))
		c.next(t)
	}
	if err := c.calls.CloseSend(); err != nil {
		t.Fatal(err)
	}
	ended := map[string]bool{}
	for range 3 {
		e := c.next(t).GetEnded()
		ended[e.GetCallId()] = true
		if got := TerminationFromProto(e.GetTermination()); got.Who != GatewayItself || got.Reason != ReasonLost {
			t.Errorf("ended with %v", got)
		}
	}
	if !ended["a"] || !ended["b"] || !ended["c"] {
		t.Errorf("ended: %v", ended)
	}
	await(t, p.closed, "Close of the provider")
	await(t, c.server.ended, "end of the plugin's work")
	await(t, c.served, "end of the gRPC server")
}

// The same when core's connection breaks without a word.
func TestCoreDies(t *testing.T) {
	p := placer{newBasis(), untilHangup}
	c := connect(t, p)
	c.place(t, "a", 1)
	c.next(t)
	c.cancel()
	if err := c.conn.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, p.closed, "Close of the provider")
	await(t, c.served, "end of the gRPC server")
	if n := c.server.conn.open(); n != 0 {
		t.Errorf("%d legs left", n)
	}
}

// Why a provider does not open must reach core before the server is gone.
func TestOpenFails(t *testing.T) {
	for range 20 {
		p := placer{newBasis(), untilHangup}
		p.opening = errors.New("address already in use")
		c := dial(t, p)
		c.openControl(t.Context(), t)
		_, err := c.calls.Recv()
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "address already in use" {
			t.Fatalf("control stream ended with %v", err)
		}
		await(t, c.served, "end of the gRPC server")
	}
}

func TestSecondControlStream(t *testing.T) {
	c := connect(t, placer{newBasis(), untilHangup})
	second, err := pluginv1.NewCallsClient(c.conn).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = second.Recv(); status.Code(err) != codes.AlreadyExists {
		t.Errorf("second control stream: %v", err)
	}
	c.place(t, "call-1", 1) // the first one goes on
	if c.next(t).GetAnswered() == nil {
		t.Error("the first control stream does not work any more")
	}
}

func TestFirstMessageMustBeHello(t *testing.T) {
	c := dial(t, placer{newBasis(), untilHangup})
	stream, err := pluginv1.NewCallsClient(c.conn).Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err = stream.Send(&pluginv1.CoreMessage{}); err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("stream ended with %v", err)
	}
}
