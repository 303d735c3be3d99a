// Command patchbay is the gateway and everything an operator does with it.
package main

import (
	"context"
	"os"

	"github.com/patchbay/patchbay/core/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
