package config

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// hidden is what every way of printing a secret shows.
const hidden = "[hidden]"

// Secret is a value that no log line, error, dump or trace may show. Every
// printing path yields "[hidden]"; only Reveal gives the value.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the value, for the one place that needs it.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.value == "" }

// Equal compares two secrets in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(other.value)) == 1
}

// String returns "[hidden]".
func (s Secret) String() string { return hidden }

// GoString returns "[hidden]".
func (s Secret) GoString() string { return hidden }

// Format writes "[hidden]" whatever the verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, hidden) }

// LogValue returns "[hidden]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns "[hidden]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON returns "[hidden]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalYAML returns "[hidden]".
func (s Secret) MarshalYAML() (any, error) { return hidden, nil }

// Block is a section that core passes on unread: a plugin's own configuration.
// It may hold the plugin's secrets, so it prints as "[hidden]".
type Block struct{ json string }

// JSON returns the section as a JSON object, references resolved. It is "{}"
// where the section is left out.
func (b Block) JSON() []byte {
	if b.json == "" {
		return []byte("{}")
	}
	return []byte(b.json)
}

// Equal reports whether two sections say the same.
func (b Block) Equal(other Block) bool { return string(b.JSON()) == string(other.JSON()) }

// String returns "[hidden]".
func (b Block) String() string { return hidden }

// GoString returns "[hidden]".
func (b Block) GoString() string { return hidden }

// Format writes "[hidden]" whatever the verb.
func (b Block) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, hidden) }

// LogValue returns "[hidden]".
func (b Block) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON returns "[hidden]" as a JSON string; the section itself is
// JSON's.
func (b Block) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalYAML returns "[hidden]".
func (b Block) MarshalYAML() (any, error) { return hidden, nil }
