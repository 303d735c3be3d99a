//go:build !linux

package engine

import "time"

// monotonic stands in for CLOCK_MONOTONIC where it is not to be had.
func monotonic() int64 { return time.Now().UnixNano() }
