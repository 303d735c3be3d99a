package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/core/config"
)

const pluginSchema = `{
  "type": "object", "additionalProperties": false, "required": ["listen", "advertise"],
  "properties": {
    "listen": {"type": "string"}, "advertise": {"type": "string"},
    "mode": {"enum": ["latch", "strict"]},
    "trunk": {"$ref": "#/$defs/trunk"}
  },
  "$defs": {"trunk": {"type": "object", "additionalProperties": false, "properties": {
    "targets": {"type": "array", "items": {"type": "string", "pattern": "^sip:"}},
    "password": {"type": "string", "maxLength": 8},
    "port": {"type": "integer", "minimum": 1}
  }}}
}`

const pluginText = `plugins:
  out:
    config:
      listen: 5060
      mode: latched
      trunk:
        targets:
          - sip:a
          - b
        password: "${env:APP_SECRET}"
        port: 0
        traget: x
`

func lines(errs []config.Error) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func TestCheckPlugin(t *testing.T) {
	c := parse(t, pluginText, options())
	errs := c.CheckPlugin("out", []byte(pluginSchema))
	want := []string{
		"patchbay.yaml:3:5: plugins.out.config.advertise: is missing: the plugin needs it",
		"patchbay.yaml:4:15: plugins.out.config.listen: got number, want string: put it in quotes",
		"patchbay.yaml:5:13: plugins.out.config.mode: is not one of the values allowed here: use one of: latch, strict",
		"patchbay.yaml:9:13: plugins.out.config.trunk.targets[1]: does not have the form ^sip:: write it in that form",
		"patchbay.yaml:10:19: plugins.out.config.trunk.password: is longer than 8 characters: write a shorter value",
		"patchbay.yaml:11:15: plugins.out.config.trunk.port: is too small: use at least 1",
		"patchbay.yaml:12:9: plugins.out.config.trunk.traget: unknown key: did you mean targets?",
	}
	if diff := cmp.Diff(want, lines(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if errs := c.CheckPlugin("out", []byte(`{"type": "object"}`)); errs != nil {
		t.Errorf("a fitting section has errors: %v", errs)
	}
}

func TestCheckPluginNamesTheVariable(t *testing.T) {
	o := options()
	o.Environ = append(o.Environ, "PATCHBAY_PLUGINS__OUT__CONFIG__TRUNK__PORT=-1")
	c := parse(t, strings.Replace(pluginText, "port: 0", "port: 1", 1), o)
	var found bool
	for _, line := range lines(c.CheckPlugin("out", []byte(pluginSchema))) {
		found = found || line == "PATCHBAY_PLUGINS__OUT__CONFIG__TRUNK__PORT: plugins.out.config.trunk.port: is too small: use at least 1"
	}
	if !found {
		t.Error("the error does not name the variable")
	}
}

func TestCheckPluginBadSchema(t *testing.T) {
	c := parse(t, pluginText, options())
	for _, schema := range []string{"", "not json", `{"type": 5}`, `{"$ref": "file:///etc/passwd"}`, `{"$ref": "https://example.com/x"}`} {
		errs := c.CheckPlugin("out", []byte(schema))
		if len(errs) != 1 || errs[0].Mend != "report it to the plugin's author" {
			t.Errorf("schema %q: %v", schema, errs)
		}
	}
	if errs := c.CheckPlugin("uot", nil); len(errs) != 1 || errs[0].Mend != "did you mean out?" {
		t.Errorf("an unknown instance: %v", errs)
	}
}

func TestFieldError(t *testing.T) {
	c := parse(t, pluginText, options())
	tests := []struct{ pointer, want string }{
		{"/trunk/targets/1", "patchbay.yaml:9:13: plugins.out.config.trunk.targets[1]: bad: mend it"},
		{"/trunk/targets/7", "patchbay.yaml:7:9: plugins.out.config.trunk.targets[7]: bad: mend it"},
		{"/none/~0a~1b", "patchbay.yaml:3:5: plugins.out.config.none.~a/b: bad: mend it"},
		{"", "patchbay.yaml:4:7: plugins.out.config: bad: mend it"},
	}
	for _, tt := range tests {
		if got := c.FieldError("out", tt.pointer, "bad", "mend it").Error(); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.pointer, got, tt.want)
		}
	}
	got := c.FieldError("out", "/trunk/password", "the server refused "+secretValue, "two\nlines").Error()
	if strings.Contains(got, secretValue) || strings.Contains(got, "\n") {
		t.Errorf("a plugin's text is not cleaned: %s", got)
	}
}
