// Package stage puts a call on: it finds free ports, starts the simulators as the programs an operator would start,
// reads what they and the gateway report, and lines recordings up for the comparison. The demo and the end-to-end tests
// share it.
package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/patchbay/patchbay/configs/harness"
)

// pollEvery is how often a state that nothing announces is asked for.
const pollEvery = 20 * time.Millisecond

// Fill is what stands in for missing audio: µ-law silence.
const Fill = 0xFF

// FreeAddress is an address of the loopback at which neither TCP nor UDP is in use now.
func FreeAddress(ctx context.Context) (string, error) {
	const attempts = 20
	var lc net.ListenConfig
	var last error
	for range attempts {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("find a free port: %w", err)
		}
		address := l.Addr().String()
		u, err := lc.ListenPacket(ctx, "udp", address)
		if last = err; err == nil {
			last = u.Close()
		}
		if err := errors.Join(last, l.Close()); err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("find a port free for tcp and udp: %w", last)
}

// AwaitListener waits until something accepts TCP connections at address, or p has ended.
func AwaitListener(ctx context.Context, p *harness.Process, address string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-p.Done():
			return fmt.Errorf("wait for %s: the program has ended: %w", address, p.Wait(ctx))
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", address, err)
		}
	}
}

// Poll asks until yes says so; what it gets as an error meanwhile is reported when ctx ends first.
func Poll(ctx context.Context, yes func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := yes()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// StreamURL has `patchbay url new` make a stream URL from the configuration in file.
func StreamURL(ctx context.Context, b *harness.Binaries, file string, args ...string) (string, error) {
	p, err := harness.Start(ctx, harness.Command{
		Path: b.Patchbay(),
		Args: append([]string{"url", "new", "--config", file}, args...),
		Env:  []string{"PATCHBAY_PLUGIN_DIR=" + b.PluginDir()},
	})
	if err != nil {
		return "", err
	}
	if err := p.Wait(ctx); err != nil {
		return "", fmt.Errorf("make a stream URL: %w", err)
	}
	return strings.TrimSpace(string(p.Stdout())), nil
}

// Gone waits until none of the processes is left.
func Gone(ctx context.Context, pids ...int) error {
	var left []int
	err := Poll(ctx, func() (bool, error) {
		left = left[:0]
		for _, pid := range pids {
			if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				left = append(left, pid)
			}
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("processes %v are left: %w", left, err)
	}
	return nil
}

// PIDs are the process ids of the gateway and its plugins.
func PIDs(ctx context.Context, g *harness.Gateway) ([]int, error) {
	plugins, err := g.Plugins(ctx)
	if err != nil {
		return nil, err
	}
	pids := []int{g.PID()}
	for _, p := range plugins {
		if p.PID > 0 {
			pids = append(pids, p.PID)
		}
	}
	return pids, nil
}
