package sim

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/patchbay/patchbay/plugins/smartassist/sim/rtpwire"
	"github.com/patchbay/patchbay/plugins/smartassist/sim/sipmsg"
	"github.com/patchbay/patchbay/sdk/media/wav"
)

const usageText = `usage: sim [flags]

A SIP bot: answers calls, speaks, listens, hangs up or transfers, and reports
what the caller did wrong. It runs until it is interrupted, or until --calls N
calls have ended.

Example: answer after a second, play a file, record the caller, and after ten
seconds hand over to the agents' queue:

  sim --listen 127.0.0.1:5070 --answer-after 1s --play prompt.wav \
      --record caller.wav --hangup-after 10s \
      --bye-header "X-Queue-Name: agents" --calls 1 --expect rtp.lost=0

Exit code: 0 all is well; 1 a call broke a rule or was not as expected; 2 wrong usage.

Flags:
`

// command is the parsed command line.
type command struct {
	opts    Options
	calls   int
	timeout time.Duration
	json    bool
	ladder  bool
	record  string
	expect  []expectation

	advertise, cert, key, selfSigned, play, codec, reinvite string
}

// errUsage marks a command line that cannot be obeyed.
var errUsage = errors.New("wrong usage")

func parseFlags(args []string, stderr io.Writer) (*command, error) {
	c := &command{}
	fs := flag.NewFlagSet("sim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		_, _ = io.WriteString(stderr, usageText)
		fs.PrintDefaults()
	}
	c.wireFlags(fs)
	c.behaviourFlags(fs)
	c.reportFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%w: unexpected %q; flags begin with --", errUsage, fs.Arg(0))
	}
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return c, nil
}

func (c *command) wireFlags(fs *flag.FlagSet) {
	o := &c.opts
	fs.StringVar(&o.Listen, "listen", "127.0.0.1:5070", "`address` for SIP over UDP and TCP")
	fs.StringVar(&o.TLSListen, "tls-listen", "", "`address` for SIP over TLS")
	fs.StringVar(&c.cert, "cert", "", "TLS certificate, a PEM `file`")
	fs.StringVar(&c.key, "key", "", "its private key, a PEM `file`")
	fs.StringVar(&c.selfSigned, "tls-self-signed", "", "make a certificate, and write its authority to `dir`/ca.pem")
	fs.StringVar(&c.advertise, "advertise", "", "`address` in Contact and SDP (default: the listening one)")
	fs.IntVar(&o.MaxCalls, "max-calls", 0, "`calls` at the same time, above it 503; 0: no limit")
	fs.DurationVar(&o.T1, "t1", defaultT1, "SIP timer T1, from which all SIP timers follow")
	fs.DurationVar(&o.Linger, "linger", defaultLinger, "how long an ended call is watched for late packets")
}

func (c *command) behaviourFlags(fs *flag.FlagSet) {
	b := &c.opts.Behaviour
	fs.DurationVar(&b.AnswerAfter, "answer-after", 0, "time from INVITE to 200")
	fs.BoolVar(&b.Ring, "ring", false, "send 180")
	fs.BoolVar(&b.EarlyMedia, "early-media", false, "send 183 with SDP and start RTP at once")
	fs.BoolVar(&b.NoProvisional, "no-provisional", false, "send no 100")
	fs.BoolVar(&b.Silent, "silent", false, "never answer anything, as a dead host")
	fs.BoolVar(&b.CrossCancel, "cross-cancel", false, "answer 200 to the INVITE although CANCEL came")
	fs.BoolVar(&b.RecordRoute, "record-route", false, "send Record-Route and watch that it is obeyed")
	fs.StringVar(&c.codec, "codec", "pcmu,pcma", "codecs in the bot's `order`")
	fs.IntVar(&b.Refuse, "refuse", 0, "answer the INVITE with this `code`")
	fs.Func("refuse-header", "`header` \"Name: value\" on the refusal; repeatable", headerFlag(&b.RefuseHeaders))
	fs.Func("answer-header", "`header` \"Name: value\" on the 200 and on REFER; repeatable", headerFlag(&b.ExtraHeaders))
	fs.StringVar(&c.play, "play", "", "8 kHz mono WAV `file` to play, then silence")
	fs.BoolVar(&b.Echo, "echo", false, "send back what comes in")
	fs.Func("dtmf", "send a `key` at a time after the answer, as 1s:5; repeatable", digitFlag(&b.DTMF))
	fs.DurationVar(&b.HangupAfter, "hangup-after", 0, "send BYE this long after the answer")
	fs.StringVar(&b.HangupOnDTMF, "hangup-on-dtmf", "", "send BYE when the caller presses one of these `keys`")
	fs.Func("bye-header", "`header` \"Name: value\" on BYE; repeatable", headerFlag(&b.ByeHeaders))
	fs.StringVar(&b.Refer, "refer", "", "transfer the caller by REFER to this `uri`")
	fs.DurationVar(&b.ReferAfter, "refer-after", time.Second, "when, after the answer")
	fs.DurationVar(&b.ReinviteAt, "reinvite", 0, "send a re-INVITE this long after the answer")
	fs.StringVar(&c.reinvite, "reinvite-kind", "same", "`kind` of re-INVITE: same, nosdp, hold, move")
	fs.DurationVar(&b.Ping, "ping", 0, "send OPTIONS to the caller in this interval")
}

