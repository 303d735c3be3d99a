// Package version says which build this is.
package version

import "runtime/debug"

// stamped is set by the linker (Makefile: -X …/core/version.stamped=…).
var stamped string

// String is the build's version: what the linker was told, else the module's.
func String() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
