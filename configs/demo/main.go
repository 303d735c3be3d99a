// Command demo places one real call through the gateway: a simulated Talkdesk streams a recorded caller, a simulated
// SmartAssist answers and speaks, digits are pressed, and the bot hands the call to an agent. It prints what happened
// and exits 0 only if all of it is as it should be. With --serve it runs the gateway for trying things by hand.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// limit bounds the whole demonstration.
	limit = 55 * time.Second
	// attempts is how often the call is placed on a machine that cannot keep time.
	attempts = 2
)

func main() { os.Exit(run()) }

func run() int {
	serving := flag.Bool("serve", false, "run the gateway until Ctrl-C, in place of the demonstration call")
	config := flag.String("config", demoConfig, "with --serve: the configuration `file`; the simulated bot runs beside this one only")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: %q: there are flags only, see --help\n", flag.Arg(0))
		return 2
	}
	if *serving {
		return serve(*config)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for attempt := 1; ; attempt++ {
		show, err := perform(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			return 1
		}
		show.print(os.Stdout)
		reasons := show.wrong()
		if len(reasons) == 0 {
			fmt.Println("\nEverything arrived.")
			return 0
		}
		fmt.Println("\nFAILED:")
		for _, r := range reasons {
			fmt.Println("  -", r)
		}
		if attempt == attempts || !show.stalled() {
			return 1
		}
		fmt.Println("\nThis machine stood still for a moment, which no 20 ms frame outlives. Once more.")
	}
}
