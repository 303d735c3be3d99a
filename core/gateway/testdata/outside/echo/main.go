// Command echo is the smallest egress provider: it answers at once and says
// back what it hears. A hangup digit 9 ends the call with a header.
package main

import (
	"context"
	"encoding/json"

	"github.com/patchbay/patchbay/sdk"
)

type echo struct{}

func (echo) Describe() sdk.Description { return sdk.Description{Name: "echo", Version: "1"} }

func (echo) Configure(context.Context, json.RawMessage) error { return nil }

func (echo) Open(context.Context) ([]sdk.Listener, error) { return nil, nil }

func (echo) Close(context.Context) error { return nil }

func (echo) Place(ctx context.Context, leg sdk.EgressLeg, to sdk.Placement) sdk.Ending {
	if to.Destination == "+17340000" {
		return sdk.Ending{Termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonFailed, SIP: 486, Q850: 17}}
	}
	if to.Destination == "+17340666" {
		panic("asked for")
	}
	over := make(chan struct{}, 1)
	leg.OnFrame(func(f *sdk.Frame) {
		if d, _, ok := f.Digit(); ok && d == '9' {
			over <- struct{}{}
			return
		}
		leg.Write(*f)
	})
	leg.Answer(to.Headers)
	select {
	case <-over:
		return sdk.Ending{
			Termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 16},
			Headers:     []sdk.Header{{Name: "X-Queue-Name", Value: "agents"}},
		}
	case <-ctx.Done():
		return sdk.Ending{Termination: sdk.HangupCause(ctx)}
	}
}

func main() { sdk.Serve(echo{}) }
