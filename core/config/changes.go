package config

import (
	"maps"
	"reflect"
	"slices"
)

// Equal reports whether two configurations say the same.
func Equal(a, b *Config) bool { return same(reflect.ValueOf(*a), reflect.ValueOf(*b)) }

// Changes returns the keys that differ between two configurations and cannot
// be applied to a running gateway: they need a restart. What it does not name
// (log level, limits, apps, routes, node.public_url) applies to
// new calls. The result is sorted, and nil when nothing needs a restart.
func Changes(before, after *Config) (needsRestart []string) {
	compare := func(key string, a, b any) {
		if !same(reflect.ValueOf(a), reflect.ValueOf(b)) {
			needsRestart = append(needsRestart, key)
		}
	}
	compare("admin.allow_plain", before.Admin.AllowPlain, after.Admin.AllowPlain)
	compare("admin.listen", before.Admin.Listen, after.Admin.Listen)
	compare("admin.tls", before.Admin.TLS, after.Admin.TLS)
	compare("admin.token", before.Admin.Token, after.Admin.Token)
	compare("node.name", before.Node.Name, after.Node.Name)
	compare("plugin_dir", before.PluginDir, after.PluginDir)
	compare("records", before.Records, after.Records)
	names := map[string]bool{}
	for name := range before.Plugins {
		names[name] = true
	}
	for name := range after.Plugins {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, inBefore := before.Plugins[name]
		b, inAfter := after.Plugins[name]
		if inBefore != inAfter {
			needsRestart = append(needsRestart, path{"plugins", name}.text())
			continue
		}
		va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
		for _, f := range fieldsOf(va.Type()) {
			if !same(va.Field(f.index), vb.Field(f.index)) {
				needsRestart = append(needsRestart, path{"plugins", name, f.key}.text())
			}
		}
	}
	slices.Sort(needsRestart)
	return needsRestart
}

// same compares values as the file says them: an empty list is a list left
// out, and texts behind pointers count, not the pointers.
func same(a, b reflect.Value) bool {
	switch av := a.Interface().(type) {
	case Secret:
		bv, ok := reflect.TypeAssert[Secret](b)
		return ok && av.Equal(bv)
	case Block:
		bv, ok := reflect.TypeAssert[Block](b)
		return ok && av.Equal(bv)
	case *Template:
		bv, ok := reflect.TypeAssert[*Template](b)
		return ok && av.Equal(bv)
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		if a.Type() == patternType {
			return a.Interface() == b.Interface()
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, key := range a.MapKeys() {
			if other := b.MapIndex(key); !other.IsValid() || !same(a.MapIndex(key), other) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	default:
		return a.Equal(b)
	}
}
