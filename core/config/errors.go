package config

import (
	"fmt"
	"slices"
	"strings"
)

// Error is one thing wrong with the configuration: where it stands, which key
// it concerns, what is wrong and how to mend it. It never holds a secret's
// value.
type Error struct {
	// File is the configuration file's name as it was given.
	File string
	// Line and Column are 1-based positions in File. Both are 0 when the value
	// did not come from the file; Source then says where it came from.
	Line, Column int
	// Source names the environment variable or the command line flag that set
	// the value; empty for a value of the file.
	Source string
	// Key is the path of the key, such as "apps[0].secrets[1]". Empty where
	// the file as a whole is meant.
	Key string
	// Problem says what is wrong.
	Problem string
	// Mend says what to do about it.
	Mend string
}

// Error returns "file:line:column: key: problem: mend", or the variable's name
// in place of the position.
func (e Error) Error() string {
	var parts []string
	switch {
	case e.Source != "":
		parts = append(parts, e.Source)
	case e.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column))
	case e.File != "":
		parts = append(parts, e.File)
	}
	for _, part := range []string{e.Key, e.Problem, e.Mend} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Errors is everything wrong with a configuration, in the order of the file;
// values from elsewhere come last.
type Errors []Error

// Error returns one line per error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As and errors.Is each single Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

// maxErrors is where counting ends: a file with more is not a configuration.
const maxErrors = 1000

// report collects errors while a document is read. One key is complained about
// once: the first complaint wins, and nothing is said about what lies under a
// key that is already known to be bad.
type report struct {
	doc    *document
	errs   Errors
	broken map[string]bool
}

func newReport(doc *document) *report {
	return &report{doc: doc, broken: map[string]bool{}}
}

// value complains about the value at p.
func (r *report) value(p path, problem, mend string) {
	r.add(p, atValue, problem, mend)
}

// key complains about the key at p itself: unknown, or not allowed there.
func (r *report) key(p path, problem, mend string) {
	r.add(p, atKey, problem, mend)
}

// missing complains that p has no value: at p where the key is written with
// nothing behind it, else at the section it should stand in.
func (r *report) missing(p path, mend string) {
	r.add(p, atValue, "is missing", mend)
}

func (r *report) add(p path, part part, problem, mend string) {
	if len(r.errs) >= maxErrors || r.isBroken(p) {
		return
	}
	r.broken[p.text()] = true
	e := r.doc.place(p, part)
	e.Problem, e.Mend = problem, mend
	r.errs = append(r.errs, e)
}

// isBroken reports whether p or a section around it was complained about.
func (r *report) isBroken(p path) bool {
	for i := len(p); i > 0; i-- {
		if r.broken[p[:i].text()] {
			return true
		}
	}
	return false
}

// anyUnder reports whether anything at or below p was complained about.
func (r *report) anyUnder(p path) bool {
	prefix := p.text()
	for key := range r.broken {
		rest, found := strings.CutPrefix(key, prefix)
		if found && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// list returns what was collected, sorted and without any resolved secret, or
// nil when nothing is wrong.
func (r *report) list() Errors {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b Error) int {
		if (a.Source == "") != (b.Source == "") {
			if a.Source == "" {
				return -1
			}
			return 1
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	for i := range r.errs {
		r.errs[i].Problem = r.doc.redact(r.errs[i].Problem)
		r.errs[i].Mend = r.doc.redact(r.errs[i].Mend)
	}
	return r.errs
}