func (c *command) reportFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.record, "record", "", "write what was received to this WAV `file`; from the second call on FILE-2.wav and so on")
	fs.IntVar(&c.calls, "calls", 0, "exit when this many `calls` have ended; 0: run until interrupted")
	fs.DurationVar(&c.timeout, "timeout", 0, "give up after this time; 0: never")
	fs.BoolVar(&c.json, "json", false, "one JSON line per call")
	fs.BoolVar(&c.ladder, "ladder", true, "list the messages of each call in the table")
	fs.Func("expect", "what each call has to be, as rtp.lost=0, digits=12# or rtp.gaps<=2 (`field` of the JSON account); repeatable", func(s string) error {
		e, err := parseExpectation(s)
		c.expect = append(c.expect, e)
		return err
	})
}

func headerFlag(to *[]sipmsg.Header) func(string) error {
	return func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		h := sipmsg.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)}
		if !ok || h.Name == "" || strings.ContainsAny(s, "\r\n\x00") || strings.ContainsAny(h.Name, " \t") {
			return fmt.Errorf("header %q: want \"Name: value\"", s)
		}
		*to = append(*to, h)
		return nil
	}
}

// digitFlag reads TIME:KEYS[/DURATION]; several keys follow one another.
func digitFlag(to *[]Digit) func(string) error {
	return func(s string) error {
		when, keys, ok := strings.Cut(s, ":")
		at, err := time.ParseDuration(when)
		if !ok || err != nil || at < 0 {
			return fmt.Errorf("dtmf %q: want TIME:KEY, as 1s:5", s)
		}
		keys, long, given := strings.Cut(keys, "/")
		var d time.Duration
		if given {
			if d, err = time.ParseDuration(long); err != nil || d <= 0 {
				return fmt.Errorf("dtmf %q: duration %q", s, long)
			}
		}
		for i := range len(keys) {
			if _, ok := rtpwire.Code(keys[i]); !ok {
				return fmt.Errorf("dtmf %q: %q is no key", s, keys[i])
			}
			*to = append(*to, Digit{At: at, Key: keys[i], Duration: d})
		}
		return nil
	}
}

// complete turns the flags that need work into options.
func (c *command) complete() error {
	o := &c.opts
	var err error
	if c.advertise != "" {
		if o.Advertise, err = netip.ParseAddr(c.advertise); err != nil {
			return fmt.Errorf("--advertise: %w", err)
		}
	}
	o.Codecs = strings.Split(c.codec, ",")
	if o.ReinviteAt > 0 {
		o.Reinvite = ReinviteKind(c.reinvite)
	}
	if c.play != "" {
		if o.Play, err = readWAV(c.play); err != nil {
			return fmt.Errorf("--play: %w", err)
		}
	}
	o.KeepPackets = c.record != ""
	if o.TLSListen == "" {
		return nil
	}
	switch {
	case c.selfSigned != "":
		host, _, _ := net.SplitHostPort(o.TLSListen)
		o.TLS, err = SelfSigned(c.selfSigned, host, c.advertise)
	case c.cert != "" && c.key != "":
		var pair tls.Certificate
		pair, err = tls.LoadX509KeyPair(c.cert, c.key)
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	default:
		return errors.New("--tls-listen needs --cert and --key, or --tls-self-signed")
	}
	if err != nil {
		return fmt.Errorf("--tls-listen: %w", err)
	}
	return nil
}

func readWAV(path string) ([]byte, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read wav: %w", err)
	}
	f, err := wav.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	ulaw, err := f.MuLaw8k()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return ulaw, nil
}
