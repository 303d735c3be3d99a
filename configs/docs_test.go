package configs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/patchbay/patchbay/core/config"
)

// These tests keep the documents true: what README.md, ARCHITECTURE.md, CONTRIBUTING.md and the plugins' READMEs name
// must be there.

// notConfiguration is the comment in the line before a fence whose YAML is not the gateway's.
const notConfiguration = "<!-- not a configuration -->"

// code is a piece of a document that is set as code.
type code struct {
	line int
	lang string // of a fence; "" for a span
	text string
	skip bool // marked by notConfiguration
}

// document is a Markdown file taken apart.
type document struct {
	path  string
	code  []code
	links []code // text is the destination
}

var (
	spanPattern = regexp.MustCompile("`([^`]+)`")
	linkPattern = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func parseDocument(path, text string) document {
	d := document{path: path}
	var fence *code
	previous := ""
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		lang, isFence := strings.CutPrefix(trimmed, "```")
		switch {
		case isFence && fence == nil:
			fence = &code{line: i + 1, lang: lang, skip: previous == notConfiguration}
		case isFence:
			d.code = append(d.code, *fence)
			fence = nil
		case fence != nil:
			fence.text += line + "\n"
		default:
			for _, m := range spanPattern.FindAllStringSubmatch(line, -1) {
				d.code = append(d.code, code{line: i + 1, text: m[1]})
			}
			for _, m := range linkPattern.FindAllStringSubmatch(spanPattern.ReplaceAllString(line, ""), -1) {
				d.links = append(d.links, code{line: i + 1, text: m[1]})
			}
		}
		previous = trimmed
	}
	return d
}

