// Smartassist is the egress plugin for Kore.ai SmartAssist: it places a call to a voice bot over a SIP trunk and
// carries its audio over RTP. README.md is its manual page.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/emiago/sipgo/sip"

	"github.com/patchbay/patchbay/plugins/smartassist/sim"
	"github.com/patchbay/patchbay/sdk"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sim" {
		os.Exit(simulate(os.Args[2:]))
	}
	// What sipgo does not log to the loggers it is given goes to its default; it quotes whole messages.
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
	sdk.Serve(newProvider(nil))
}

// simulate runs the simulated bot until it is done or interrupted.
func simulate(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return sim.Main(ctx, args, os.Stdout, os.Stderr)
}
