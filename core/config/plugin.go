package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schemaURL names a plugin's schema while it is compiled; nothing is fetched.
const schemaURL = "plugin:///config.schema.json"

// CheckPlugin checks an instance's section against the JSON Schema its plugin
// brings, and returns everything wrong with it, nil for nothing. No value of
// the section appears in the errors.
func (c *Config) CheckPlugin(instance string, schema []byte) []Error {
	plugin, known := c.Plugins[instance]
	if !known {
		return []Error{{Key: path{"plugins", instance}.text(), Problem: "is not a plugin instance", Mend: didYouMean(instance, slices.Sorted(maps.Keys(c.Plugins)))}}
	}
	base := path{"plugins", instance, "config"}
	compiled, err := compileSchema(schema)
	if err != nil {
		e := c.document().place(base, atKey)
		e.Problem, e.Mend = "the plugin's own schema cannot be used: "+printable(err.Error()), "report it to the plugin's author"
		return []Error{e}
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(plugin.Config.JSON()))
	if err != nil {
		e := c.document().place(base, atKey)
		e.Problem, e.Mend = "cannot be read as JSON", "write plain values"
		return []Error{e}
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(compiled.Validate(value), &invalid) {
		return nil
	}
	rep := newReport(c.document())
	f := &findings{report: rep, base: base, value: value, schema: compiled}
	f.walk(invalid)
	return rep.list()
}

// FieldError places a plugin's complaint about its own section. pointer is a
// JSON pointer (RFC 6901) into the section, such as "/trunk/targets/0"; empty
// means the section as a whole.
func (c *Config) FieldError(instance, pointer, problem, mend string) Error {
	base := path{"plugins", instance, "config"}
	var value any
	if plugin, known := c.Plugins[instance]; known {
		if v, err := jsonschema.UnmarshalJSON(bytes.NewReader(plugin.Config.JSON())); err == nil {
			value = v
		}
	}
	var tokens []string
	if rest, absolute := strings.CutPrefix(pointer, "/"); absolute {
		unescape := strings.NewReplacer("~1", "/", "~0", "~")
		for token := range strings.SplitSeq(rest, "/") {
			tokens = append(tokens, unescape.Replace(token))
		}
	}
	e := c.document().place(base.with(stepsIn(value, tokens)...), atValue)
	e.Problem, e.Mend = c.document().redact(printableLine(problem)), c.document().redact(printableLine(mend))
	return e
}

func (c *Config) document() *document {
	if c.doc == nil {
		return &document{}
	}
	return c.doc
}

// printableLine makes a plugin's text fit for one line.
func printableLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// refuseLoader keeps a plugin's schema from reading files or the network.
type refuseLoader struct{}

func (refuseLoader) Load(string) (any, error) {
	return nil, errors.New("a schema may only refer to itself")
}

func compileSchema(text []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New("it is not JSON")
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(refuseLoader{})
	compiler.AssertFormat()
	if err = compiler.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("add schema: %w", err)
	}
	compiled, err := compiler.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return compiled, nil
}

// stepsIn turns a pointer's tokens into a path: a number is an item where the
// value is a list, else a key.
func stepsIn(value any, tokens []string) []any {
	steps := make([]any, 0, len(tokens))
	for _, token := range tokens {
		switch in := value.(type) {
		case []any:
			if i, err := strconv.Atoi(token); err == nil && i >= 0 {
				steps = append(steps, i)
				value = nil
				if i < len(in) {
					value = in[i]
				}
				continue
			}
			value = nil
		case map[string]any:
			value = in[token]
		default:
			value = nil
		}
		steps = append(steps, token)
	}
	return steps
}

// findings turns the validator's tree of complaints into Errors.
type findings struct {
	*report
	base   path
	value  any
	schema *jsonschema.Schema
}

func (f *findings) walk(e *jsonschema.ValidationError) {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		p := f.path(e)
		if len(e.Causes) > 0 {
			deepest := slices.MaxFunc(e.Causes, func(a, b *jsonschema.ValidationError) int { return depthOf(a) - depthOf(b) })
			if depthOf(deepest) > len(e.InstanceLocation) {
				f.walk(deepest) // the form that fits best: its own complaint helps more
				return
			}
		}
		f.report.value(p, "fits none of the forms allowed here", "see the plugin's README")
		return
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			f.walk(cause)
		}
		return
	}
	f.leaf(e)
}

