package sim

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// expectation is one --expect: a field of the account, an operator and a value.
type expectation struct {
	text, path, op, want string
}

// parseExpectation reads PATH OP VALUE, where PATH is the dotted name of a field in the JSON account and OP one of
// = != < <= > >= and ~ (contains).
func parseExpectation(s string) (expectation, error) {
	i := strings.IndexAny(s, "=!<>~")
	if i <= 0 {
		return expectation{}, fmt.Errorf("expectation %q: want FIELD=VALUE, or one of != < <= > >= ~", s)
	}
	op := s[i : i+1]
	if i+1 < len(s) && s[i+1] == '=' && op != "=" && op != "~" {
		op = s[i : i+2]
	}
	if op == "!" {
		return expectation{}, fmt.Errorf("expectation %q: want != for not equal", s)
	}
	e := expectation{text: s, path: strings.TrimSpace(s[:i]), op: op, want: strings.TrimSpace(s[i+len(op):])}
	if _, numeric := strconv.ParseFloat(e.want, 64); (op[0] == '<' || op[0] == '>') && numeric != nil {
		return expectation{}, fmt.Errorf("expectation %q: %q is no number", s, e.want)
	}
	var zero Call
	zero.Refer, zero.Reinvite, zero.Pings = &Refer{}, &Exchange{}, &Pings{}
	if _, err := field(&zero, e.path); err != nil {
		return expectation{}, fmt.Errorf("expectation %q: %w", s, err)
	}
	return e, nil
}

// check returns "" when the call is as expected, and otherwise what it is instead.
func (e expectation) check(c *Call) string {
	got, err := field(c, e.path)
	if err != nil {
		return e.text + ": " + err.Error()
	}
	if e.holds(got) {
		return ""
	}
	return e.text + ": it is " + got
}

func (e expectation) holds(got string) bool {
	switch e.op {
	case "=":
		return got == e.want
	case "!=":
		return got != e.want
	case "~":
		return strings.Contains(got, e.want)
	}
	g, err := strconv.ParseFloat(got, 64)
	w, errW := strconv.ParseFloat(e.want, 64)
	if err != nil || errW != nil {
		return false
	}
	switch e.op {
	case "<":
		return g < w
	case "<=":
		return g <= w
	case ">":
		return g > w
	default:
		return g >= w
	}
}

// field returns one field of the account as text; "header.NAME" is a header of the INVITE, and the name of a list is its
// JSON text, with .count for its length.
func field(c *Call, path string) (string, error) {
	if name, ok := strings.CutPrefix(path, "header."); ok {
		return c.Header(name), nil
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("read account: %w", err)
	}
	var at any
	if err := json.Unmarshal(raw, &at); err != nil {
		return "", fmt.Errorf("read account: %w", err)
	}
	for part := range strings.SplitSeq(path, ".") {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[part]
			if !ok && c.optional(part) {
				return "", nil
			}
			if !ok {
				return "", fmt.Errorf("no field %s in the account", path)
			}
			at = next
		case []any:
			if part != "count" {
				return "", fmt.Errorf("field %s: a list has only .count", path)
			}
			at = float64(len(v))
		case nil: // an empty list
			if part != "count" {
				return "", fmt.Errorf("field %s: a list has only .count", path)
			}
			at = 0.0
		default:
			return "", fmt.Errorf("no field %s in the account", path)
		}
	}
	return textOf(at), nil
}

// optional names the fields that the account leaves out when they are empty.
func (c *Call) optional(name string) bool {
	switch name {
	case "user_agent", "codec", "event_pt", "reason", "bye_headers", "refer", "reinvite", "pings":
		return true
	default:
		return false
	}
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case nil:
		return ""
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(raw)
	}
}
