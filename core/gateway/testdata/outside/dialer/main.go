// Command dialer is a small ingress provider: a TCP connection is a call. The
// peer writes a number and a newline, then frames of 160 bytes; it reads
// "answered", its frames back, and at the end "finish RESULT TARGET". A frame
// whose first byte is 0x01 is the digit in its second.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/patchbay/patchbay/sdk"
)

type dialer struct {
	listener net.Listener
	calls    sync.WaitGroup
	stop     context.CancelFunc
}

func (*dialer) Describe() sdk.Description {
	return sdk.Description{Name: "dialer", Version: "1", ConfigSchema: `{
		"type": "object", "additionalProperties": false,
		"properties": {"listen": {"type": "string"}}}`}
}

func (*dialer) Configure(_ context.Context, raw json.RawMessage) error {
	var c struct{ Listen string }
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	if c.Listen == "bad" {
		return sdk.FieldError{Pointer: "/listen", Problem: "is bad", Mend: "write 127.0.0.1:0"}
	}
	return nil
}

func (d *dialer) Open(_ context.Context, gw sdk.Gateway) ([]sdk.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	d.listener, d.stop = l, stop
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.calls.Go(func() { call(ctx, c, gw) })
		}
	}()
	return []sdk.Listener{{Purpose: "dial", Address: l.Addr().String()}}, nil
}

func (d *dialer) Close(context.Context) error {
	d.stop()
	err := d.listener.Close()
	d.calls.Wait()
	return err
}

func call(ctx context.Context, c net.Conn, gw sdk.Gateway) {
	defer c.Close()
	in := bufio.NewReader(c)
	number, err := in.ReadString('\n')
	if err != nil {
		return
	}
	adm, err := gw.Admit(ctx, sdk.AdmitRequest{
		Credential: sdk.Credential{Peer: "127.0.0.1"}, Number: strings.TrimSpace(number),
		Bot: "b", Account: "a", Mode: sdk.ModeBot, Remote: "127.0.0.1",
	})
	var refused *sdk.Refusal
	if errors.As(err, &refused) {
		fmt.Fprintf(c, "refused %s\n", refused.Reason)
		return
	}
	var mu sync.Mutex
	leg, err := adm.Offer(sdk.Offer{Caller: "+4912345"}, func(f *sdk.Frame) {
		mu.Lock()
		defer mu.Unlock()
		c.Write(f.Payload)
	})
	if err != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		frame := make([]byte, 160)
		for seq := uint32(0); ; seq++ {
			if _, err := io.ReadFull(in, frame); err != nil {
				return
			}
			if frame[0] == 1 {
				leg.Write(sdk.Frame{Kind: sdk.DTMF, Payload: sdk.DTMFPayload(nil, frame[1], 0)})
				continue
			}
			leg.Write(sdk.Frame{Sequence: seq, Timestamp: seq * 160, Payload: frame})
		}
	}()
	end := sdk.Ending{Termination: sdk.Termination{Who: sdk.Caller, Reason: sdk.ReasonHangup, Q850: 16}}
	select {
	case <-leg.Answered():
		mu.Lock()
		fmt.Fprintln(c, "answered")
		mu.Unlock()
		select {
		case f := <-leg.Finished():
			fmt.Fprintf(c, "finish %s %s\n", f.Result, f.Target)
			end.Termination = f.Termination
		case <-gone:
		}
	case f := <-leg.Finished():
		fmt.Fprintf(c, "finish %s %s\n", f.Result, f.Target)
		end.Termination = f.Termination
	case <-gone:
	}
	leg.End(end)
}

func main() { sdk.Serve(&dialer{}) }
