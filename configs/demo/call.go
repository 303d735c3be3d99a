package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay/patchbay/configs/e2e/stage"
	"github.com/patchbay/patchbay/configs/harness"
)

const (
	demoConfig  = "configs/demo.yaml"
	callerSound = "configs/demo/caller.wav"
	botSound    = "configs/demo/bot.wav"
	outFolder   = "var/demo"

	number      = "+17345550100"
	digits      = "42719" // the last one ends the call
	endDigit    = "9"
	queue       = "agents"
	answerAfter = 300 * time.Millisecond
)

// performance is the demonstration call and all that is known about it.
type performance struct {
	dir             string
	callerSays      []byte // µ-law
	botSays         []byte
	callerHeard     string // recordings
	botHeard        string
	caller          *stage.CallerReport
	bot             *stage.BotReport
	record          stage.Record
	toBot, toCaller harness.Result
	faults          []string // what went wrong with the programs
}

// perform runs the call to its end, and everything it started with it.
func perform(ctx context.Context) (_ *performance, err error) {
	p, err := prepare()
	if err != nil {
		return nil, err
	}
	b, err := harness.Find(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Remove()) }()

	// What is still running when something fails is interrupted by the end of life, and waited for.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var running []*harness.Process
	defer func() {
		end()
		for _, r := range running {
			<-r.Done()
		}
	}()
	bot, err := stage.StartBot(ctx, life, b, "--answer-after", answerAfter.String(), "--play", botSound,
		"--record", p.botHeard, "--hangup-on-dtmf", endDigit, "--bye-header", "X-Queue-Name: "+queue)
	if err != nil {
		return nil, err
	}
	running = append(running, bot.Process)
	config, err := configuration(ctx, bot.Address)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(p.dir, "gateway.log"))
	if err != nil {
		return nil, fmt.Errorf("keep the gateway's log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	g, err := harness.StartGateway(ctx, life, b, config, harness.Options{Dir: p.dir, Echo: log})
	if err != nil {
		return nil, err
	}
	running = append(running, g.Process)
	return p, p.call(ctx, b, g, bot)
}

// prepare reads what is said and makes an empty folder for what is heard.
func prepare() (*performance, error) {
	dir, err := filepath.Abs(outFolder)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", outFolder, err)
	}
	p := &performance{dir: dir, callerHeard: filepath.Join(dir, "caller-heard.wav"), botHeard: filepath.Join(dir, "bot-heard.wav")}
	if p.callerSays, err = harness.ReadULaw(callerSound); err != nil {
		return nil, fmt.Errorf("%w; run the demo in the repository's top folder", err)
	}
	if p.botSays, err = harness.ReadULaw(botSound); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear away the last demonstration: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make a folder for the recordings: %w", err)
	}
	return p, nil
}

// configuration is the demo's file with ports that are free here and now, and the records in the demo's folder.
func configuration(ctx context.Context, bot string) (string, error) {
	raw, err := os.ReadFile(demoConfig)
	if err != nil {
		return "", fmt.Errorf("read the demo's configuration: %w", err)
	}
	stream, err := stage.FreeAddress(ctx)
	if err != nil {
		return "", err
	}
	text := string(raw)
	for old, now := range map[string]string{
		"127.0.0.1:8443":  stream,
		"127.0.0.1:8080":  "127.0.0.1:0",
		"127.0.0.1:15060": "127.0.0.1:0",
		"127.0.0.1:5070":  bot,
	} {
		if !strings.Contains(text, old) {
			return "", fmt.Errorf("%s does not name %s any more: the demo would not know which port to change", demoConfig, old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	return text + "\nrecords: {path: records.jsonl}\n", nil
}

// call places the call and gathers what everybody says about it.
func (p *performance) call(ctx context.Context, b *harness.Binaries, g *harness.Gateway, bot *stage.Bot) error {
	pids, err := stage.PIDs(ctx, g)
	if err != nil {
		return err
	}
	url, err := stage.StreamURL(ctx, b, filepath.Join(p.dir, "patchbay.yaml"),
		"--app", "demo", "--number", number, "--bot", "st-demo", "--account", "demo-account")
	if err != nil {
		return err
	}
	fmt.Printf("calling %s; this takes about %d seconds …\n", number, int(p.speech().Seconds()+3))
	// The keys are pressed when everybody has finished: on the bot's side a key takes the place of the sound.
	p.caller, err = stage.Call(ctx, b, url, "--play", callerSound, "--record", p.callerHeard,
		"--dtmf", fmt.Sprintf("%s:%s", p.speech(), digits))
	if err != nil {
		return err
	}
	all, err := harness.Records[stage.Record](ctx, g, "records.jsonl", 1)
	if err != nil {
		return err
	}
	p.record = all[0]
	if err = g.Drain(ctx); err != nil {
		p.fault("the gateway does not end well on SIGTERM: %v", err)
	}
	if p.bot, err = bot.Report(ctx); err != nil {
		return err
	}
	if err = stage.Gone(ctx, append(pids, bot.PID())...); err != nil {
		p.fault("%v", err)
	}
	return p.listen()
}

// speech is how long it takes until everything is said.
func (p *performance) speech() time.Duration {
	samples := max(len(p.callerSays), len(p.botSays)+int(answerAfter/time.Millisecond)*8)
	return (time.Duration(samples)*time.Second/8000 + 600*time.Millisecond).Round(100 * time.Millisecond)
}

// listen compares both recordings with what was said.
func (p *performance) listen() error {
	for _, way := range []struct {
		said []byte
		file string
		into *harness.Result
	}{{p.callerSays, p.botHeard, &p.toBot}, {p.botSays, p.callerHeard, &p.toCaller}} {
		heard, err := harness.ReadULaw(way.file)
		if err != nil {
			return err
		}
		*way.into = harness.CompareULaw(way.said, stage.Align(way.said, heard, stage.Fill), stage.Fill)
	}
	return nil
}

func (p *performance) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}
