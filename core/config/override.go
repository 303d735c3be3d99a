package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// overrides finds the key that an environment variable or a flag means. Names
// of variables know no lower case, dots or dashes, so keys are compared without
// regard to case and with "-" as "_".
type overrides struct {
	report *report
	tree   map[string]any
}

// resolve returns koanf's key and the value for it, or "" after reporting what
// is wrong with the name.
func (o *overrides) resolve(steps []string, source, value string) (string, any) {
	at := reflect.TypeFor[Config]()
	var node any = o.tree
	var p path
	for _, step := range steps {
		if at.Kind() == reflect.Pointer && at != templateType {
			at = at.Elem()
		}
		name, next, candidates := o.step(at, node, step)
		if name == "" {
			problem, mend := "is not a key of the configuration", didYouMean(strings.ToLower(step), candidates)
			if at.Kind() == reflect.Slice {
				problem, mend = p.text()+" is a list", "variables and flags set single values; write it in the file"
			}
			o.complain(p.with(strings.ToLower(step)), source, problem, mend)
			return "", nil
		}
		if section, ok := node.(map[string]any); ok {
			node = section[name]
		} else if node != nil {
			return "", nil // the file has no section here; that is reported there
		}
		p, at = p.with(name), next
	}
	value, typed, ok := o.scalar(at, node, value)
	if !ok {
		o.complain(p, source, "is not a single value", "variables and flags set single values; write it in the file")
		return "", nil
	}
	o.report.doc.sources[p.text()] = source
	keys := make([]string, len(p))
	for i := range p {
		keys[i], _ = p[i].(string)
	}
	if typed != nil {
		return strings.Join(keys, delim), typed
	}
	return strings.Join(keys, delim), value
}

func (o *overrides) complain(p path, source, problem, mend string) {
	o.report.errs = append(o.report.errs, Error{Source: source, Key: p.text(), Problem: problem, Mend: mend})
}

// step finds one level's key: its written name and what it holds. Without one
// it returns the names that would have been possible.
func (o *overrides) step(at reflect.Type, node any, step string) (string, reflect.Type, []string) {
	var names []string
	section, _ := node.(map[string]any)
	switch {
	case step == "" || strings.Contains(step, delim):
		return "", nil, nil
	case at == blockType:
		for name := range section {
			names = append(names, name)
		}
		slices.Sort(names)
		if i := slices.IndexFunc(names, func(n string) bool { return sameName(n, step) }); i >= 0 {
			return names[i], blockType, nil
		}
		return strings.ToLower(step), blockType, nil
	case at.Kind() == reflect.Struct:
		for _, f := range fieldsOf(at) {
			if sameName(f.key, step) {
				return f.key, f.typ, nil
			}
			names = append(names, f.key)
		}
	case at.Kind() == reflect.Map:
		for name := range section {
			names = append(names, name)
		}
		slices.Sort(names)
		if i := slices.IndexFunc(names, func(n string) bool { return sameName(n, step) }); i >= 0 {
			return names[i], at.Elem(), nil
		}
		if at.Elem().Kind() != reflect.Struct || at.Elem() == secretType {
			return step, at.Elem(), nil
		}
	}
	return "", nil, names
}

// scalar says whether the place takes a single value. In a plugin's section,
// whose types only the plugin knows, a value takes the type it has in the file;
// a new one becomes a bool or a whole number where it reads as one.
func (o *overrides) scalar(at reflect.Type, node any, value string) (string, any, bool) {
	if at != blockType {
		switch {
		case at == secretType, at == templateType:
			return value, nil, true
		case at.Kind() == reflect.Struct, at.Kind() == reflect.Map, at.Kind() == reflect.Slice, at.Kind() == reflect.Pointer:
			return "", nil, false
		}
		return value, nil, true
	}
	switch node.(type) {
	case map[string]any, []any:
		return "", nil, false
	case string:
		return value, nil, true
	}
	if b, err := strconv.ParseBool(value); err == nil && (value == "true" || value == "false") {
		return "", b, true
	}
	if i, err := strconv.ParseInt(value, 10, 64); err == nil && strconv.FormatInt(i, 10) == value {
		return "", i, true
	}
	return value, nil, true
}

func sameName(key, step string) bool {
	return strings.EqualFold(strings.ReplaceAll(key, "-", "_"), strings.ReplaceAll(step, "-", "_"))
}
