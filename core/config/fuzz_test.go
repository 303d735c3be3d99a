package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay/patchbay/core/config"
)

// FuzzParse: any bytes are a configuration, or errors that all stand within
// the file, read as one line each and hold no secret's value.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(valid))
	f.Add([]byte(pluginText))
	f.Add([]byte("a: &a [*a, *a]\n<<: [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse(data, options())
		if err == nil {
			if !config.Equal(c, c) || config.Changes(c, c) != nil {
				t.Error("a configuration differs from itself")
			}
			for name := range c.Plugins {
				checkErrors(t, data, c.CheckPlugin(name, []byte(pluginSchema)))
			}
			return
		}
		var errs config.Errors
		if !errors.As(err, &errs) || len(errs) == 0 || c != nil {
			t.Fatalf("got %v and %v, want Errors alone", c, err)
		}
		checkErrors(t, data, errs)
	})
}

func checkErrors(t *testing.T, data []byte, errs []config.Error) {
	t.Helper()
	rows := bytes.Split(data, []byte("\n"))
	for _, e := range errs {
		// A lone CR ends a line for YAML too, hence the count of both.
		if e.Line < 1 || e.Line > len(rows)+bytes.Count(data, []byte("\r"))+bytes.Count(data, []byte("\u2028"))+bytes.Count(data, []byte("\u2029"))+bytes.Count(data, []byte("\u0085")) || e.Column < 1 {
			t.Errorf("%q stands outside of the file, which has %d lines", e.Error(), len(rows))
		}
		if e.Problem == "" || strings.ContainsAny(e.Error(), "\n\r") {
			t.Errorf("not one line that says what is wrong: %q", e.Error())
		}
		if strings.Contains(e.Error(), secretValue) && !bytes.Contains(data, []byte(secretValue)) {
			t.Errorf("a secret is in %q", e.Error())
		}
	}
}
