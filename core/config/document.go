package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFile bounds the file; a configuration is written by people.
	maxFile = 1 << 20
	// maxDepth and maxNodes bound what anchors and nesting can grow into.
	maxDepth = 64
	maxNodes = 100_000
	// minRedacted is the length from which a resolved secret is cut out of error
	// texts wherever it appears: shorter ones would maul every word. No message
	// of this package quotes a resolved value; cutting is the second line.
	minRedacted = 8
)

// part says which half of a mapping's entry an error points at.
type part int

const (
	atKey part = iota
	atValue
)

// document is the file as it was written: the nodes that know their positions,
// what overrides them, and which texts must not be shown.
type document struct {
	file string
	root *yaml.Node
	// sources: path text → the variable or flag that set it.
	sources map[string]string
	// raw: path text → the text before its references were resolved.
	raw map[string]string
	// secrets are the resolved values.
	secrets []string
	report  *report
	nodes   int
	// open are the aliases being followed, so that one within itself is found.
	open map[*yaml.Node]bool
}

// Unmarshal parses the file's bytes; with it a document is koanf's parser for
// the file, so that koanf and the positions come from one reading. Problems go
// to the report; the error is always nil.
func (d *document) Unmarshal(data []byte) (map[string]any, error) {
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err, len(strings.Split(string(data), "\n")))
		}
		return map[string]any{}, nil
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		d.report.errs = append(d.report.errs, Error{
			File: d.file, Line: max(1, second.Line), Column: max(1, second.Column),
			Problem: "a second YAML document begins here", Mend: "keep one document in the file; remove the --- line",
		})
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err, len(strings.Split(string(data), "\n")))
	}
	if len(doc.Content) == 0 {
		return map[string]any{}, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return map[string]any{}, nil
	}
	d.root = root
	if root.Kind != yaml.MappingNode {
		d.report.value(nil, "the file "+kindName(root)+", want sections", "begin with a section such as node: or plugins:")
		return map[string]any{}, nil
	}
	tree, ok := d.convert(root, nil, 0).(map[string]any)
	if !ok {
		return map[string]any{}, nil
	}
	return tree, nil
}

// Marshal is the other half of koanf's parser; nothing here writes files.
func (d *document) Marshal(map[string]any) ([]byte, error) {
	return nil, errors.New("writing a configuration is not supported")
}

var yamlLine = regexp.MustCompile(`line ([0-9]+): ?`)

// syntax reports what the YAML parser could not read. The parser's message
// quotes tokens at most by kind, never by value; its line is kept.
func (d *document) syntax(err error, lines int) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			line = min(max(1, n), max(1, lines))
		}
		message = strings.Replace(message, m[0], "", 1)
	}
	d.report.errs = append(d.report.errs, Error{
		File: d.file, Line: line, Column: 1, Problem: "is not YAML: " + printable(message),
		Mend: "check the indentation and the quotes on this line and the one before it",
	})
}

// convert turns a node into plain values: map[string]any, []any, string, bool,
// int64, float64 or nil. Keys stay the text they were written as.
func (d *document) convert(n *yaml.Node, p path, depth int) any {
	d.nodes++
	switch {
	case d.nodes > maxNodes:
		d.report.value(p[:min(1, len(p))], "anchors and aliases make it too large", "write the values out")
		return nil
	case depth > maxDepth:
		d.report.value(p, "is nested too deeply", "write it flatter, without aliases")
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		if d.open[n.Alias] {
			d.report.value(p, "is an alias that contains itself", "write the value out")
			return nil
		}
		d.open[n.Alias] = true
		defer delete(d.open, n.Alias)
		return d.convert(n.Alias, p, depth+1)
	case yaml.MappingNode:
		d.open[n] = true
		defer delete(d.open, n)
		return d.convertMapping(n, p, depth)
	case yaml.SequenceNode:
		d.open[n] = true
		defer delete(d.open, n)
		items := make([]any, len(n.Content))
		for i, item := range n.Content {
			items[i] = d.convert(item, p.with(i), depth+1)
		}
		return items
	case yaml.ScalarNode:
		return d.convertScalar(n, p)
	case yaml.DocumentNode:
	}
	return nil
}

