package sim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/patchbay/patchbay/sdk/media/wav"
)

const usage = `Usage: talkdesk sim [flags] URL

Streams a caller's audio into a stream URL as Talkdesk does, plays what comes back in real time, and reports on the call.
URL is ws:// or wss://; - reads it from standard input, so that its token stays out of the process list.

Example:
  patchbay url new --app demo --number +17345550100 --bot st-demo --account demo-account |
    patchbay sim talkdesk --play caller.wav --record heard.wav --dtmf 1500ms:12# --expect 'escalate → agents' -

Exit status: 0 done; 1 the call failed, broke the protocol or differs from --expect; 2 used wrongly.

Flags:
`

// settings is a command line taken apart.
type settings struct {
	opt    Options
	record string
	expect string
	json   bool
}

// parse reads args; its error is flag.ErrHelp, or says what is wrong with them. out takes the help text.
func parse(args []string, stdin io.Reader, out, trace io.Writer) (*settings, error) {
	c := &settings{opt: Options{Params: map[string]string{}, Header: http.Header{}}}
	o := &c.opt
	var raw rawFlags
	fs := flag.NewFlagSet("talkdesk sim", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.callFlags(fs, &raw)
	c.peerFlags(fs, &raw)
	names, err := parseMixed(fs, args)
	if errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(out)
		_, err = io.WriteString(out, usage)
		fs.PrintDefaults()
		return nil, errors.Join(flag.ErrHelp, err)
	}
	if err != nil {
		return nil, err
	}
	if len(names) != 1 {
		return nil, fmt.Errorf("%d URLs; name one stream URL, or - to read it from standard input", len(names))
	}
	if o.URL, err = streamURL(names[0], stdin); err != nil {
		return nil, err
	}
	if raw.trace {
		o.Trace = trace
	}
	return c, raw.apply(o)
}

// rawFlags are flags that need more than parsing.
type rawFlags struct {
	play, caFile, commands string
	insecure, trace        bool
	frameMS                int
	dtmfGap                time.Duration
	prebuffer, linger      time.Duration
}

// callFlags are the flags about the call.
func (c *settings) callFlags(fs *flag.FlagSet, raw *rawFlags) {
	o := &c.opt
	fs.StringVar(&raw.play, "play", "", "play this WAV `file` (8 kHz mono: µ-law, A-law or 16-bit); silence follows it")
	fs.BoolVar(&o.Loop, "loop", false, "play the file over and over")
	fs.StringVar(&c.record, "record", "", "write what the caller heard to this WAV `file`")
	fs.Func("dtmf", "press digits at a time of the call, as in `1500ms:12#`; may be repeated", keysFlag(o))
	fs.DurationVar(&raw.dtmfGap, "dtmf-gap", 200*time.Millisecond, "time between two digits")
	fs.Func("param", "add or replace `key=value` in start's customParameters; may be repeated", func(v string) error {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return errors.New("write it as key=value")
		}
		o.Params[key] = value
		return nil
	})
	fs.DurationVar(&o.HangupAfter, "hangup-after", 0, "hang up after this long")
	fs.Func("hangup-mode", "how hanging up looks: `stop-close` (default), stop or close", choice(&o.Hangup, map[string]HangupMode{
		"stop-close": HangupStopClose, "stop": HangupStop, "close": HangupClose,
	}))
	fs.DurationVar(&o.DropAfter, "drop-after", 0, "cut the TCP connection after this long, without stop or close frame")
	fs.BoolVar(&o.DropReset, "drop-reset", false, "cut by a TCP reset, not by a FIN")
	fs.DurationVar(&o.Timeout, "timeout", 5*time.Minute, "give the call up after this long; 0 never")
	fs.IntVar(&raw.frameMS, "frame-ms", 20, "milliseconds of audio in a message")
	fs.DurationVar(&o.Jitter, "jitter", 0, "send frames late by a random amount up to this, in bursts")
	fs.Func("stall", "hold all frames for a while, as in `2s:300ms` (from, how long); may be repeated", stallFlag(o))
	fs.Uint64Var(&o.Seed, "seed", 1, "what the random lateness is drawn from")
	fs.StringVar(&c.expect, "expect", "", "fail unless the call has this `outcome`: ok, error, escalate, 'escalate → GROUP', hangup, dropped, 'refused 401', …")
	fs.BoolVar(&c.json, "json", false, "report in JSON")
	fs.BoolVar(&raw.trace, "trace", false, "print each message but audio to standard error as it passes")
}

