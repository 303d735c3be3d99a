package host

import (
	"os/exec"
	"syscall"
)

// isolate puts the plugin into a process group of its own, so that a Ctrl-C at
// the terminal reaches core alone, which then drains.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
