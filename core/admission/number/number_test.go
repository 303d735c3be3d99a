package number_test

import (
	"errors"
	"regexp"
	"testing"

	"github.com/patchbay/patchbay/core/admission/number"
)

func TestNormalize(t *testing.T) {
	tests := []struct {
		name, in, want string
		err            error
	}{
		{"canonical", "+17344321234", "+17344321234", nil},
		{"no plus", "17344321234", "+17344321234", nil},
		{"unescaped plus arrives as a space", " 17344321234", "+17344321234", nil},
		{"separators", "+1 (734) 432-12.34", "+17344321234", nil},
		{"shortest", "112", "+112", nil},
		{"longest", "+123456789012345", "+123456789012345", nil},
		{"too short", "+12", "", number.ErrNotNumber},
		{"too long", "+1234567890123456", "", number.ErrNotNumber},
		{"empty", "", "", number.ErrNotNumber},
		{"plus only", "+", "", number.ErrNotNumber},
		{"two pluses", "++17344321234", "", number.ErrNotNumber},
		{"plus in the middle", "1+7344321234", "", number.ErrNotNumber},
		{"letters", "+1734CALLME", "", number.ErrNotNumber},
		{"digits of another script", "+١٧٣٤٤٣٢", "", number.ErrNotNumber},
		{"control character", "+1734432\r\n1234", "", number.ErrNotNumber},
		{"a page of digits", "+1" + string(make([]byte, 100)), "", number.ErrNotNumber},
		{"sip", "sip:17344321234@198.51.100.7", "", number.ErrURI},
		{"sips in capitals", " SIPS:1734@example.com", "", number.ErrURI},
		{"tel", "tel:+17344321234", "", number.ErrURI},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := number.Normalize(tt.in)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Normalize(%q) = %q, %v; want %q, %v", tt.in, got, err, tt.want, tt.err)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern, number string
		want            bool
	}{
		{"+17344*", "+17344321234", true},
		{"+17344*", "+17344", true},
		{"+17344*", "+17354321234", false},
		{"17344*", "+17344321234", true},
		{"+1 734-4*", "+17344321234", true},
		{"+17344321234", "+17344321234", true},
		{"+17344321234", "+173443212345", false},
		{"+1734432123", "+17344321234", false},
	}
	for _, tt := range tests {
		p, err := number.ParsePattern(tt.pattern)
		if err != nil {
			t.Fatalf("ParsePattern(%q): %v", tt.pattern, err)
		}
		if got := p.Match(tt.number); got != tt.want {
			t.Errorf("%q matches %q = %v, want %v", tt.pattern, tt.number, got, tt.want)
		}
	}
	for _, bad := range []string{"", "*", "+*", " *", "+17*34", "+1734**", "sip:1@x*", "1234567890123456*"} {
		if p, err := number.ParsePattern(bad); err == nil {
			t.Errorf("ParsePattern(%q) = %q, want an error", bad, p)
		}
	}
	if (number.Pattern{}).Match("") {
		t.Error("the zero pattern matches the empty text")
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"+17344321234", " 1 734", "sip:x@y", "++1", "(1)2.3-4"} {
		f.Add(s)
	}
	canonical := regexp.MustCompile(`^\+[0-9]{3,15}$`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := number.Normalize(in)
		if err != nil {
			return
		}
		if !canonical.MatchString(got) {
			t.Fatalf("Normalize(%q) = %q, which is not canonical", in, got)
		}
		again, err := number.Normalize(got)
		if again != got || err != nil {
			t.Fatalf("Normalize(%q) = %q, %v; a canonical number must stay as it is", got, again, err)
		}
		p, err := number.ParsePattern(in)
		if err != nil || !p.Match(got) {
			t.Fatalf("a number must be its own pattern: ParsePattern(%q) = %v, %v", in, p, err)
		}
	})
}
