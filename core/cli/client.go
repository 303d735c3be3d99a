package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/patchbay/patchbay/core/config"
	"github.com/patchbay/patchbay/core/host"
)

// remote are the flags of commands that talk to a running gateway.
type remote struct {
	Admin string `help:"Admin URL of the gateway (default: admin.listen of the configuration)." env:"PATCHBAY_ADMIN" placeholder:"URL"`
	JSON  bool   `help:"Print JSON."`
}

// request asks the running gateway. The token comes from PATCHBAY_ADMIN_TOKEN,
// else from the configuration.
func (r remote) request(s *session, method, path string) ([]byte, error) {
	base, token := r.Admin, os.Getenv("PATCHBAY_ADMIN_TOKEN")
	if base == "" || token == "" {
		cfg, err := s.load(nil)
		if err != nil && base == "" {
			return nil, fmt.Errorf("where is the gateway? give --admin URL, or a configuration: %w", err)
		}
		if err == nil {
			base, token = cmp.Or(base, adminURL(cfg)), cmp.Or(token, cfg.Admin.Token.Reveal())
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+path, body)
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin %s: %w", base, err)}
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no gateway answers: %w: is it running, and is --admin right?", err)
	}
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer of the gateway: %w", err)
	}
	if res.StatusCode >= 300 {
		return nil, refusal(res.StatusCode, out)
	}
	return out, nil
}

// adminURL is where the gateway of this configuration listens.
func adminURL(cfg *config.Config) string {
	if cfg.Admin.TLS.CertFile != "" {
		return "https://" + cfg.Admin.Listen
	}
	return "http://" + cfg.Admin.Listen
}

func refusal(status int, body []byte) error {
	var problem struct{ Error string }
	if json.Unmarshal(body, &problem) == nil && problem.Error != "" {
		return errors.New(problem.Error)
	}
	return fmt.Errorf("the gateway answers %d %s", status, http.StatusText(status))
}

// tell sends an order and prints what came of it.
func (r remote) tell(s *session, method, path, done string) error {
	out, err := r.request(s, method, path)
	if err != nil {
		return err
	}
	if r.JSON {
		_, err = s.Out.Write(out)
		return err
	}
	_, err = fmt.Fprintln(s.Out, done)
	return err
}

type pluginsCommand struct{ remote }

// Help is the command's example.
func (pluginsCommand) Help() string { return "Example: patchbay plugins --admin http://127.0.0.1:8080" }

// Run lists the plugins.
func (c pluginsCommand) Run(s *session) error {
	out, err := c.request(s, http.MethodGet, "/api/v1/plugins")
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = s.Out.Write(out)
		return err
	}
	var list struct{ Plugins []host.Status }
	if err = json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("read answer of the gateway: %w", err)
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INSTANCE\tPROVIDER\tVERSION\tKIND\tSTATE\tPID\tRESTARTS\tLISTENS")
	for _, p := range list.Plugins {
		var addresses []string
		for _, a := range p.Addresses {
			addresses = append(addresses, a.Purpose+" "+a.Address)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", p.Instance, p.Name, p.Version, p.Kind, p.State, p.PID, p.Restarts, strings.Join(addresses, ", "))
		if p.LastError != "" {
			fmt.Fprintf(w, "\t%s\n", p.LastError)
		}
	}
	if err = w.Flush(); err != nil {
		return err
	}
	_, err = s.Out.Write(b.Bytes())
	return err
}

type drainCommand struct{ remote }

// Help is the command's example.
func (drainCommand) Help() string { return "Example: patchbay drain --config configs/patchbay.yaml" }

// Run begins the drain.
func (c drainCommand) Run(s *session) error {
	return c.tell(s, http.MethodPost, "/api/v1/drain", "draining: no new calls; the gateway ends with the last one")
}

type reloadCommand struct{ remote }

// Help is the command's example.
func (reloadCommand) Help() string { return "Example: patchbay reload --config configs/patchbay.yaml" }

// Run reloads.
func (c reloadCommand) Run(s *session) error {
	out, err := c.request(s, http.MethodPost, "/api/v1/reload")
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = s.Out.Write(out)
		return err
	}
	var answer struct {
		NeedsRestart []string `json:"needs_restart"`
	}
	if err = json.Unmarshal(out, &answer); err != nil {
		return fmt.Errorf("read answer of the gateway: %w", err)
	}
	fmt.Fprintln(s.Out, "reloaded: new calls follow the new configuration")
	for _, key := range answer.NeedsRestart {
		fmt.Fprintf(s.Out, "takes effect at the next start: %s\n", key)
	}
	return nil
}

type hangupCommand struct {
	remote
	CallID string `arg:"" name:"call-id" help:"The call's id, as GET /api/v1/calls and the log show it."`
}

// Help is the command's example.
func (hangupCommand) Help() string { return "Example: patchbay hangup 0198c0de-…" }

// Run ends the call.
func (c hangupCommand) Run(s *session) error {
	return c.tell(s, http.MethodDelete, "/api/v1/calls/"+url.PathEscape(c.CallID), "hanging up "+c.CallID)
}
