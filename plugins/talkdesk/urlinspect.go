package main

import (
	"net/url"
	"strings"
)

// inspectStreamURL takes a pasted stream URL apart and says in words what is
// wrong with it. path is the one this server answers.
func inspectStreamURL(raw, path string) (r streamRequest, problems []string, masked string) {
	// A line break in the middle is how a URL arrives from an e-mail.
	raw = strings.NewReplacer("\r", "", "\n", "", "\t", "").Replace(strings.TrimSpace(raw))
	masked = maskURL(raw)
	if len(raw) > maxURLBytes {
		return r, []string{"the URL is longer than 8192 bytes"}, ""
	}
	head, query, _ := strings.Cut(raw, "?")
	query, fragment, hasFragment := strings.Cut(query, "#")
	if hasFragment {
		problems = append(problems, "everything behind # is not sent: write # as %23")
	}
	_ = fragment
	problems = append(problems, inspectHead(head, path)...)
	r, found := parseStreamQuery(query)
	for _, p := range found {
		problems = append(problems, p.Text)
	}
	return r, problems, masked
}

func inspectHead(head, path string) (problems []string) {
	u, err := url.Parse(head)
	if err != nil {
		return []string{"the part before ? is not a URL: write wss://host/path/"}
	}
	switch strings.ToLower(u.Scheme) {
	case "wss":
	case "ws":
		if !isLoopback(u.Hostname()) {
			problems = append(problems, "the scheme is ws: the platform dials wss only")
		}
	default:
		problems = append(problems, "the scheme must be wss")
	}
	if u.Host == "" {
		problems = append(problems, "the host is missing")
	}
	if u.User != nil {
		problems = append(problems, "a user or password in the URL is ignored")
	}
	// A proxy in front may add a prefix, so only the end is compared.
	if !strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), path) {
		problems = append(problems, "the path does not end in "+path)
	}
	return problems
}

// maskURL hides the token of a URL, of a request line or of a query, however
// broken it is.
func maskURL(raw string) string {
	const separators = "?&;#"
	var out strings.Builder
	for rest := raw; rest != ""; {
		end := strings.IndexAny(rest, separators)
		part, sep := rest, ""
		if end >= 0 {
			part, sep = rest[:end], rest[end:end+1]
			rest = rest[end+1:]
		} else {
			rest = ""
		}
		out.WriteString(maskPair(part) + sep)
	}
	return out.String()
}

func maskPair(part string) string {
	key, value, found := strings.Cut(part, "=")
	plain := key
	if k, err := url.QueryUnescape(key); err == nil {
		plain = k
	}
	if found && value != "" && strings.EqualFold(stripSpace(plain), parameterToken) {
		return key + "=" + maskedToken
	}
	if user, host, ok := strings.Cut(part, "@"); ok && strings.Contains(user, "://") {
		scheme, _, _ := strings.Cut(user, "://")
		part = scheme + "://" + maskedToken + "@" + host
	}
	return maskBearer(part)
}

// maskBearer hides whatever looks like a signed token ("eyJ…" is `{"` in
// base64), wherever somebody pasted it.
func maskBearer(s string) string {
	const start = "eyJ"
	i := strings.Index(s, start)
	if i < 0 {
		return s
	}
	end := i
	for end < len(s) && (s[end] == '.' || s[end] == '-' || s[end] == '_' || s[end] >= '0' && s[end] <= '9' ||
		s[end] >= 'a' && s[end] <= 'z' || s[end] >= 'A' && s[end] <= 'Z') {
		end++
	}
	return s[:i] + maskedToken + maskBearer(s[end:])
}
