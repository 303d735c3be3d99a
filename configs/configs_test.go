// Package configs holds no code: its test keeps the configuration files beside
// it loadable and in agreement with the schema.
package configs

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/patchbay/patchbay/core/config"
)

func TestFilesLoad(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configuration files here: %v", err)
	}
	schema := compile(t)
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(name, config.Options{Environ: []string{
				"ADMIN_TOKEN=an-admin-token-for-a-test", "DEMO_SECRET=a-demo-secret-for-a-test",
			}})
			if err != nil {
				t.Errorf("%v", err)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := yaml.Unmarshal(data, &value); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Errorf("the schema disagrees: %v", err)
			}
		})
	}
}

// TestReferenceNeedsOnlyTheSecretsItNames keeps its first comment true.
func TestReferenceNeedsOnlyTheSecretsItNames(t *testing.T) {
	_, err := config.Load("patchbay.yaml", config.Options{Environ: []string{}})
	var errs config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v, want one error for each variable", err)
	}
	got := map[string]string{}
	for _, e := range errs {
		got[e.Key] = e.Problem
	}
	want := map[string]string{
		"admin.token":        `the environment variable "ADMIN_TOKEN" is not set`,
		"apps[0].secrets[0]": `the environment variable "DEMO_SECRET" is not set`,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got\n%v\nwant %v", err, want)
	}
}

func TestSchemaIsTheOneCoreKnows(t *testing.T) {
	data, err := os.ReadFile("patchbay.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != config.Schema() {
		t.Error("patchbay.schema.json is not core/config/schema.json; copy that file here")
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(config.Schema())))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
