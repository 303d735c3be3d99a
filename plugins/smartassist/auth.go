package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// errNoChallenge is a 401 or 407 that asks for nothing we can answer.
var errNoChallenge = errors.New("no digest challenge that can be answered")

func needsCredentials(res *sip.Response) bool {
	return res.StatusCode == sip.StatusUnauthorized || res.StatusCode == sip.StatusProxyAuthRequired
}

// authorize puts credentials for the challenge of res on r, RFC 3261 §22. The digest is over the whole Request-URI, its
// parameters included, as a strict server compares it.
func authorize(r *sip.Request, res *sip.Response, auth fileAuth) error {
	ask, answer := "WWW-Authenticate", "Authorization"
	if res.StatusCode == sip.StatusProxyAuthRequired {
		ask, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, h := range res.GetHeaders(ask) { // best first, RFC 7616 §3.7; those we cannot answer are skipped
		challenge, err := digest.ParseChallenge(h.Value())
		if err != nil {
			continue
		}
		challenge.Algorithm = strings.ToUpper(challenge.Algorithm)
		cred, err := digest.Digest(challenge, digest.Options{
			Method: string(r.Method), URI: r.Recipient.String(), Username: auth.Username, Password: auth.Password, Count: 1,
		})
		if err != nil {
			continue
		}
		r.RemoveHeader(answer)
		r.AppendHeader(sip.NewHeader(answer, cred.String()))
		return nil
	}
	return fmt.Errorf("%s %d: %w", r.Method, res.StatusCode, errNoChallenge)
}

// renewBranch makes r a new transaction, RFC 3261 §8.1.1.7.
func renewBranch(r *sip.Request) {
	v := r.Via()
	v.Params.Remove("branch")
	v.Params.Add("branch", sip.GenerateBranch())
}
