package config

import (
	"strconv"
	"strings"
)

// path leads to a value: a string for a key of a mapping, an int for an item
// of a list.
type path []any

// with returns a new path that goes on from p; p stays as it is.
func (p path) with(steps ...any) path {
	out := make(path, 0, len(p)+len(steps))
	return append(append(out, p...), steps...)
}

// text returns the path as the operator would say it: "apps[0].secrets".
func (p path) text() string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case int:
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(s))
			b.WriteByte(']')
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(printable(s))
		}
	}
	return b.String()
}

// printable returns s fit for one line of an error: control characters are
// escaped and a long text is cut.
func printable(s string) string {
	const longest = 80
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	quoted := strconv.Quote(s)
	if inner := quoted[1 : len(quoted)-1]; inner != s {
		return quoted
	}
	return s
}

// quote returns s in quotes, fit for one line of an error.
func quote(s string) string {
	p := printable(s)
	if strings.HasPrefix(p, `"`) {
		return p
	}
	return `"` + p + `"`
}

// nearest returns the candidate that s was most likely meant to be, or "".
func nearest(s string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(s)/3)
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of single-byte edits, swaps of neighbors included,
// that turn a into b (optimal string alignment). Long texts are never near.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var previous []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older := previous
		previous = row
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// didYouMean is the mend for a name that is not among the known ones.
func didYouMean(s string, known []string) string {
	if near := nearest(s, known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) == 0 {
		return "remove it"
	}
	return "known here: " + strings.Join(known, ", ")
}
