package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay/patchbay/core/config"
)

const secretValue = "kept-secret-0123456789"

func options() config.Options {
	return config.Options{
		File:     "patchbay.yaml",
		Environ:  []string{"APP_SECRET=" + secretValue, "HOME=/root"},
		Hostname: "gw-test",
		ReadFile: func(name string) ([]byte, error) {
			if name == "token.txt" {
				return []byte(secretValue + "\n"), nil
			}
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		},
	}
}

// TestGolden checks each testdata/NAME.yaml against the errors it must give,
// in testdata/NAME.errors: all of them, in order, word for word.
func TestGolden(t *testing.T) {
	update := os.Getenv("UPDATE_GOLDEN") != ""
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Parse(data, options())
			var errs config.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v, want Errors", err)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".errors"
			if update {
				if writeErr := os.WriteFile(golden, []byte(errs.Error()+"\n"), 0o600); writeErr != nil {
					t.Fatal(writeErr)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), errs.Error()+"\n"); diff != "" {
				t.Errorf("errors of %s (-want +got):\n%s", name, diff)
			}
			if strings.Contains(errs.Error(), secretValue) {
				t.Error("a secret is in the errors")
			}
		})
	}
}
