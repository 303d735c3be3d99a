package configs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// What the documents show as typed into a shell or read off /metrics must be there too.

// words splits code into commands of words: lines, parts of pipes, without comments and brackets.
func words(text string) [][]string {
	var out [][]string
	for line := range strings.Lines(text) {
		var command []string
		for w := range strings.FieldsSeq(line) {
			if strings.HasPrefix(w, "#") {
				break
			}
			if w == "|" || w == "&&" {
				out = append(out, command)
				command = nil
				continue
			}
			command = append(command, strings.Trim(w, "[](),;"))
		}
		out = append(out, command)
	}
	return slices.DeleteFunc(out, func(c []string) bool { return len(c) == 0 })
}

// Every make target that is set as code is in the Makefile.
func TestDocsMakeTargets(t *testing.T) {
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(read(t, "../Makefile"), -1) {
		targets[m[1]] = true
	}
	eachCode(t, func(c code) []string { return makeProblems(c, targets) })
}

func makeProblems(c code, targets map[string]bool) []string {
	var problems []string
	for _, command := range words(c.text) {
		if command[0] != "make" {
			continue
		}
		for _, target := range command[1:] {
			if !strings.Contains(target, "=") && !targets[target] {
				problems = append(problems, "the Makefile has no target "+target)
			}
		}
	}
	return problems
}

// Every command and flag of patchbay that is set as code is in core/cli.
func TestDocsCommands(t *testing.T) {
	root := commandTree(t)
	mentioned := 0
	eachCode(t, func(c code) []string {
		n, problems := commandProblems(c, root)
		mentioned += n
		return problems
	})
	if mentioned < 10 {
		t.Errorf("the documents show %d commands: is the pattern still theirs?", mentioned)
	}
}

func commandProblems(c code, root *command) (mentioned int, problems []string) {
	for _, line := range words(c.text) {
		if filepath.Base(line[0]) != "patchbay" || len(line) == 1 {
			continue
		}
		mentioned++
		at := root
		for _, w := range line[1:] {
			flag, isFlag := strings.CutPrefix(w, "--")
			flag, _, _ = strings.Cut(flag, "=")
			next := at.commands[w]
			switch {
			case at.passes:
			case isFlag && !at.flags[flag] && !root.flags[flag]:
				problems = append(problems, fmt.Sprintf("patchbay %s has no flag --%s", at.name, flag))
			case isFlag:
			case next != nil:
				at = next
			case len(at.commands) > 0:
				problems = append(problems, fmt.Sprintf("patchbay %s has no command %s", at.name, w))
			}
		}
	}
	return mentioned, problems
}

// command is what the struct of a command says.
type command struct {
	name     string
	commands map[string]*command
	flags    map[string]bool
	passes   bool // all arguments go to another program
}

// commandTree reads the command line from the structs in core/cli.
func commandTree(t *testing.T) *command {
	t.Helper()
	structs := map[string]*ast.StructType{}
	files, err := filepath.Glob("../core/cli/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					structs[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	if structs["commands"] == nil {
		t.Fatal("core/cli has no struct commands")
	}
	root := readCommand("", "commands", structs)
	root.flags["help"] = true
	return root
}

func readCommand(name, of string, structs map[string]*ast.StructType) *command {
	c := &command{name: name, commands: map[string]*command{}, flags: map[string]bool{}}
	if structs[of] == nil {
		return c
	}
	for _, f := range structs[of].Fields.List {
		var tag reflect.StructTag
		if f.Tag != nil {
			tag = reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		}
		_, isCommand := tag.Lookup("cmd")
		_, isArg := tag.Lookup("arg")
		_, passes := tag.Lookup("passthrough")
		c.passes = c.passes || passes
		if len(f.Names) == 0 { // embedded: its flags are ours
			for flag := range readCommand(name, typeName(f.Type), structs).flags {
				c.flags[flag] = true
			}
		}
		for _, ident := range f.Names {
			field := hyphenated(ident.Name)
			if given := tag.Get("name"); given != "" {
				field = given
			}
			switch {
			case isCommand:
				c.commands[field] = readCommand(strings.TrimSpace(name+" "+field), typeName(f.Type), structs)
			case !isArg:
				c.flags[field] = true
			}
		}
	}
	return c
}

// hyphenated is the flag of a field: LogLevel is log-level, JSON is json.
func hyphenated(field string) string {
	var b strings.Builder
	for i, r := range field {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(rune(field[i-1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Every metric that is set as code is in the sources, with or without core's namespace in front.
func TestDocsMetrics(t *testing.T) {
	var sources strings.Builder
	for _, root := range []string{"../core", "../sdk", "../plugins"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				sources.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := sources.String()
	pattern := regexp.MustCompile(`^((?:patchbay|talkdesk|smartassist)_[a-z0-9_]+)(?:\{[a-z_,]+\})?$`)
	eachCode(t, func(c code) []string {
		m := pattern.FindStringSubmatch(c.text)
		if c.lang != "" || m == nil || strings.Contains(all, `"`+m[1]+`"`) || strings.Contains(all, `"`+strings.TrimPrefix(m[1], "patchbay_")+`"`) {
			return nil
		}
		return []string{"no source has a metric " + m[1]}
	})
}
