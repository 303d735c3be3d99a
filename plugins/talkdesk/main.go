package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/patchbay/patchbay/plugins/talkdesk/sim"
	"github.com/patchbay/patchbay/sdk"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sim" {
		os.Exit(simulate(os.Args[2:]))
	}
	sdk.Serve(new(provider))
}

// simulate runs the simulated platform until it is done or interrupted.
func simulate(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return sim.Main(ctx, args, os.Stdout, os.Stderr)
}