func (d *document) convertMapping(n *yaml.Node, p path, depth int) any {
	out := map[string]any{}
	lines := map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if isMerge(key) {
			merges = append(merges, value)
			continue
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			d.at(n.Content[i], p, "a key is not plain text", "write the key as a word")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			d.at(n.Content[i], p.with(key.Value), fmt.Sprintf("is written twice, first on line %d", line), "keep one of them")
			continue
		}
		lines[key.Value] = n.Content[i].Line
		out[key.Value] = d.convert(value, p.with(key.Value), depth+1)
	}
	for _, m := range merges {
		d.merge(out, m, p, depth+1)
	}
	return out
}

// merge adds what "<<" brings in; keys that are written out win.
func (d *document) merge(out map[string]any, n *yaml.Node, p path, depth int) {
	d.nodes++
	if depth > maxDepth || d.nodes > maxNodes {
		d.report.value(p, "is nested too deeply", "write it flatter, without aliases")
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			d.merge(out, item, p, depth+1)
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		d.at(n, p, "<< does not name a section", "let it point at an anchor on a section")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if isMerge(key) {
			d.merge(out, n.Content[i+1], p, depth+1)
			continue
		}
		if _, there := out[key.Value]; !there && key.Kind == yaml.ScalarNode {
			out[key.Value] = d.convert(n.Content[i+1], p.with(key.Value), depth+1)
		}
	}
}

// convertScalar reads a single value. Dates and anything quoted stay text.
func (d *document) convertScalar(n *yaml.Node, p path) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return i
		}
		return float64(0) // beyond 64 bits: a number, whatever its value
	case "!!float":
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	case "!!str", "!!timestamp":
		return n.Value
	}
	d.report.value(p, "carries a YAML tag that is not supported", "write the plain value")
	return nil
}

// at complains at a node's own position.
func (d *document) at(n *yaml.Node, p path, problem, mend string) {
	d.report.errs = append(d.report.errs, Error{
		File: d.file, Line: n.Line, Column: n.Column, Key: p.text(), Problem: problem, Mend: mend,
	})
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.Value == "<<" && key.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0
}

// kindName says what a node is, for "… is a list, want …".
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "is a list"
	case yaml.MappingNode:
		return "is a section"
	default:
		return "is a single value"
	}
}

// place returns an Error that names p and where it stands: the override that
// set it, its own position, or that of the nearest section around it.
func (d *document) place(p path, which part) Error {
	e := Error{File: d.file, Key: p.text()}
	for i := len(p); i > 0; i-- {
		if source, found := d.sources[p[:i].text()]; found {
			e.File, e.Source = "", source
			return e
		}
	}
	e.Line, e.Column = 1, 1
	key, value := (*yaml.Node)(nil), d.root
	complete := d.root != nil
	for _, step := range p {
		k, v := child(value, step)
		if v == nil {
			complete = false
			break
		}
		key, value = k, v
	}
	switch {
	case value == nil:
		return e
	case key != nil && (which == atKey || !complete || value.Line == 0):
		e.Line, e.Column = key.Line, key.Column
	case value.Line > 0:
		e.Line, e.Column = value.Line, value.Column
	}
	return e
}

// child finds a step's key and value node; for a list's item the key is nil.
func child(n *yaml.Node, step any) (key, value *yaml.Node) {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil {
		return nil, nil
	}
	switch s := step.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && s >= 0 && s < len(n.Content) {
			return nil, n.Content[s]
		}
	case string:
		budget := maxNodes
		return childByName(n, s, 0, &budget)
	}
	return nil, nil
}

// childByName looks in a section and in what "<<" brings into it. budget bounds
// the look-up where sections merge each other many times over.
func childByName(n *yaml.Node, name string, depth int, budget *int) (key, value *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	*budget--
	if n == nil || depth > maxDepth || *budget < 0 {
		return nil, nil
	}
	if n.Kind == yaml.SequenceNode && depth > 0 { // a list of sections behind <<
		for _, item := range n.Content {
			if k, v := childByName(item, name, depth+1, budget); v != nil {
				return k, v
			}
		}
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if !isMerge(n.Content[i]) && k.Kind == yaml.ScalarNode && k.Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			if k, v := childByName(n.Content[i+1], name, depth+1, budget); v != nil {
				return k, v
			}
		}
	}
	return nil, nil
}

// redact cuts every resolved secret out of a text.
func (d *document) redact(text string) string {
	for _, secret := range d.secrets {
		if len(secret) >= minRedacted {
			text = strings.ReplaceAll(text, secret, hidden)
		}
	}
	return text
}

// quote shows a value as the file has it: a reference stays unresolved.
func (d *document) quote(p path, value string) string {
	if raw, found := d.raw[p.text()]; found {
		return quote(raw)
	}
	return quote(value)
}
