package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

const (
	// maxTemplate bounds a template's text, maxRendered what it grows into: a
	// header must fit into a datagram beside all the others.
	maxTemplate = 1024
	maxRendered = 1024
)

// Template is a text with values to be filled in, such as
// "{{.interaction_id}}". Only reading values, if/else and a few text functions
// are allowed: no loops, no formatting, nothing that could grow.
type Template struct {
	shown string
	tmpl  *template.Template
}

// Values is what a template reads.
type Values struct {
	// Parameters are the URL's and the stream's, by name: {{.name}}.
	Parameters map[string]string
	// Header is the value of the header an outcome matched: {{.header}}.
	Header string
	// Headers are all headers of the call's end: {{.headers.X-Name}}, names
	// without regard to case. Non-nil makes Header win over a parameter of
	// that name.
	Headers map[string]string
}

// errTooLong ends the rendering of a text over maxRendered bytes.
var errTooLong = errors.New("text is over 1024 bytes")

// ParseTemplate reads a template's text.
func ParseTemplate(text string) (*Template, error) { return parseTemplate(text, text) }

// parseTemplate reads text; shown is what String returns for it, the text with
// its references unresolved.
func parseTemplate(text, shown string) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, errors.New("over 1024 characters")
	}
	t, err := template.New("value").Option("missingkey=zero").Funcs(textFuncs()).Parse(flatten(text))
	if err != nil {
		return nil, errors.New(errorPlace.ReplaceAllString(err.Error(), ""))
	}
	if t.Tree != nil && t.Root != nil {
		if err := restrict(t.Root); err != nil {
			return nil, err
		}
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("define and block are not allowed")
	}
	return &Template{shown: shown, tmpl: t}, nil
}

func textFuncs() template.FuncMap {
	return template.FuncMap{
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"trim":  strings.TrimSpace,
		"default": func(fallback, value string) string {
			if value == "" {
				return fallback
			}
			return value
		},
	}
}

// allowed are the functions a template may call.
func allowed(name string) bool {
	return slices.Contains([]string{"lower", "upper", "trim", "default", "index", "eq", "ne", "and", "or", "not"}, name)
}

var (
	errorPlace = regexp.MustCompile(`^template: value:[0-9]+:(?:[0-9]+:)? ?`)
	actionForm = regexp.MustCompile(`\{\{.*?\}\}`)
	// tokenForm finds quoted texts, so that what is in them stays, and chains
	// of names.
	tokenForm = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|\\.[A-Za-z0-9_-]+(?:\\.[A-Za-z0-9_-]+)*")
	plainName = regexp.MustCompile(`^\.[A-Za-z_][A-Za-z0-9_]*$`)
)

// flatten rewrites names that text/template cannot say, with a dash or a level
// in them, into look-ups: {{.headers.X-Name}} reads the key "headers.x-name".
func flatten(text string) string {
	return actionForm.ReplaceAllStringFunc(text, func(action string) string {
		return tokenForm.ReplaceAllStringFunc(action, func(token string) string {
			if token[0] != '.' || plainName.MatchString(token) {
				return token
			}
			name := token[1:]
			if head, rest, found := strings.Cut(name, "."); found && head == "headers" {
				name = head + "." + strings.ToLower(rest)
			}
			return fmt.Sprintf("(index . %q)", name)
		})
	})
}

// restrict refuses what a value's template has no use for.
func restrict(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := restrict(child); err != nil {
				return err
			}
		}
	case *parse.TextNode, *parse.CommentNode, *parse.StringNode, *parse.FieldNode, *parse.BoolNode, *parse.NumberNode:
	case *parse.ActionNode:
		return restrict(n.Pipe)
	case *parse.IfNode:
		for _, child := range []parse.Node{n.Pipe, n.List, n.ElseList} {
			if err := restrict(child); err != nil {
				return err
			}
		}
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			return errors.New("variables are not allowed")
		}
		for _, command := range n.Cmds {
			if err := restrict(command); err != nil {
				return err
			}
		}
	case *parse.CommandNode:
		for i, arg := range n.Args {
			_, dot := arg.(*parse.DotNode)
			if dot && i == 1 && n.Args[0].String() == "index" {
				continue // one value of all; all of them at once are nobody's business
			}
			if err := restrict(arg); err != nil {
				return err
			}
		}
	case *parse.IdentifierNode:
		if !allowed(n.Ident) {
			return fmt.Errorf("the function %s is not allowed", n.Ident)
		}
	default:
		return fmt.Errorf("%s is not allowed", strings.ToLower(printable(node.String())))
	}
	return nil
}

// Render fills the values in; a name without a value becomes "". It fails on a
// result of more than 1024 bytes, and its error holds no value.
func (t *Template) Render(v Values) (string, error) {
	if t == nil {
		return "", nil
	}
	data := make(map[string]string, len(v.Parameters)+len(v.Headers)+1)
	maps.Copy(data, v.Parameters)
	if v.Headers != nil {
		data["header"] = v.Header
		for name, value := range v.Headers {
			data["headers."+strings.ToLower(name)] = value
		}
	}
	var out bounded
	if err := t.tmpl.Execute(&out, data); err != nil {
		if errors.Is(err, errTooLong) {
			return "", fmt.Errorf("render template: %w", errTooLong)
		}
		return "", errors.New("render template: the values do not fit its functions")
	}
	return out.String(), nil
}

// String returns the template as the file has it.
func (t *Template) String() string {
	if t == nil {
		return ""
	}
	return t.shown
}

// Equal reports whether two templates have the same text in the file.
func (t *Template) Equal(other *Template) bool { return t.String() == other.String() }

// bounded is a text that refuses to grow over maxRendered bytes.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}
