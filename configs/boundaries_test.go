package configs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is the path all packages begin with, read from go.mod so that renaming the module needs no change here.
func module(t *testing.T) string {
	t.Helper()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(mod), "\n")
	path, ok := strings.CutPrefix(first, "module ")
	if !ok {
		t.Fatalf("go.mod begins with %q", first)
	}
	return path
}

// pkg is what `go list -json` says about a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listed(t *testing.T) []pkg {
	t.Helper()
	// -e: a package that does not compile is another test's business.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// mayImport is the rule: from and to are package paths below the module. Tests obey it like all other code, and since
// it holds for each single import it holds for what is imported indirectly.
func mayImport(from, to string) bool {
	part, rest, _ := strings.Cut(to, "/")
	switch {
	case part == "sdk":
		return true
	case strings.HasPrefix(from, "sdk/") || from == "sdk":
		return false
	case strings.HasPrefix(from, "core/"):
		return part == "core"
	case strings.HasPrefix(from, "plugins/"):
		name, _, _ := strings.Cut(strings.TrimPrefix(from, "plugins/"), "/")
		return part == "plugins" && (rest == name || strings.HasPrefix(rest, name+"/"))
	case from == "configs": // the configuration files are checked with core's loader
		return to == "core/config"
	}
	return part == "configs" // the harness and what uses it reach the rest as programs
}

func TestBoundariesImports(t *testing.T) {
	prefix := module(t) + "/"
	packages := listed(t)
	if len(packages) == 0 {
		t.Fatal("no packages found")
	}
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, prefix)
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if to, ours := strings.CutPrefix(path, prefix); ours && to != from && !mayImport(from, to) {
				t.Errorf("%s imports %s: sdk knows sdk only, core knows sdk, a plugin knows sdk and itself", from, to)
			}
		}
	}
}

func TestBoundariesRule(t *testing.T) {
	for _, test := range []struct {
		from, to string
		want     bool
	}{
		{"sdk/engine", "sdk/media/wav", true},
		{"sdk", "core/config", false},
		{"sdk/sdktest", "plugins/one", false},
		{"core/router", "core/config", true},
		{"core/router", "sdk", true},
		{"core/router", "plugins/one", false},
		{"core/router", "configs/harness", false},
		{"plugins/one", "sdk", true},
		{"plugins/one", "plugins/one/sim", true},
		{"plugins/one/sim", "plugins/one/sim/wire", true},
		{"plugins/one", "plugins/onetwo", false},
		{"plugins/one", "plugins/two", false},
		{"plugins/one", "core/config", false},
		{"configs/harness", "core/config", false},
		{"configs/demo", "configs/harness", true},
		{"configs", "core/config", true},
	} {
		if got := mayImport(test.from, test.to); got != test.want {
			t.Errorf("%s imports %s: allowed %v, want %v", test.from, test.to, got, test.want)
		}
	}
}

// providers are the names no line of core and sdk may hold: the plugins' folders, and the company behind one of them.
func providers(t *testing.T) *regexp.Regexp {
	t.Helper()
	folders, err := os.ReadDir("../plugins")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"kore"}
	for _, f := range folders {
		if f.IsDir() {
			names = append(names, regexp.QuoteMeta(f.Name()))
		}
	}
	return regexp.MustCompile(`(?i)` + strings.Join(names, "|"))
}

func TestBoundariesNames(t *testing.T) {
	named := providers(t)
	for _, root := range []string{"../core", "../sdk"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if named.MatchString(d.Name()) {
				t.Errorf("%s: the name of a provider", path)
			}
			if !d.Type().IsRegular() || !slices.Contains([]string{".go", ".proto", ".md", ".json", ".yaml"}, filepath.Ext(path)) {
				return nil
			}
			return eachLine(path, func(n int, line string) {
				if found := named.FindString(line); found != "" {
					t.Errorf("%s:%d: names the provider %q: %s", path, n, found, strings.TrimSpace(line))
				}
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func eachLine(path string, visit func(n int, line string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		visit(n, lines.Text())
	}
	return lines.Err()
}

// The top level holds these folders and no other that git would take.
func TestBoundariesTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"core", "plugins", "sdk", "configs", "bin", "var"} // the last two are in .gitignore
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("folder %s at the top level", e.Name())
		}
	}
}
