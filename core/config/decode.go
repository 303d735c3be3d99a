package config

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/patchbay/patchbay/core/admission/number"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
	blockType    = reflect.TypeFor[Block]()
	templateType = reflect.TypeFor[*Template]()
	patternType  = reflect.TypeFor[number.Pattern]()
)

// field is a struct's field that the file can set.
type field struct {
	key   string
	index int
	typ   reflect.Type
}

func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		if key := f.Tag.Get("koanf"); key != "" {
			out = append(out, field{key: key, index: i, typ: f.Type})
		}
	}
	return out
}

func settable(cfg *Config) reflect.Value { return reflect.ValueOf(cfg).Elem() }

// decoder fills the structs from the merged tree. It is koanf's Unmarshal with
// a path in hand: each complaint knows its key, and all are collected.
type decoder struct {
	*report
	*expander
}

// decode sets out from in; nil leaves the default.
func (d *decoder) decode(p path, in any, out reflect.Value) {
	if in == nil {
		return
	}
	switch out.Type() {
	case blockType:
		d.block(p, in, out)
		return
	case durationType, sizeType, secretType, templateType, patternType:
		if _, isText := in.(string); !isText && (out.Type() == durationType || out.Type() == sizeType) {
			d.value(p, typeName(in)+", want a "+unitMend(out.Type())[0], unitMend(out.Type())[1])
		} else if text, ok := d.text(p, in); ok {
			d.special(p, text, out)
		}
		return
	}
	switch out.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(out.Type().Elem())
		d.decode(p, in, fresh.Elem())
		out.Set(fresh)
	case reflect.Struct:
		d.section(p, in, out)
	case reflect.Map:
		d.mapping(p, in, out)
	case reflect.Slice:
		d.list(p, in, out)
	case reflect.String:
		if text, ok := d.text(p, in); ok {
			out.SetString(text)
		}
	case reflect.Bool, reflect.Int:
		d.plain(p, in, out)
	default:
		d.value(p, "has a type this program cannot read", "report it")
	}
}

func (d *decoder) section(p path, in any, out reflect.Value) {
	section, ok := in.(map[string]any)
	if !ok {
		d.value(p, typeName(in)+", want a section", "write its keys below it, indented")
		return
	}
	fields := fieldsOf(out.Type())
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
		d.decode(p.with(f.key), section[f.key], out.Field(f.index))
	}
	for key := range section {
		if !slices.Contains(names, key) {
			d.key(p.with(key), "unknown key", didYouMean(key, names))
		}
	}
}

func (d *decoder) mapping(p path, in any, out reflect.Value) {
	section, ok := in.(map[string]any)
	if !ok {
		d.value(p, typeName(in)+", want a section", "write its keys below it, indented")
		return
	}
	m := reflect.MakeMapWithSize(out.Type(), len(section))
	for key, value := range section {
		if value == nil && out.Type().Elem().Kind() != reflect.Struct {
			d.value(p.with(key), "is empty", `write a value, or "" for none`)
			continue
		}
		m.SetMapIndex(reflect.ValueOf(key), d.item(p.with(key), value, out.Type().Elem()))
	}
	out.Set(m)
}

func (d *decoder) list(p path, in any, out reflect.Value) {
	items, ok := in.([]any)
	if !ok {
		d.value(p, typeName(in)+", want a list", "write it as [value, value], or each value on a line after a dash")
		return
	}
	l := reflect.MakeSlice(out.Type(), 0, len(items))
	for i, item := range items {
		if item == nil {
			d.value(p.with(i), "is empty", "write a value or remove the line")
		}
		l = reflect.Append(l, d.item(p.with(i), item, out.Type().Elem()))
	}
	out.Set(l)
}

// item decodes a member of a list or map, its defaults set first.
func (d *decoder) item(p path, in any, t reflect.Type) reflect.Value {
	fresh := reflect.New(t)
	if with, ok := reflect.TypeAssert[defaulter](fresh); ok {
		with.setDefaults()
	}
	d.decode(p, in, fresh.Elem())
	return fresh.Elem()
}

// text returns a string with its references resolved.
func (d *decoder) text(p path, in any) (string, bool) {
	raw, ok := in.(string)
	if !ok {
		mend := "put it in quotes"
		switch in.(type) {
		case map[string]any, []any:
			mend = "write one value in quotes"
		}
		d.value(p, typeName(in)+", want text", mend)
		return "", false
	}
	text, values, err := d.expand(raw)
	if ref, bad := errors.AsType[*reference](err); bad {
		d.value(p, ref.problem, ref.mend)
		return "", false
	}
	if values != nil {
		d.doc.raw[p.text()] = raw
		d.doc.secrets = append(d.doc.secrets, values...)
	}
	return text, true
}

