package admission

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay/patchbay/core/config"
)

const (
	// maxToken bounds a token before any of it is decoded.
	maxToken = 8 << 10
	// maxSigned bounds what an HMAC is computed over.
	maxSigned = 64 << 10
	// leeway is what clocks may differ by (RFC 7519 §4.1.4: "a few minutes" at
	// most; one is enough).
	leeway = 60 * time.Second
)

// tokenClaims are the claims that count. The platforms' own tokens hold no
// more than appId; the others are written by Mint.
type tokenClaims struct {
	AppID     string `json:"appId,omitempty"`
	SIPURI    string `json:"sipuri,omitempty"`
	BotID     string `json:"botId,omitempty"`
	AccountID string `json:"accountId,omitempty"`
	jwt.RegisteredClaims
}

// appID is the claim that names the app; some tokens have it as the issuer.
func (c *tokenClaims) appID() string {
	if c.AppID != "" {
		return c.AppID
	}
	return c.Issuer
}

var (
	errKeys     = errors.New("no key")
	errCritical = errors.New("the token's header demands an extension")
)

// verifyToken checks signature and times. Where the app is not known the same
// work is done with keys nobody has, and the refusal is the same.
func (c *claimant) verifyToken() *Refusal {
	token := c.req.Credential.Token
	switch {
	case token == "":
		return refuse(ReasonUnauthenticated, "no token")
	case len(token) > maxToken:
		return refuse(ReasonUnauthenticated, "the token is over 8 KiB")
	}
	unverified := &tokenClaims{}
	parsed, parts, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, unverified)
	if err != nil {
		return refuse(ReasonUnauthenticated, "the token cannot be read: "+tokenFault(err))
	}
	known := c.policy.app(unverified.appID(), config.AuthJWT)
	claims, err := c.verifyWith(token, known)
	switch {
	case known == nil:
		return refuse(ReasonUnauthenticated, "no app has the token's appId")
	case err != nil:
		return refuse(ReasonUnauthenticated, "the token for app "+known.Name+" is refused: "+tokenFault(err))
	case claims.appID() != known.AppID:
		return refuse(ReasonUnauthenticated, "the token names two apps")
	}
	c.app, c.claims = known, claims
	c.secret = signedBy(parsed, parts, known.secrets)
	return nil
}

// verifyWith parses the token anew, trying every key.
func (c *claimant) verifyWith(token string, known *app) (*tokenClaims, error) {
	options := []jwt.ParserOption{
		// One algorithm only: "none" and a public key taken for an HMAC secret
		// are refused with it (RFC 8725 §3.1).
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithStrictDecoding(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(func() time.Time { return c.now }),
	}
	if known != nil && known.RequireExp {
		options = append(options, jwt.WithExpirationRequired())
	}
	claims := &tokenClaims{}
	_, err := jwt.NewParser(options...).ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, has := t.Header["crit"]; has {
			return nil, errCritical // RFC 7515 §4.1.11: not understood, so refused
		}
		var set jwt.VerificationKeySet
		for _, key := range c.policy.keys(known) {
			set.Keys = append(set.Keys, key)
		}
		if len(set.Keys) == 0 {
			return nil, errKeys
		}
		return set, nil
	})
	if err != nil {
		return nil, fmt.Errorf("verify token: %w", err)
	}
	return claims, nil
}

// signedBy returns which of the secrets signed a verified token.
func signedBy(token *jwt.Token, parts []string, secrets [][]byte) int {
	text := strings.Join(parts[:2], ".")
	for i, secret := range secrets {
		if jwt.SigningMethodHS256.Verify(text, token.Signature, secret) == nil {
			return i
		}
	}
	return 0
}

// tokenFault words the parser's error without anything of the token in it.
func tokenFault(err error) string {
	switch {
	case errors.Is(err, errCritical):
		return errCritical.Error()
	case errors.Is(err, jwt.ErrTokenMalformed):
		return "it is not a token of three parts in base64url and JSON"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return "it is not signed with HS256 and one of the app's secrets"
	case errors.Is(err, jwt.ErrTokenExpired):
		return "it has expired"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "it is not valid yet"
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "it was issued in the future"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "it does not expire, and the app demands it (require_exp)"
	}
	return "its claims are not valid"
}

// verifyHMAC checks a signature in constant time, with the same work for an
// unknown key id.
func (c *claimant) verifyHMAC() *Refusal {
	cred := &c.req.Credential
	switch {
	case !strings.EqualFold(cred.Scheme, SchemeHMACSHA256):
		return refuse(ReasonUnauthenticated, "the signature's scheme is not known")
	case len(cred.Signed) == 0 || len(cred.Signed) > maxSigned:
		return refuse(ReasonUnauthenticated, "nothing, or more than 64 KiB, was signed")
	}
	known := c.policy.app(cred.KeyID, config.AuthHMAC)
	match := -1
	for i, key := range c.policy.keys(known) {
		mac := hmac.New(sha256.New, key)
		mac.Write(cred.Signed)
		if hmac.Equal(mac.Sum(nil), cred.Signature) {
			match = i
		}
	}
	switch {
	case known == nil:
		return refuse(ReasonUnauthenticated, "no app has the signature's key id")
	case match < 0 || match >= len(known.secrets):
		return refuse(ReasonUnauthenticated, "the signature fits none of app "+known.Name+"'s secrets")
	}
	c.app, c.secret = known, match
	return nil
}

// Claims bind a minted token to what it may be used for; empty ones bind
// nothing.
type Claims struct {
	// Number, Bot and Account must be those of the request.
	Number, Bot, Account string
}

// Mint returns a token for an app, signed with its first secret. It is issued
// at now and, when expires is over 0, expires so much later. The number is
// brought into its canonical form.
func Mint(now time.Time, app config.App, claims Claims, expires time.Duration) (string, error) {
	if app.Auth != config.AuthJWT || len(app.Secrets) == 0 {
		return "", fmt.Errorf("mint token: app %s does not authenticate by token; choose one with auth: jwt", app.Name)
	}
	if app.RequireExp && expires <= 0 {
		return "", fmt.Errorf("mint token: app %s refuses tokens that do not expire; say when it shall", app.Name)
	}
	c := tokenClaims{AppID: app.AppID, BotID: claims.Bot, AccountID: claims.Account}
	if claims.Number != "" {
		canonical, err := NormalizeNumber(claims.Number)
		if err != nil {
			return "", fmt.Errorf("mint token: the number %w", err)
		}
		c.SIPURI = canonical
	}
	c.IssuedAt = jwt.NewNumericDate(now)
	if expires > 0 {
		c.ExpiresAt = jwt.NewNumericDate(now.Add(expires))
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(app.Secrets[0].Reveal()))
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}
