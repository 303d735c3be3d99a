package sim

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printCall writes the account of a call for people.
func printCall(w io.Writer, c *Call, ladder bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(tw, "  "+name+"\t"+format+"\n", args...) }
	_, _ = fmt.Fprintf(tw, "call %s\n", c.ID)
	row("ended", "%s", c.Ended)
	row("from", "%s over %s from %s", orDash(c.FromUser), c.Transport, c.Remote)
	row("to", "%s (%s)", c.RequestURI, c.To)
	for _, h := range c.Headers {
		row("header", "%s: %s", h.Name, h.Value)
	}
	row("codec", "%s of %v, telephone-event %d", orDash(c.Codec), c.PayloadTypes, c.EventPT)
	if c.Answered {
		row("answer", "after %.1f ms, ACK after %.1f ms (%d), %.1f s long", c.AnswerMS, c.AckMS, c.Acks, c.DurationMS/1000)
	} else {
		row("answer", "none, status %d, ACK seen %v", c.Status, c.Acked)
	}
	row("rtp in", "%d packets, %d lost, %d doubled, %d reordered, %d fill, %d ssrc, %d markers",
		c.RTP.Packets, c.RTP.Lost, c.RTP.Duplicates, c.RTP.Reordered, c.RTP.Fill, c.RTP.SSRCs, c.RTP.Markers)
	row("pacing in", "p50 %.1f ms, p99 %.1f ms, max %.1f ms, %d gaps, %d wrong timestamp steps, first after %.1f ms",
		c.RTP.P50, c.RTP.P99, c.RTP.Max, c.RTP.Gaps, c.RTP.TimestampSteps, c.RTP.FirstMS)
	row("rtcp in", "%d packets: %d SR, %d RR, %d BYE", c.RTCP.Packets, c.RTCP.SenderReports, c.RTCP.ReceiverReports, c.RTCP.Byes)
	row("rtp out", "%d packets, %d of the file, %d keys, own lateness at most %.1f ms", c.Sent.Packets, c.Sent.PlayFrames, c.Sent.Events, c.Sent.LateMaxMS)
	for _, e := range c.DTMF {
		row("dtmf", "%s for %.0f ms: %d packets, %d ends, marker %s, timestamp %s, duration %s",
			e.Digit, e.DurationMS, e.Packets, e.EndPackets, okText(e.MarkerOK), okText(e.TimestampOK), okText(e.DurationOK))
	}
	row("bye", "%d received, reason %s", c.Byes, orDash(c.Reason))
	printExchanges(row, c)
	for _, v := range c.Violations {
		row("VIOLATION", "%s", v)
	}
	if ladder {
		for _, s := range c.Ladder {
			arrow := "->"
			if s.Dir == "out" {
				arrow = "<-"
			}
			_, _ = fmt.Fprintf(tw, "  %9.1f ms\t%s %s\n", s.MS, arrow, s.Line)
		}
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func printExchanges(row func(name, format string, args ...any), c *Call) {
	if c.Refer != nil {
		row("refer", "%d, notified %s", c.Refer.Status, orDash(strings.Join(c.Refer.Notify, ", ")))
	}
	if c.Reinvite != nil {
		row("re-invite", "%d", c.Reinvite.Status)
	}
	if c.Pings != nil {
		row("options", "%d sent, %d answered 200", c.Pings.Sent, c.Pings.OK)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func okText(ok bool) string {
	if ok {
		return "ok"
	}
	return "WRONG"
}
