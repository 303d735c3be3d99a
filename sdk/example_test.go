package sdk_test

import (
	"context"
	"encoding/json"

	"github.com/patchbay/patchbay/sdk"
)

// parrot is a whole egress provider: it answers every call and says back what
// it hears, until the gateway hangs up or a 9 is pressed.
type parrot struct{}

func (parrot) Describe() sdk.Description { return sdk.Description{Name: "parrot", Version: "1.0"} }

func (parrot) Configure(context.Context, json.RawMessage) error { return nil }

func (parrot) Open(context.Context) ([]sdk.Listener, error) { return nil, nil }

func (parrot) Close(context.Context) error { return nil }

func (parrot) Place(ctx context.Context, leg sdk.EgressLeg, _ sdk.Placement) sdk.Ending {
	bye := make(chan struct{}, 1)
	leg.OnFrame(func(f *sdk.Frame) {
		if digit, _, ok := f.Digit(); ok && digit == '9' {
			select {
			case bye <- struct{}{}:
			default: // pressed twice
			}
			return
		}
		leg.Write(*f)
	})
	leg.Answer(nil)
	select {
	case <-ctx.Done():
		return sdk.Ending{Termination: sdk.HangupCause(ctx)}
	case <-bye:
		return sdk.Ending{Termination: sdk.Termination{Who: sdk.Bot, Reason: sdk.ReasonHangup, Q850: 16}}
	}
}

// The smallest provider: this is all of the plugin's main function. Build it
// into the gateway's plugin folder and name it in the configuration.
func ExampleServe() {
	sdk.Serve(parrot{})
}
