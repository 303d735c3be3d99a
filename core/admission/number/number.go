// Package number brings telephone numbers into one form, so that two
// spellings of the same number compare as equal before anything is allowed,
// routed or dialed because of them.
package number

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// minDigits and maxDigits bound a canonical number. ITU-T E.164 §6.2.1
	// allows 15 digits with the country code; fewer than three reach nobody.
	minDigits = 3
	maxDigits = 15
	// maxText bounds what is looked at before a text is called impossible.
	maxText = 64
)

// ErrURI reports a SIP or telephone URI where a number is due. Its host part
// is never resolved: who may choose the host chooses where we send calls.
var ErrURI = errors.New("is a URI, want a telephone number")

// ErrNotNumber reports a text that cannot be read as a telephone number.
var ErrNotNumber = errors.New("is not a telephone number of 3 to 15 digits")

// Normalize returns text as a canonical number: "+" and 3 to 15 digits.
//
// The separators "-", ".", "(", ")" and space are dropped. A leading space is
// read as "+", because an unescaped "+" in a URL's query arrives as a space.
// Errors wrap ErrURI or ErrNotNumber and do not repeat the text.
func Normalize(text string) (string, error) {
	digits, err := digitsOf(text)
	if err != nil {
		return "", err
	}
	if len(digits) < minDigits {
		return "", ErrNotNumber
	}
	return "+" + digits, nil
}

// digitsOf returns the digits of text; at most maxDigits of them, perhaps none.
func digitsOf(text string) (string, error) {
	if len(text) > maxText {
		return "", fmt.Errorf("%w: too long", ErrNotNumber)
	}
	if scheme, _, found := strings.Cut(strings.ToLower(strings.TrimSpace(text)), ":"); found {
		switch scheme {
		case "sip", "sips", "tel":
			return "", ErrURI
		}
	}
	rest := strings.TrimLeft(text, " ")
	rest = strings.TrimPrefix(rest, "+")
	var digits strings.Builder
	for _, r := range rest {
		switch {
		case r >= '0' && r <= '9':
			digits.WriteRune(r)
		case strings.ContainsRune("-. ()", r):
		default:
			return "", fmt.Errorf("%w: only digits, a leading + and the separators - . ( ) may be in it", ErrNotNumber)
		}
	}
	if digits.Len() > maxDigits {
		return "", fmt.Errorf("%w: it has %d digits", ErrNotNumber, digits.Len())
	}
	return digits.String(), nil
}

// Pattern is one allowed number, or all numbers that begin alike. Its zero
// value matches nothing.
type Pattern struct {
	prefix string
	open   bool
}

// ParsePattern reads an exact number ("+17344321234") or a prefix and a star
// for the remaining digits ("+1734*"). A star alone is refused: it would let
// whoever holds a token dial any number in the world.
func ParsePattern(text string) (Pattern, error) {
	head, open := strings.CutSuffix(strings.TrimSpace(text), "*")
	if !open {
		canonical, err := Normalize(head)
		if err != nil {
			return Pattern{}, err
		}
		return Pattern{prefix: canonical}, nil
	}
	digits, err := digitsOf(head)
	if err != nil {
		return Pattern{}, err
	}
	if digits == "" {
		return Pattern{}, errors.New("has no digit before the star, which would allow every number in the world")
	}
	return Pattern{prefix: "+" + digits, open: true}, nil
}

// Match reports whether a canonical number is the pattern's, or begins with
// its prefix.
func (p Pattern) Match(canonical string) bool {
	switch {
	case p.prefix == "":
		return false
	case p.open:
		return strings.HasPrefix(canonical, p.prefix)
	default:
		return canonical == p.prefix
	}
}

// String returns the pattern in its canonical spelling.
func (p Pattern) String() string {
	if p.open {
		return p.prefix + "*"
	}
	return p.prefix
}