func documents(t *testing.T) []document {
	t.Helper()
	paths := []string{"../README.md", "../ARCHITECTURE.md", "../CONTRIBUTING.md"}
	for _, pattern := range []string{"../plugins/*/README.md", "*/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	var all []document
	for _, path := range paths {
		all = append(all, parseDocument(path, read(t, path)))
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eachCode calls check for every piece of code and reports what it finds wrong.
func eachCode(t *testing.T, check func(code) []string) {
	t.Helper()
	for _, d := range documents(t) {
		for _, c := range d.code {
			for _, problem := range check(c) {
				t.Errorf("%s:%d: %s", d.path, c.line, problem)
			}
		}
	}
}

func TestDocsLinks(t *testing.T) {
	for _, d := range documents(t) {
		for _, l := range d.links {
			target, _, _ := strings.Cut(l.text, "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(d.path), target)); err != nil {
				t.Errorf("%s:%d: the link leads nowhere: %v", d.path, l.line, err)
			}
		}
	}
}

// Every YAML block loads; a fragment is completed with what the demo has.
func TestDocsYAMLLoads(t *testing.T) {
	demo := read(t, "demo.yaml")
	blocks := 0
	eachCode(t, func(c code) []string {
		if c.lang != "yaml" && c.lang != "yml" || c.skip {
			return nil
		}
		blocks++
		return configurationProblems(t, c.text, demo)
	})
	if blocks == 0 {
		t.Error("no document shows a configuration")
	}
}

var variablePattern = regexp.MustCompile(`\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}`)

func configurationProblems(t *testing.T, text, demo string) []string {
	t.Helper()
	var block, rest map[string]any
	if err := yaml.Unmarshal([]byte(text), &block); err != nil {
		return []string{err.Error()}
	}
	if err := yaml.Unmarshal([]byte(demo), &rest); err != nil {
		t.Fatal(err)
	}
	if block["plugins"] == nil || block["apps"] == nil || block["routes"] == nil {
		complete(block, rest)
		whole, err := yaml.Marshal(block)
		if err != nil {
			t.Fatal(err)
		}
		text = string(whole)
	}
	environ := []string{}
	for _, m := range variablePattern.FindAllStringSubmatch(text, -1) {
		environ = append(environ, m[1]+"=a-secret-for-a-test-of-documents")
	}
	cfg, err := config.Parse([]byte(text), config.Options{Environ: environ})
	if err != nil {
		return []string{err.Error()}
	}
	return pluginProblems(t, cfg)
}

// complete adds to a what only b has.
func complete(a, b map[string]any) {
	for key, theirs := range b {
		ours, has := a[key]
		if !has {
			a[key] = theirs
			continue
		}
		m, isMap := ours.(map[string]any)
		if n, both := theirs.(map[string]any); isMap && both {
			complete(m, n)
		}
	}
}

// pluginProblems checks the blocks of our own plugins against the schemas they bring.
func pluginProblems(t *testing.T, cfg *config.Config) []string {
	t.Helper()
	var problems []string
	for instance, p := range cfg.Plugins {
		if len(p.Command) > 0 {
			continue // somebody else's
		}
		name := p.Plugin
		if name == "" {
			name = instance
		}
		for _, e := range cfg.CheckPlugin(instance, []byte(read(t, "../plugins/"+name+"/config.schema.json"))) {
			problems = append(problems, e.Error())
		}
	}
	return problems
}

var (
	functionPattern = regexp.MustCompile(`([\w./-]+\.go):([A-Za-z_][\w.]*)`)
	pathPattern     = regexp.MustCompile(`^(core|sdk|plugins|configs)(/[\w.*-]+)+/?$`)
)

// Every path and every file.go:Function that is set as code exists.
func TestDocsNameWhatExists(t *testing.T) {
	parsed := map[string]map[string]bool{}
	named := 0
	eachCode(t, func(c code) []string {
		named += len(functionPattern.FindAllString(c.text, -1))
		return existenceProblems(c, parsed)
	})
	if named < 50 {
		t.Errorf("the documents name %d functions: is the pattern still theirs?", named)
	}
}

func existenceProblems(c code, parsed map[string]map[string]bool) []string {
	var problems []string
	if c.lang == "" && pathPattern.MatchString(c.text) {
		if found, err := filepath.Glob("../" + c.text); err != nil || len(found) == 0 {
			problems = append(problems, c.text+" does not exist")
		}
	}
	for _, m := range functionPattern.FindAllStringSubmatch(c.text, -1) {
		file, name := m[1], m[2]
		functions, known := parsed[file]
		if !known {
			var err error
			if functions, err = functionsOf("../" + file); err != nil {
				problems = append(problems, err.Error())
				continue
			}
			parsed[file] = functions
		}
		if !functions[name] {
			problems = append(problems, file+" has no function "+name)
		}
	}
	return problems
}

// functionsOf lists a file's functions, methods as Type.Method.
func functionsOf(path string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil && len(f.Recv.List) == 1 {
			name = typeName(f.Recv.List[0].Type) + "." + name
		}
		out[name] = true
	}
	return out, nil
}

// typeName is the name in *T, T[P] and T.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// TestDocsChecksFind shows the checks a document full of faults.
func TestDocsChecksFind(t *testing.T) {
	const text = "See `core/nowhere.go` and `configs/docs_test.go:Gone`, `configs/docs_test.go:parseDocument`.\n" +
		"Run `make nothing VAR=1`, `patchbay fly`, `patchbay run --wings`, `patchbay sim talkdesk --any`.\n" +
		"```yaml\nroutes:\n  - {from: talkdesk, to: nobody, default_result: ok}\n```\n" +
		notConfiguration + "\n```yaml\nother: 1\n```\n" +
		"```yaml\nplugins:\n  talkdesk:\n    config: {liste: 1}\n```\n"
	d := parseDocument("x.md", text)
	got := map[int]int{} // problems by line
	root := commandTree(t)
	for _, c := range d.code {
		found := existenceProblems(c, map[string]map[string]bool{})
		found = append(found, makeProblems(c, map[string]bool{"test": true})...)
		_, more := commandProblems(c, root)
		found = append(found, more...)
		if c.lang == "yaml" && !c.skip {
			found = append(found, configurationProblems(t, c.text, read(t, "demo.yaml"))...)
		}
		if len(found) > 0 {
			got[c.line] += len(found)
		}
	}
	if diff := cmp.Diff(map[int]int{1: 2, 2: 3, 3: 1, 11: 1}, got); diff != "" {
		t.Errorf("problems by line (-want +got):\n%s", diff)
	}
}
