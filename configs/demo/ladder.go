package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

// laneWidth is how many characters lie between two of the ladder's posts.
const laneWidth = 34

// print writes the ladder and the figures. Nobody can be told when standard output fails.
func (p *performance) print(w io.Writer) {
	ladder(w, &p.record)
	r := &p.record
	fmt.Fprintf(w, "\noutcome   %s → %s, ended by the %s (%s), after %v of talk; keys %s pressed, %s received\n",
		r.Result, r.Target, r.Who, r.Reason, time.Duration(r.TalkMS)*time.Millisecond, digits, p.keys())
	figures(w, "caller → bot", &r.ToEgress, p.toBot)
	figures(w, "bot → caller", &r.ToIngress, p.toCaller)
	fmt.Fprintf(w, "\nrecordings\n  %s\n  %s\n", relative(p.callerHeard), relative(p.botHeard))
}

func (p *performance) keys() string {
	if len(p.bot.Calls) == 0 {
		return "none"
	}
	return p.bot.Calls[0].Digits
}

func figures(w io.Writer, name string, d *stage.Direction, r harness.Result) {
	fmt.Fprintf(w, "\n%s\n", name)
	row := func(what, format string, args ...any) {
		fmt.Fprintf(w, "  %-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	row("sound", "%v", r)
	row("delay", "first socket to core p50 %.2f ms, p99 %.2f ms; first socket to last p50 %.1f ms, p99 %.1f ms",
		d.DelayToCore.P50, d.DelayToCore.P99, d.DelayToLeave.P50, d.DelayToLeave.P99)
	row("network", "%d frames, %d lost, %d late, jitter %.2f ms", d.Frames, d.Lost, d.Late, d.JitterMS)
	row("filled in", "%d frames", d.Fills)
	row("dropped", "%s", drops(d.Drops))
}

// ladder writes the signalling of both legs in the order of time, an arrow for each message.
func ladder(w io.Writer, r *stage.Record) {
	events := slices.Clone(r.Events)
	slices.SortStableFunc(events, func(a, b stage.Event) int { return a.At.Compare(b.At) })
	fmt.Fprintf(w, "\n%9s  %-*s%-*s%s\n", "ms", laneWidth-2, "Talkdesk", laneWidth+2, "gateway", "SmartAssist")
	blank := strings.Repeat(" ", laneWidth)
	for _, e := range events {
		left, right := blank, blank
		switch e.Leg {
		case "ingress":
			left = arrow(e.Text, !e.Outbound)
		case "egress":
			right = arrow(e.Text, e.Outbound)
		default:
			left = fmt.Sprintf(" %-*s", laneWidth-1, shorten(e.Text, laneWidth-1))
		}
		fmt.Fprintf(w, "%9.1f  │%s│%s│\n", float64(e.At.Sub(r.Admitted).Microseconds())/1000, left, right)
	}
}

// arrow is one message on its way between two posts.
func arrow(text string, toRight bool) string {
	text = shorten(text, laneWidth-6)
	line := strings.Repeat("─", max(2, laneWidth-5-utf8.RuneCountInString(text)))
	if toRight {
		return fmt.Sprintf(" %s %s▶ ", text, line)
	}
	return fmt.Sprintf(" ◀%s %s ", line, text)
}

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// relative is the path as seen from here, where that is shorter.
func relative(path string) string {
	here, err := filepath.Abs(".")
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil {
		return rel
	}
	return path
}
