package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patchbay/patchbay/configs/harness"
)

// BotCall is what the simulated bot says about one call.
type BotCall struct {
	Transport  string      `json:"transport"`
	FromUser   string      `json:"from_user"`
	RequestURI string      `json:"request_uri"`
	Headers    []BotHeader `json:"headers"` // X- headers of the INVITE
	Codec      string      `json:"codec"`
	Answered   bool        `json:"answered"`
	Acked      bool        `json:"acked"`
	Status     int         `json:"status"`
	Cancelled  bool        `json:"cancelled"`
	Byes       int         `json:"byes"` // received
	Reason     string      `json:"reason"`
	Ended      string      `json:"ended"`
	DurationMS float64     `json:"duration_ms"`
	Digits     string      `json:"digits"`
	Violations []string    `json:"violations"`
	RTP        struct {
		Audio          int `json:"audio"` // packets of sound
		TimestampSteps int `json:"timestamp_steps"`
		SSRCs          int `json:"ssrcs"`
	} `json:"rtp"`
}

// BotHeader is one header.
type BotHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Header is the value of the INVITE's header of that name, "" when there is none.
func (c *BotCall) Header(name string) string {
	for _, h := range c.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// BotReport is all the simulated bot has seen.
type BotReport struct {
	Calls      []BotCall
	Violations []string // of no call
}

// Bot is a running simulated bot.
type Bot struct {
	*harness.Process
	Address    string // SIP over UDP and TCP
	TLSAddress string // empty without TLS
	CAFile     string // certificate to trust for TLSAddress
	Recording  string // what it hears, when it was told to record
}

// StartBot starts `smartassist sim` with args at a free address and waits until it listens.
func StartBot(ctx, life context.Context, b *harness.Binaries, args ...string) (*Bot, error) {
	address, err := FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return StartBotAt(ctx, life, b, address, args...)
}

// StartBotAt is StartBot at a given address.
func StartBotAt(ctx, life context.Context, b *harness.Binaries, address string, args ...string) (*Bot, error) {
	bot := &Bot{Address: address}
	if i := slices.Index(args, "--record"); i >= 0 && i+1 < len(args) {
		bot.Recording = args[i+1]
	}
	var err error
	if bot.Process, err = b.Sim(life, "smartassist", append([]string{"--listen", bot.Address}, args...)...); err != nil {
		return nil, err
	}
	if err := AwaitListener(ctx, bot.Process, bot.Address); err != nil {
		return nil, errors.Join(fmt.Errorf("start the bot: %w", err), bot.Signal(os.Kill))
	}
	return bot, nil
}

// StartTLSBot is StartBot with TLS besides, under a certificate of the bot's own that it leaves in dir.
func StartTLSBot(ctx, life context.Context, b *harness.Binaries, dir string, args ...string) (*Bot, error) {
	address, err := FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	bot, err := StartBot(ctx, life, b, append([]string{"--tls-listen", address, "--tls-self-signed", dir}, args...)...)
	if err != nil {
		return nil, err
	}
	bot.TLSAddress, bot.CAFile = address, filepath.Join(dir, "ca.pem")
	return bot, AwaitListener(ctx, bot.Process, address)
}

// Report ends the bot and returns its report. That it found fault with the gateway, and so exits with 1, is no error.
func (b *Bot) Report(ctx context.Context) (*BotReport, error) {
	err := b.Stop(ctx)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, err
	}
	var r BotReport
	if r.Calls, err = harness.JSONLines[BotCall](bytes.NewReader(b.Stdout())); err != nil {
		return nil, fmt.Errorf("read the bot's report: %w", err)
	}
	for line := range strings.Lines(string(b.Stderr())) {
		if _, what, found := strings.Cut(line, "outside of calls: "); found {
			r.Violations = append(r.Violations, strings.TrimSpace(what))
		}
	}
	return &r, nil
}
