package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxReference bounds a file that holds one secret.
const maxReference = 64 << 10

// expander resolves ${env:NAME} and ${file:PATH}; "$${" stands for "${".
type expander struct {
	environ  map[string]string
	readFile func(string) ([]byte, error)
}

func newExpander(o Options) *expander {
	e := &expander{environ: map[string]string{}, readFile: o.ReadFile}
	for _, line := range o.Environ {
		if name, value, found := strings.Cut(line, "="); found {
			e.environ[name] = value
		}
	}
	return e
}

// reference is a failure to resolve one, in the two halves an Error has.
type reference struct{ problem, mend string }

func (r *reference) Error() string { return r.problem + ": " + r.mend }

// expand returns text with its references resolved, and what each one stood
// for. The error never holds a value.
func (e *expander) expand(text string) (string, []string, error) {
	if !strings.Contains(text, "${") {
		return text, nil, nil
	}
	var out strings.Builder
	var values []string
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), values, nil
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(plain + "${")
			text = rest
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", nil, &reference{"has a ${ without its }", "close it, or write $${ for the characters themselves"}
		}
		value, err := e.lookup(name)
		if err != nil {
			return "", nil, err
		}
		out.WriteString(before + value)
		values = append(values, value)
		text = after
	}
}

func (e *expander) lookup(name string) (string, error) {
	kind, arg, _ := strings.Cut(name, ":")
	switch kind {
	case "env":
		value, set := e.environ[arg]
		if !set || arg == "" {
			return "", &reference{"the environment variable " + quote(arg) + " is not set", "set it, or write the value another way"}
		}
		return value, nil
	case "file":
		data, err := e.readFile(arg)
		if err != nil {
			return "", &reference{"the file " + quote(arg) + " cannot be read (" + cause(err) + ")", "check the path and its permissions"}
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
	return "", &reference{"has the unknown reference " + quote("${"+name+"}"), "write ${env:NAME} or ${file:PATH}, or $${ for the characters themselves"}
}

// cause returns what went wrong with a file without its name.
func cause(err error) string {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// readReference reads a regular file of bounded size.
func readReference(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("look at referenced file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("open referenced file: %w", err)
	}
	data, err := readBounded(f, maxReference)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		return nil, fmt.Errorf("close referenced file: %w", closeErr)
	}
	return data, err
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("over %d bytes", limit)
	}
	return data, nil
}