// special reads the texts that mean something else.
func (d *decoder) special(p path, text string, out reflect.Value) {
	switch out.Type() {
	case durationType:
		v, err := ParseDuration(text)
		if err != nil {
			d.value(p, d.doc.quote(p, text)+" "+err.Error(), unitMend(durationType)[1])
			return
		}
		out.SetInt(int64(v))
	case sizeType:
		v, err := ParseSize(text)
		if err != nil {
			d.value(p, d.doc.quote(p, text)+" "+err.Error(), unitMend(sizeType)[1])
			return
		}
		out.SetInt(int64(v))
	case secretType:
		if text != "" {
			d.doc.secrets = append(d.doc.secrets, text)
		}
		out.Set(reflect.ValueOf(NewSecret(text)))
	case templateType:
		shown := text
		if raw, found := d.doc.raw[p.text()]; found {
			shown = raw
		}
		v, err := parseTemplate(text, shown)
		if err != nil {
			d.value(p, "is not a template: "+err.Error(), "write plain text, {{.parameter}} or {{lower .parameter}}")
			return
		}
		out.Set(reflect.ValueOf(v))
	case patternType:
		v, err := number.ParsePattern(text)
		if err != nil {
			d.value(p, d.doc.quote(p, text)+" "+err.Error(), `write a number such as "+17344321234", or a prefix and a star: "+1734*"`)
			return
		}
		out.Set(reflect.ValueOf(v))
	}
}

// unitMend names what a value with a unit is, and how to write it.
func unitMend(t reflect.Type) [2]string {
	if t == durationType {
		return [2]string{"duration", "write it with its unit, such as 30s, 15m, 4h or 90d"}
	}
	return [2]string{"size", "write it with its unit, such as 64KB, 100MB or 1GiB"}
}

// plain reads bools and whole numbers; from the environment they come as text.
func (d *decoder) plain(p path, in any, out reflect.Value) {
	if text, isText := in.(string); isText && d.doc.sources[p.text()] != "" {
		if b, err := strconv.ParseBool(text); err == nil && out.Kind() == reflect.Bool {
			in = b
		} else if i, err := strconv.ParseInt(text, 10, 64); err == nil && out.Kind() == reflect.Int {
			in = i
		}
	}
	switch v := in.(type) {
	case bool:
		if out.Kind() == reflect.Bool {
			out.SetBool(v)
			return
		}
	case int64:
		if out.Kind() == reflect.Int {
			out.SetInt(v)
			return
		}
	}
	if out.Kind() == reflect.Bool {
		d.value(p, typeName(in)+", want true or false", "write true or false without quotes")
		return
	}
	d.value(p, typeName(in)+", want a whole number", "write digits without quotes")
}

// block resolves the references of a plugin's section and keeps it as JSON.
func (d *decoder) block(p path, in any, out reflect.Value) {
	if _, ok := in.(map[string]any); !ok {
		d.value(p, typeName(in)+", want a section", "write its keys below it, indented")
		return
	}
	text, err := json.Marshal(d.resolveAll(p, in))
	if err != nil {
		d.value(p, "cannot be written as JSON", "use text, numbers, true and false, lists and sections")
		return
	}
	out.Set(reflect.ValueOf(Block{json: string(text)}))
}

// resolveAll returns a copy of v in which every text has its references
// resolved.
func (d *decoder) resolveAll(p path, v any) any {
	switch in := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(in))
		for key, value := range in {
			out[key] = d.resolveAll(p.with(key), value)
		}
		return out
	case []any:
		out := make([]any, len(in))
		for i := range in {
			out[i] = d.resolveAll(p.with(i), in[i])
		}
		return out
	case string:
		text, _ := d.text(p, in)
		return text
	case float64:
		if math.IsNaN(in) || math.IsInf(in, 0) {
			d.value(p, "is not a finite number", "write a number")
			return nil
		}
	}
	return v
}

// typeName says what a value is, for "… is a bare number, want text".
func typeName(v any) string {
	switch v.(type) {
	case map[string]any:
		return "is a section"
	case []any:
		return "is a list"
	case string:
		return "is text"
	case bool:
		return "is true or false without quotes"
	case int64, int, float64:
		return "is a bare number"
	}
	return "is of an unknown type"
}
