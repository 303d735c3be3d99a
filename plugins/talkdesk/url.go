package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a stream URL. A real one is about 400 bytes; a token with claims
// adds a few hundred.
const (
	maxURLBytes      = 8 << 10
	maxParameters    = 64
	maxKeyBytes      = 128
	maxValueBytes    = 4 << 10
	minNumberDigits  = 3
	maxNumberDigits  = 15 // ITU-T E.164 §6.2.1
	maskedToken      = "***"
	defaultPath      = "/audiosocket/talkdesk"
	parameterNumber  = "sipuri"
	parameterToken   = "token"
	parameterBot     = "botId"
	parameterAccount = "accountId"
	parameterMode    = "agentassist"
)

// streamRequest is what a stream URL asks for.
type streamRequest struct {
	// Token is the credential; it appears in no log, error or parameter.
	Token string
	// Number is "+" and 3 to 15 digits; empty when there is none.
	Number  string
	Bot     string
	Account string
	// Monitor is agentassist=true: both sides are listened to, nothing is sent.
	Monitor bool
	// Parameters are all other parameters, keys as written.
	Parameters map[string]string
}

// urlProblem is one thing that is wrong with a stream URL. Text never holds a
// parameter's value.
type urlProblem struct {
	Text string
	// Malformed: the request cannot be understood. Otherwise something that
	// admission will refuse by its own order of checks (a missing token).
	Malformed bool
}

// parseStreamQuery takes the query of a stream URL apart. It goes on after a
// problem, so that an operator sees all of them at once.
func parseStreamQuery(raw string) (streamRequest, []urlProblem) {
	p := queryParser{seen: make(map[string]bool, 8)}
	if len(raw) > maxURLBytes {
		p.malformed("the URL is longer than %d bytes", maxURLBytes)
		return p.request, p.problems
	}
	count := 0
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		if count++; count > maxParameters {
			p.malformed("more than %d parameters", maxParameters)
			break
		}
		p.pair(pair)
	}
	p.missing()
	return p.request, p.problems
}

type queryParser struct {
	request  streamRequest
	problems []urlProblem
	seen     map[string]bool
}

func (p *queryParser) malformed(format string, args ...any) {
	p.problems = append(p.problems, urlProblem{Text: fmt.Sprintf(format, args...), Malformed: true})
}

func (p *queryParser) pair(pair string) {
	rawKey, rawValue, _ := strings.Cut(pair, "=")
	key, err := url.QueryUnescape(rawKey)
	if err != nil || len(key) > maxKeyBytes || !utf8.ValidString(key) {
		p.malformed("a parameter's name has a broken escape, is longer than %d bytes or is not UTF-8", maxKeyBytes)
		return
	}
	key = strings.TrimSpace(key)
	if key == "" {
		return
	}
	folded := strings.ToLower(key)
	if p.seen[folded] {
		return // Studio flows are edited by hand: the first of two wins.
	}
	p.seen[folded] = true
	value, err := url.QueryUnescape(rawValue)
	switch {
	case err != nil:
		p.malformed("%s has a broken escape: write %% as %%25", printable(key))
		return
	case len(value) > maxValueBytes:
		p.malformed("%s is longer than %d bytes", printable(key), maxValueBytes)
		return
	case !utf8.ValidString(value):
		p.malformed("%s is not UTF-8", printable(key))
		return
	}
	p.set(key, folded, value)
}

func (p *queryParser) set(key, folded, value string) {
	r := &p.request
	switch folded {
	case parameterNumber:
		p.number(value)
	case parameterToken:
		r.Token = stripSpace(value)
	case strings.ToLower(parameterBot):
		r.Bot = stripSpace(value)
	case strings.ToLower(parameterAccount):
		r.Account = stripSpace(value)
	case parameterMode:
		switch strings.ToLower(stripSpace(value)) {
		case "", "false", "0", "no":
		case "true", "1", "yes":
			r.Monitor = true
		default:
			p.malformed("agentassist must be true or false")
		}
	default:
		if r.Parameters == nil {
			r.Parameters = make(map[string]string)
		}
		r.Parameters[key] = value
	}
}

func (p *queryParser) number(value string) {
	if strings.TrimSpace(value) == "" {
		return // reported as missing
	}
	number, err := canonicalNumber(value)
	if err != nil {
		p.malformed("sipuri %s", err)
		return
	}
	p.request.Number = number
}

// missing lists the parameters that a bot call needs and this URL lacks. Only a
// missing number makes the request malformed: what an absent token or bot means
// is for admission to say.
func (p *queryParser) missing() {
	r := &p.request
	if r.Number == "" && !slices.ContainsFunc(p.problems, func(q urlProblem) bool { return strings.HasPrefix(q.Text, parameterNumber) }) {
		p.malformed("sipuri is missing: give the bot's number, + as %%2B")
	}
	for _, f := range []struct{ name, value string }{{parameterToken, r.Token}, {parameterBot, r.Bot}, {parameterAccount, r.Account}} {
		if f.value == "" {
			p.problems = append(p.problems, urlProblem{Text: f.name + " is missing"})
		}
	}
}

