package config

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written as "100MB" or "64KiB" in the file.
type Size int64

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		name   string
		factor Size
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if s != 0 && s%u.factor == 0 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

var (
	errDuration = errors.New("is not a duration")
	errSize     = errors.New("is not a size")
)

// dayPart finds the days of a duration; Go's own syntax has none.
var dayPart = regexp.MustCompile(`^([0-9]{1,6})d`)

// ParseDuration reads Go's duration syntax ("1h30m", "500ms") and days
// ("90d", "1d12h"). Negative durations are refused.
func ParseDuration(text string) (time.Duration, error) {
	rest := text
	var days time.Duration
	if m := dayPart.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > math.MaxInt64/int64(24*time.Hour) {
			return 0, errDuration
		}
		days = time.Duration(n) * 24 * time.Hour
		rest = text[len(m[0]):]
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || strings.HasPrefix(rest, "+") || days+d < 0 {
		return 0, errDuration
	}
	return days + d, nil
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,18}) ?([KMGT]i?)?B$`)

// ParseSize reads a number of bytes with its unit: B, KB, MB, GB, TB in steps
// of 1000, KiB, MiB, GiB, TiB in steps of 1024.
func ParseSize(text string) (Size, error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, errSize
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, errSize
	}
	factor := int64(1)
	if m[2] != "" {
		step := int64(1000)
		if strings.HasSuffix(m[2], "i") {
			step = 1024
		}
		for range strings.Index("KMGT", m[2][:1]) + 1 {
			factor *= step
		}
	}
	if n > math.MaxInt64/factor {
		return 0, errSize
	}
	return Size(n * factor), nil
}
