package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the absolute reading of the clock that time.Since measures with.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		// Only a sandbox that forbids the call comes here; stamps then still agree within this process.
		return time.Now().UnixNano()
	}
	return ts.Nano()
}