// peerFlags are the flags about the platform and the connection.
func (c *settings) peerFlags(fs *flag.FlagSet, raw *rawFlags) {
	o := &c.opt
	fs.StringVar(&raw.caFile, "ca-file", "", "trust the certificates in this PEM `file` and no others")
	fs.BoolVar(&raw.insecure, "insecure", false, "do not check the gateway's certificate")
	fs.Func("header", "add `name:value` to the upgrade request, as a proxy would; may be repeated", func(v string) error {
		name, value, ok := strings.Cut(v, ":")
		if !ok || name == "" {
			return errors.New("write it as name:value")
		}
		o.Header.Add(name, strings.TrimSpace(value))
		return nil
	})
	fs.StringVar(&o.StreamSID, "stream-sid", "", "the stream's `id` (default random)")
	fs.StringVar(&o.CallSID, "call-sid", "", "the telephony call's `id` (default random)")
	fs.StringVar(&o.AccountSID, "account-sid", defaultAccount, "the platform account's `id`")
	fs.DurationVar(&raw.prebuffer, "prebuffer", defaultPrebuffer, "audio the platform holds before it starts to play")
	fs.StringVar(&raw.commands, "commands", "ok,error,escalate", "the `words` of stop.command for the three exits")
	fs.Func("after-stop", "after the gateway's stop: `close` (default), echo (send stop, then close) or wait (for the gateway to close)",
		choice(&o.AfterStop, map[string]AfterStop{"close": AfterStopClose, "echo": AfterStopEcho, "wait": AfterStopWait}))
	fs.DurationVar(&raw.linger, "linger", defaultLinger, "how long to go on reading after the gateway's stop")
	fs.DurationVar(&o.CloseWait, "close-wait", defaultCloseWait, "how long to wait for the gateway's close frame")
	fs.IntVar(&o.Faults.FragmentSize, "fragment", 0, "split messages into WebSocket fragments of this many `bytes`")
	fs.Func("fault", "misbehave: `ignore-pings`, binary, numbers, no-stream-sid or no-media; may be repeated", faultFlag(&o.Faults))
}

// apply turns what was collected into o.
func (raw *rawFlags) apply(o *Options) error {
	words := strings.Split(raw.commands, ",")
	if len(words) != 3 || words[0] == "" || words[1] == "" || words[2] == "" {
		return fmt.Errorf("--commands %q; name three words with commas between them", raw.commands)
	}
	o.Commands = Commands{OK: words[0], Error: words[1], Escalate: words[2]}
	if raw.frameMS < 1 || raw.frameMS > 1000 {
		return fmt.Errorf("--frame-ms %d; use 1 to 1000", raw.frameMS)
	}
	o.Ptime = time.Duration(raw.frameMS) * time.Millisecond
	if raw.dtmfGap <= 0 {
		return fmt.Errorf("--dtmf-gap %v; it must be above zero", raw.dtmfGap)
	}
	for i := range o.DTMF {
		o.DTMF[i].Gap = raw.dtmfGap
	}
	// Zero is a value here, and the default in Options.
	o.Prebuffer, o.Linger = orNone(raw.prebuffer), orNone(raw.linger)
	if o.CloseWait <= 0 {
		return fmt.Errorf("--close-wait %v; it must be above zero", o.CloseWait)
	}
	var err error
	if o.TLS, err = tlsConfig(raw.caFile, raw.insecure); err != nil {
		return err
	}
	if raw.play != "" {
		o.Play, err = readWAV(raw.play)
	}
	return err
}

func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// parseMixed parses flags before, between and behind the arguments, which it returns.
func parseMixed(fs *flag.FlagSet, args []string) ([]string, error) {
	var names []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			return names, nil
		}
		names, args = append(names, fs.Arg(0)), fs.Args()[1:]
	}
}

// streamURL returns arg, or the line on stdin when arg is "-".
func streamURL(arg string, stdin io.Reader) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(stdin, most))
	if err != nil {
		return "", fmt.Errorf("read the URL from standard input: %w", err)
	}
	u := strings.TrimSpace(string(raw))
	if u == "" {
		return "", errors.New("no URL on standard input")
	}
	return u, nil
}

func keysFlag(o *Options) func(string) error {
	return func(v string) error {
		at, digits, ok := strings.Cut(v, ":")
		if !ok {
			return errors.New("write it as 1500ms:12#")
		}
		d, err := time.ParseDuration(at)
		if err != nil {
			return fmt.Errorf("read the time: %w", err)
		}
		k := Keys{At: d, Digits: strings.ToUpper(digits)}
		o.DTMF = append(o.DTMF, k)
		return k.check()
	}
}

func stallFlag(o *Options) func(string) error {
	return func(v string) error {
		at, length, ok := strings.Cut(v, ":")
		if !ok {
			return errors.New("write it as 2s:300ms")
		}
		from, err := time.ParseDuration(at)
		if err != nil {
			return fmt.Errorf("read its begin: %w", err)
		}
		lasts, err := time.ParseDuration(length)
		if err != nil {
			return fmt.Errorf("read its length: %w", err)
		}
		o.Stalls = append(o.Stalls, Stall{At: from, For: lasts})
		return nil
	}
}

func faultFlag(f *Faults) func(string) error {
	return func(v string) error {
		field, ok := map[string]*bool{
			"ignore-pings": &f.IgnorePings, "binary": &f.Binary, "numbers": &f.NumbersAsNumbers,
			"no-stream-sid": &f.NoStreamSID, "no-media": &f.NoMedia,
		}[v]
		if !ok {
			return errors.New("there is no such fault")
		}
		*field = true
		return nil
	}
}

func choice[T any](field *T, words map[string]T) func(string) error {
	return func(v string) error {
		value, ok := words[v]
		if !ok {
			return errors.New("there is no such choice")
		}
		*field = value
		return nil
	}
}

func tlsConfig(caFile string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // asked for by --insecure
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // the user's own file
	if err != nil {
		return nil, fmt.Errorf("read --ca-file: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca-file %s holds no PEM certificate", caFile)
	}
	return config, nil
}

func readWAV(path string) (ulaw []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // the user's own file
	if err != nil {
		return nil, fmt.Errorf("open --play: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sound, err := wav.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read --play %s: %w", path, err)
	}
	if ulaw, err = sound.MuLaw8k(); err != nil {
		return nil, fmt.Errorf("use --play %s: %w", path, err)
	}
	return ulaw, nil
}
