package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/patchbay/patchbay/core/config"
)

const valid = `
admin: {token: "${file:token.txt}"}
limits: {max_call_duration: 1d12h, silence_timeout: 500ms1s}
records: {rotate: 1GiB}
plugins:
  in-gress:
    env: {API_KEY: "${env:APP_SECRET}"}
    config: {listen: "127.0.0.1:1", trunk: {password: "${env:APP_SECRET}", targets: [a, "b"], port: 5060, on: true, none: , cost: "$${x}"}}
  out: {command: [node, out.js], auto_mtls: false, instances: 2}
apps:
  - {name: demo, app_id: cs-1, secrets: ["${env:APP_SECRET}"], bots: ["*"], accounts: [a], numbers: ["+1 734*"]}
routes:
  - from: in-gress
    to: out
    match: {app: demo}
    headers: {X-Id: "{{.interaction_id}}"}
    outcomes:
      - {when: {header: {name: X-Queue}}, result: escalate, target: "{{.header}}", variables: {summary: "{{.headers.X-Summary}}"}}
    default_target: agents
    default_result: ok
`

func parse(t *testing.T, text string, o config.Options) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), o)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return c
}

func TestValuesArrive(t *testing.T) {
	c := parse(t, strings.Replace(valid, "500ms1s", "90s", 1), options())
	if got := c.Limits.MaxCallDuration; got != 36*time.Hour {
		t.Errorf("max_call_duration = %v", got)
	}
	if c.Limits.MaxCalls != 1000 || c.Admin.Listen != "127.0.0.1:8080" || c.Node.Name != "gw-test" {
		t.Errorf("defaults are missing: %+v", c)
	}
	if got := c.Records.Rotate; got != 1<<30 {
		t.Errorf("rotate = %v", got)
	}
	if got := c.Admin.Token.Reveal(); got != secretValue {
		t.Errorf("token from a file = %q", got)
	}
	in, out := c.Plugins["in-gress"], c.Plugins["out"]
	if in.Plugin != "in-gress" || !in.AutoMTLS || in.Instances != 1 || in.Env["API_KEY"].Reveal() != secretValue {
		t.Errorf("instance in-gress = %+v", in)
	}
	if out.Plugin != "" || out.AutoMTLS || out.Instances != 2 {
		t.Errorf("instance out = %+v", out)
	}
	var got any
	if err := json.Unmarshal(in.Config.JSON(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"listen": "127.0.0.1:1", "trunk": map[string]any{
		"password": secretValue, "targets": []any{"a", "b"}, "port": 5060.0, "on": true, "none": nil, "cost": "${x}",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plugin section (-want +got):\n%s", diff)
	}
	app, found := c.App("demo")
	if !found || app.Auth != config.AuthJWT || app.MaxCalls != 100 || app.Numbers[0].String() != "+1734*" {
		t.Errorf("app = %+v", app)
	}
}

func TestEnvironmentAndFlags(t *testing.T) {
	text := strings.Replace(valid, "500ms1s", "90s", 1)
	o := options()
	o.Environ = append(o.Environ,
		"PATCHBAY_LIMITS__MAX_CALLS=7", "PATCHBAY_ADMIN__ALLOW_PLAIN=true", "PATCHBAY_LIMITS__DRAIN_TIMEOUT=2m",
		"PATCHBAY_PLUGINS__IN_GRESS__CONFIG__TRUNK__PORT=5070", "PATCHBAY_PLUGINS__IN_GRESS__CONFIG__LISTEN=99",
		"PATCHBAY_PLUGINS__IN_GRESS__ENV__MORE=x", "PATCHBAY_LOG__LEVEL=debug", "PATCHBAY_OWN=1", "PATH=/bin")
	o.IgnoreEnv = []string{"PATCHBAY_OWN"}
	o.Flags = map[string]string{"log.level": "warn"}
	c := parse(t, text, o)
	if c.Limits.MaxCalls != 7 || !c.Admin.AllowPlain || c.Limits.DrainTimeout != 2*time.Minute {
		t.Errorf("overrides are missing: %+v %+v", c.Limits, c.Admin)
	}
	if c.Log.Level != "warn" {
		t.Errorf("log.level = %q, want the flag's", c.Log.Level)
	}
	plugin := c.Plugins["in-gress"]
	if got := string(plugin.Config.JSON()); !strings.Contains(got, `"port":5070`) || !strings.Contains(got, `"listen":"99"`) {
		t.Errorf("plugin section = %s", got)
	}
	if plugin.Env["MORE"].Reveal() != "x" {
		t.Error("a new variable of a plugin is missing")
	}

	o.Environ = []string{
		"APP_SECRET=" + secretValue,
		"PATCHBAY_LIMITS__MAX_CALLS=many", "PATCHBAY_LIMITS__MAX_CALL=1", "PATCHBAY_APPS__0__NAME=x", "PATCHBAY_ADMIN=1",
		"PATCHBAY_PLUGINS__NEW__PLUGIN=x", "PATCHBAY_ADMIN__TOKEN=tiny",
	}
	o.Flags = map[string]string{"log.levle": "info"}
	_, err := config.Parse([]byte(text), o)
	var errs config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v, want Errors", err)
	}
	got := strings.Split(errs.Error(), "\n")
	slices.Sort(got)
	want := []string{
		"PATCHBAY_ADMIN: admin: is not a single value: variables and flags set single values; write it in the file",
		"PATCHBAY_ADMIN__TOKEN: admin.token: is shorter than 16 characters: use a longer one, such as the output of: openssl rand -hex 24",
		"PATCHBAY_APPS__0__NAME: apps.0: apps is a list: variables and flags set single values; write it in the file",
		"PATCHBAY_LIMITS__MAX_CALL: limits.max_call: is not a key of the configuration: did you mean max_calls?",
		"PATCHBAY_LIMITS__MAX_CALLS: limits.max_calls: is text, want a whole number: write digits without quotes",
		"PATCHBAY_PLUGINS__NEW__PLUGIN: plugins.new: is not a key of the configuration: known here: in-gress, out",
		"command line (log.levle): log.levle: is not a key of the configuration: did you mean level?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	c := parse(t, strings.Replace(valid, "500ms1s", "90s", 1), options())
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("dump", "config", c, "token", c.Admin.Token, "section", c.Plugins["in-gress"].Config)
	slog.New(slog.NewTextHandler(&log, nil)).Info("dump", "config", *c, "apps", c.Apps)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(map[string]any{"token": c.Admin.Token, "plugin": c.Plugins["in-gress"]})
	if err != nil {
		t.Fatal(err)
	}
	s := c.Apps[0].Secrets[0]
	printed := fmt.Sprintf("%v %+v %#v %s %q %x %d", s, c.Apps, c.Apps[0].Secrets, s, s, s, s) +
		fmt.Sprint(c.Plugins, &s) + log.String() + string(asJSON) + string(asYAML)
	hex := fmt.Sprintf("%x", secretValue)
	if strings.Contains(printed, secretValue) || strings.Contains(printed, hex) {
		t.Errorf("a secret was printed:\n%s", printed)
	}
	if !strings.Contains(printed, "[hidden]") {
		t.Error("nothing shows that a secret is there")
	}
}

func TestTemplates(t *testing.T) {
	values := config.Values{
		Parameters: map[string]string{"interaction_id": "i-1", "call-id": "c-1", "name": " Ann ", "header": "from the URL"},
		Header:     "Billing",
		Headers:    map[string]string{"x-summary": "said so", "X-Plain": "p"},
	}
	tests := []struct{ template, want string }{
		{"plain", "plain"},
		{"{{.interaction_id}}", "i-1"},
		{"{{.nothing}}", ""},
		{"a-{{ .call-id }}-b", "a-c-1-b"},
		{"{{.header}}", "Billing"},
		{"{{.headers.X-Summary}}/{{.headers.x-plain}}/{{.headers.None}}", "said so/p/"},
		{"{{trim .name | upper}}", "ANN"},
		{`{{default "x.y-z" .nothing}}`, "x.y-z"},
		{`{{if eq .header "Billing"}}b{{else}}o{{end}}`, "b"},
		{`{{index . "call-id"}}`, "c-1"},
	}
	for _, tt := range tests {
		tmpl, err := config.ParseTemplate(tt.template)
		if err != nil {
			t.Errorf("%s: %v", tt.template, err)
			continue
		}
		if got, err := tmpl.Render(values); got != tt.want || err != nil {
			t.Errorf("%s = %q, %v; want %q", tt.template, got, err, tt.want)
		}
	}
	for _, bad := range []string{
		"{{", "{{.a", "{{nothing .a}}", "{{range .}}{{end}}", "{{with .a}}{{end}}", "{{$x := .a}}", "{{printf `%9d` 1}}", "{{.}}",
		`{{define "x"}}{{end}}`, `{{template "value"}}`, "{{html .a}}", "{{call .a}}", "{{len .a}}", strings.Repeat("x", 1025),
	} {
		if _, err := config.ParseTemplate(bad); err == nil {
			t.Errorf("%.40s is accepted", bad)
		}
	}
	long, err := config.ParseTemplate("{{.a}}{{.a}}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.Render(config.Values{Parameters: map[string]string{"a": strings.Repeat("x", 600)}}); err == nil {
		t.Error("a text of 1200 bytes was rendered")
	}
}

func TestUnits(t *testing.T) {
	durations := map[string]time.Duration{"30s": 30 * time.Second, "90d": 2160 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1.5h": 90 * time.Minute}
	for text, want := range durations {
		if got, err := config.ParseDuration(text); got != want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "30", "-1s", "+1s", "d", "1d-1h", "999999d", "1 h", "106751d23h59m"} {
		if got, err := config.ParseDuration(bad); err == nil {
			t.Errorf("ParseDuration(%q) = %v", bad, got)
		}
	}
	sizes := map[string]config.Size{"100MB": 100e6, "1GiB": 1 << 30, "0B": 0, "64 KB": 64e3, "12B": 12}
	for text, want := range sizes {
		if got, err := config.ParseSize(text); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "100", "MB", "-1MB", "1mb", "99999999999999TB", "1.5GB"} {
		if got, err := config.ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %v", bad, got)
		}
	}
}

func TestChanges(t *testing.T) {
	text := strings.Replace(valid, "500ms1s", "90s", 1)
	before := parse(t, text, options())
	if again := parse(t, "# a comment\n"+text, options()); !config.Equal(before, again) || config.Changes(before, again) != nil {
		t.Error("the same configuration counts as changed")
	}
	tests := []struct {
		name, from, to string
		restart        []string
	}{
		{"an app's number", "+1 734*", "+1 735*", nil},
		{"a header's template", "{{.interaction_id}}", "{{.call_id}}", nil},
		{"a plugin's section", "port: 5060", "port: 5061", []string{"plugins.in-gress.config"}},
		{"a plugin's command", "out.js", "other.js", []string{"plugins.out.command"}},
		{"a plugin more", "plugins:\n", "plugins:\n  more: {}\n", []string{"plugins.more"}},
		{"several", "records: {rotate: 1GiB}", "records: {rotate: 2GiB}\nnode: {name: x}\nplugin_dir: y", []string{"node.name", "plugin_dir", "records"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := parse(t, strings.Replace(text, tt.from, tt.to, 1), options())
			if config.Equal(before, after) {
				t.Error("Equal, though something changed")
			}
			if diff := cmp.Diff(tt.restart, config.Changes(before, after)); diff != "" {
				t.Errorf("needs a restart (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSchemaAgreesWithStructs walks both: a key in one and not in the other
// would be refused by an editor and taken by the gateway, or the reverse.
func TestSchemaAgreesWithStructs(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(config.Schema()), &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, typ reflect.Type, s map[string]any)
	walk = func(at string, typ reflect.Type, s map[string]any) {
		switch typ.Kind() {
		case reflect.Pointer:
			walk(at, typ.Elem(), s)
		case reflect.Slice:
			items, ok := s["items"].(map[string]any)
			if !ok {
				t.Errorf("%s: a list without items in the schema", at)
				return
			}
			walk(at+"[]", typ.Elem(), items)
		case reflect.Map:
			more, ok := s["additionalProperties"].(map[string]any)
			if !ok {
				t.Errorf("%s: a map without additionalProperties in the schema", at)
				return
			}
			walk(at+".*", typ.Elem(), more)
		case reflect.Struct:
			keys := map[string]reflect.Type{}
			for f := range typ.Fields() {
				if key := f.Tag.Get("koanf"); key != "" {
					keys[key] = f.Type
				}
			}
			if len(keys) == 0 {
				return // a secret, a pattern, a template: text in the file
			}
			properties, ok := s["properties"].(map[string]any)
			if !ok || s["additionalProperties"] != false {
				t.Errorf("%s: the schema must list its keys and no others", at)
				return
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(properties))); diff != "" {
				t.Errorf("%s: keys (-structs +schema):\n%s", at, diff)
			}
			for key, typ := range keys {
				property, _ := properties[key].(map[string]any)
				if property["description"] == nil {
					t.Errorf("%s.%s has no description in the schema", at, key)
				}
				walk(at+"."+key, typ, property)
			}
		default:
			if s["properties"] != nil || s["items"] != nil {
				t.Errorf("%s: a single value is a section or list in the schema", at)
			}
		}
	}
	walk("", reflect.TypeFor[config.Config](), schema)
}