// canonicalNumber turns a number as people write it into "+" and digits. A bare
// "+" that a form decoder made a space of is put back.
func canonicalNumber(value string) (string, error) {
	s := strings.TrimSpace(value)
	if rest, ok := cutPrefixFold(s, "tel:"); ok {
		s = rest
	}
	s = strings.TrimPrefix(s, "+")
	if i := strings.IndexAny(s, ":@;"); i >= 0 {
		return "", errors.New("is an address: give a telephone number, not a sip: URI")
	}
	digits := make([]byte, 1, maxNumberDigits+1)
	digits[0] = '+'
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			if len(digits) > maxNumberDigits {
				return "", fmt.Errorf("has more than %d digits", maxNumberDigits)
			}
			digits = append(digits, c)
		case c == ' ' || c == '-' || c == '.' || c == '(' || c == ')':
		default:
			return "", errors.New("holds a character that no telephone number has")
		}
	}
	if len(digits) <= minNumberDigits {
		return "", fmt.Errorf("has fewer than %d digits", minNumberDigits)
	}
	return string(digits), nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// stripSpace removes white space anywhere: tokens and ids get wrapped by
// copy-paste.
func stripSpace(s string) string {
	if strings.IndexFunc(s, unicode.IsSpace) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// printable makes a peer's parameter name fit for a log line.
func printable(s string) string {
	const most = 32
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return maskBearer(s)
}

// buildStreamURL makes the address to paste into the platform's voice step:
// base, path with its trailing slash, parameters escaped, + as %2B.
func buildStreamURL(base, path string, r streamRequest) (string, error) {
	u, err := parseBase(base)
	if err != nil {
		return "", err
	}
	number, err := canonicalNumber(r.Number)
	if err != nil {
		return "", fmt.Errorf("build stream url: the number %w", err)
	}
	for _, f := range []struct{ name, value string }{{parameterToken, r.Token}, {parameterBot, r.Bot}, {parameterAccount, r.Account}} {
		if err := checkValue(f.name, f.value, true); err != nil {
			return "", err
		}
	}
	var q strings.Builder
	write := func(key, value string) {
		if q.Len() > 0 {
			q.WriteByte('&')
		}
		q.WriteString(url.QueryEscape(key) + "=" + url.QueryEscape(value))
	}
	write(parameterNumber, number)
	write(parameterToken, r.Token)
	write(parameterBot, r.Bot)
	write(parameterAccount, r.Account)
	write(parameterMode, map[bool]string{true: "true", false: "false"}[r.Monitor])
	if err := writeExtras(r.Parameters, write); err != nil {
		return "", err
	}
	out := u + strings.TrimSuffix(path, "/") + "/?" + q.String()
	if len(out) > maxURLBytes {
		return "", fmt.Errorf("build stream url: %d bytes, the limit is %d: shorten the token or the parameters", len(out), maxURLBytes)
	}
	return out, nil
}

func writeExtras(parameters map[string]string, write func(key, value string)) error {
	keys := make([]string, 0, len(parameters))
	folded := make(map[string]bool, len(parameters))
	for _, reserved := range []string{parameterNumber, parameterToken, parameterBot, parameterAccount, parameterMode} {
		folded[strings.ToLower(reserved)] = true
	}
	for key, value := range parameters {
		fold := strings.ToLower(key)
		switch {
		case key == "" || key != strings.TrimSpace(key) || len(key) > maxKeyBytes || !utf8.ValidString(key):
			return fmt.Errorf("build stream url: a parameter's name is empty, padded, longer than %d bytes or not UTF-8", maxKeyBytes)
		case folded[fold]:
			return fmt.Errorf("build stream url: parameter %s is given twice or is one of the stream's own", printable(key))
		}
		if err := checkValue(key, value, false); err != nil {
			return err
		}
		folded[fold] = true
		keys = append(keys, key)
	}
	// Five of the allowed parameters are the stream's own.
	if len(keys)+5 > maxParameters {
		return fmt.Errorf("build stream url: more than %d parameters", maxParameters)
	}
	slices.Sort(keys)
	for _, key := range keys {
		write(key, parameters[key])
	}
	return nil
}

func checkValue(name, value string, compact bool) error {
	switch {
	case len(value) > maxValueBytes:
		return fmt.Errorf("build stream url: %s is longer than %d bytes", printable(name), maxValueBytes)
	case !utf8.ValidString(value):
		return fmt.Errorf("build stream url: %s is not UTF-8", printable(name))
	case compact && stripSpace(value) != value:
		return fmt.Errorf("build stream url: %s holds white space", name)
	}
	return nil
}

// parseBase checks the public base and returns it without a trailing slash.
func parseBase(base string) (string, error) {
	u, err := url.Parse(strings.TrimSpace(base))
	if err != nil || u.Host == "" {
		return "", errors.New("build stream url: the base is not a URL: write wss://host[:port]")
	}
	switch strings.ToLower(u.Scheme) {
	case "wss", "https":
		u.Scheme = "wss"
	case "ws", "http":
		u.Scheme = "ws"
	default:
		return "", fmt.Errorf("build stream url: scheme %q of the base: write wss://", u.Scheme)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", errors.New("build stream url: the base has a query, a fragment or a password: write wss://host[:port]")
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}
