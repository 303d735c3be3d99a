package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/patchbay/patchbay/core/admission"
	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
	"github.com/patchbay/patchbay/sdk"
	pluginv1 "github.com/patchbay/patchbay/sdk/proto/patchbay/plugin/v1"
)

type urlCommand struct {
	New     urlNewCommand     `cmd:"" help:"Make a signed stream URL to paste into the platform."`
	Inspect urlInspectCommand `cmd:"" help:"Take a stream URL apart and say what the gateway would do with it."`
}

type urlNewCommand struct {
	App     string `help:"The app whose secret signs." required:""`
	Number  string `help:"The number to call: + and digits." required:""`
	Bot     string `help:"The bot's id (default: the app's only one)."`
	Account string `help:"The bot's account id (default: the app's only one)."`
	Expires string `help:"How long the token holds, e.g. 90d (default: for ever)."`
	From    string `help:"The ingress plugin instance (default: the only one that makes URLs)."`
	JSON    bool   `help:"Print JSON."`
}

// Help is the command's example.
func (urlNewCommand) Help() string {
	return "Example: patchbay url new --app demo --number +17345550100 --bot st-demo --account demo-account --expires 90d"
}

// Run prints the URL.
func (c urlNewCommand) Run(s *session) error {
	cfg, err := s.load(nil)
	if err != nil {
		return err
	}
	app, ok := cfg.App(c.App)
	if !ok {
		return usageError{fmt.Errorf("--app %s: the configuration has no such app", c.App)}
	}
	if cfg.Node.PublicURL == "" {
		return errors.New("node.public_url is not set: the URL's host is taken from it")
	}
	if c.Bot, err = only(c.Bot, app.Bots, "--bot"); err != nil {
		return err
	}
	if c.Account, err = only(c.Account, app.Accounts, "--account"); err != nil {
		return err
	}
	number, err := admission.NormalizeNumber(c.Number)
	if err != nil {
		return usageError{fmt.Errorf("--number: %w", err)}
	}
	var expires time.Duration
	if c.Expires != "" {
		if expires, err = config.ParseDuration(c.Expires); err != nil || expires <= 0 {
			return usageError{fmt.Errorf("--expires %s: want a length of time, e.g. 90d", c.Expires)}
		}
	}
	token, err := admission.Mint(time.Now(), app, admission.Claims{Number: number, Bot: c.Bot, Account: c.Account}, expires)
	if err != nil {
		return err
	}
	return c.build(s, cfg, token, number)
}

func (c urlNewCommand) build(s *session, cfg *config.Config, token, number string) error {
	p, err := urlPlugin(s, cfg, c.From)
	if err != nil {
		return err
	}
	defer p.Kill()
	out, err := p.Provider.BuildURL(s.ctx, &pluginv1.BuildURLRequest{
		Base: cfg.Node.PublicURL, Token: token, Number: number, Bot: c.Bot, Account: c.Account, Mode: sdk.ModeBot,
	})
	if err != nil {
		return fmt.Errorf("build URL: %w", err)
	}
	if c.JSON {
		return s.printJSON(map[string]string{"url": out.GetUrl()})
	}
	_, err = fmt.Fprintln(s.Out, out.GetUrl())
	return err
}

// only is the value given, else the one there is to choose from.
func only(given string, allowed []string, flag string) (string, error) {
	if given != "" {
		return given, nil
	}
	if len(allowed) == 1 && allowed[0] != "*" {
		return allowed[0], nil
	}
	return "", usageError{fmt.Errorf("%s is needed: the app allows %s", flag, strings.Join(allowed, ", "))}
}

// urlPlugin starts the ingress instance that makes URLs.
func urlPlugin(s *session, cfg *config.Config, from string) (*host.Process, error) {
	names := slices.Sorted(maps.Keys(cfg.Plugins))
	if from != "" {
		names = []string{from}
	}
	var errs []error
	for _, name := range names {
		p, err := startOne(s.ctx, cfg, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.Contains(p.Description.GetCapabilities(), "url") {
			return p, nil
		}
		p.Kill()
	}
	return nil, errors.Join(append([]error{errors.New("no plugin of the configuration makes stream URLs")}, errs...)...)
}

type urlInspectCommand struct {
	URL  string `arg:"" help:"The URL, or - to read it from standard input (it holds a token)."`
	From string `help:"The ingress plugin instance (default: the only one that makes URLs)."`
	JSON bool   `help:"Print JSON."`
}

// Help is the command's example.
func (urlInspectCommand) Help() string {
	return "Example: patchbay url inspect - < url.txt\n\nExits 0 when the gateway would take the call, else 1."
}

// inspection is what url inspect prints as JSON.
type inspection struct {
	URL      string            `json:"url"`
	Number   string            `json:"number"`
	Bot      string            `json:"bot"`
	Account  string            `json:"account"`
	Mode     string            `json:"mode"`
	Other    map[string]string `json:"other"`
	Problems []string          `json:"problems"`
	Findings []string          `json:"findings"`
	Admitted bool              `json:"admitted"`
}

// maxURL bounds what is read of standard input, in bytes.
const maxURL = 64 << 10

// Run takes the URL apart.
func (c urlInspectCommand) Run(s *session) error {
	cfg, err := s.load(nil)
	if err != nil {
		return err
	}
	if c.URL == "-" {
		var line string
		line, err = bufio.NewReader(io.LimitReader(s.In, maxURL)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read URL from standard input: %w", err)
		}
		if c.URL = strings.TrimSpace(line); c.URL == "" {
			return usageError{errors.New("no URL on standard input: write it there on one line")}
		}
	}
	p, err := urlPlugin(s, cfg, c.From)
	if err != nil {
		return err
	}
	defer p.Kill()
	out, err := p.Provider.ParseURL(s.ctx, &pluginv1.ParseURLRequest{Url: c.URL})
	if err != nil {
		return fmt.Errorf("take URL apart: %w", err)
	}
	verdict := admission.NewGate(cfg).Inspect(time.Now(), admission.Request{
		Ingress: p.Spec.Instance, Number: out.GetNumber(), Bot: out.GetBot(), Account: out.GetAccount(),
		Credential: admission.Credential{Kind: admission.CredentialJWT, Token: out.GetToken()},
		Mode:       out.GetMode(), Parameters: out.GetParameters(), Remote: netip.IPv6Loopback(),
	})
	return c.report(s, inspection{
		URL: out.GetMasked(), Number: out.GetNumber(), Bot: out.GetBot(), Account: out.GetAccount(), Mode: out.GetMode(),
		Other: out.GetParameters(), Problems: out.GetProblems(), Findings: verdict.Lines,
		Admitted: verdict.Admitted && len(out.GetProblems()) == 0,
	})
}

func (c urlInspectCommand) report(s *session, i inspection) error {
	if c.JSON {
		if err := s.printJSON(i); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.Out, "url      %s\nnumber   %s\nbot      %s\naccount  %s\nmode     %s\n", i.URL, i.Number, i.Bot, i.Account, i.Mode)
		for _, k := range slices.Sorted(maps.Keys(i.Other)) {
			fmt.Fprintf(s.Out, "         %s = %s\n", k, i.Other[k])
		}
		for _, p := range i.Problems {
			fmt.Fprintln(s.Out, "wrong:  ", p)
		}
		for _, l := range i.Findings {
			fmt.Fprintln(s.Out, "        ", l)
		}
	}
	if !i.Admitted {
		return errors.New("the gateway would refuse a call with this URL")
	}
	return nil
}