func depthOf(e *jsonschema.ValidationError) int {
	depth := len(e.InstanceLocation)
	for _, cause := range e.Causes {
		depth = max(depth, depthOf(cause))
	}
	return depth
}

func (f *findings) path(e *jsonschema.ValidationError) path {
	return f.base.with(stepsIn(f.value, e.InstanceLocation)...)
}

func (f *findings) leaf(e *jsonschema.ValidationError) {
	p := f.path(e)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			f.missing(p.with(name), "the plugin needs it")
		}
	case *kind.AdditionalProperties:
		known := f.properties(e.InstanceLocation)
		for _, name := range k.Properties {
			f.key(p.with(name), "unknown key", didYouMean(name, known))
		}
	case *kind.FalseSchema:
		f.key(p, "is not allowed here", "remove it")
	case *kind.Type:
		want := strings.Join(k.Want, " or ")
		mend := "write a value of that kind"
		if slices.Contains(k.Want, "string") && (k.Got == "number" || k.Got == "integer" || k.Got == "boolean") {
			mend = "put it in quotes"
		}
		f.report.value(p, "got "+k.Got+", want "+want, mend)
	case *kind.Enum:
		words := make([]string, len(k.Want))
		for i, w := range k.Want {
			words[i] = fmt.Sprint(w)
		}
		f.report.value(p, "is not one of the values allowed here", "use one of: "+strings.Join(words, ", "))
	default:
		problem, mend := bounds(e.ErrorKind)
		f.report.value(p, problem, mend)
	}
}

// bounds words the complaints about a value's form, without the value.
func bounds(k jsonschema.ErrorKind) (problem, mend string) {
	switch k := k.(type) {
	case *kind.Const:
		return "is not the value it must have", fmt.Sprintf("write %v", k.Want)
	case *kind.Pattern:
		return "does not have the form " + printable(k.Want), "write it in that form"
	case *kind.Format:
		return "is not of the format " + printable(k.Want), "write it in that format"
	case *kind.MinLength:
		if k.Want == 1 {
			return "is empty", "write a value"
		}
		return fmt.Sprintf("is shorter than %d characters", k.Want), "write a longer value"
	case *kind.MaxLength:
		return fmt.Sprintf("is longer than %d characters", k.Want), "write a shorter value"
	case *kind.MinItems:
		return fmt.Sprintf("has fewer than %d items", k.Want), "add one"
	case *kind.MaxItems:
		return fmt.Sprintf("has more than %d items", k.Want), "remove some"
	case *kind.UniqueItems:
		return "has the same item twice", "keep one of them"
	case *kind.Minimum:
		return "is too small", "use at least " + k.Want.RatString()
	case *kind.Maximum:
		return "is too large", "use at most " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "is too small", "use more than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "is too large", "use less than " + k.Want.RatString()
	case *kind.DependentRequired:
		return printable(k.Prop) + " needs " + strings.Join(k.Missing, ", ") + " beside it", "give both, or neither"
	}
	return "does not keep the plugin's rule " + strings.Join(k.KeywordPath(), "/"), "see the plugin's README"
}

// properties are the keys the schema names at a place, for "did you mean".
func (f *findings) properties(location []string) []string {
	at := f.schema
	for _, token := range location {
		for at != nil && at.Ref != nil {
			at = at.Ref
		}
		switch {
		case at == nil:
			return nil
		case at.Properties[token] != nil:
			at = at.Properties[token]
		default:
			at = itemsOf(at)
		}
	}
	for at != nil && at.Ref != nil {
		at = at.Ref
	}
	if at == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(at.Properties))
}

func itemsOf(s *jsonschema.Schema) *jsonschema.Schema {
	if s.Items2020 != nil {
		return s.Items2020
	}
	if items, ok := s.Items.(*jsonschema.Schema); ok {
		return items
	}
	if more, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		return more
	}
	return nil
}
