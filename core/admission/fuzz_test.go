package admission_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzToken: whatever is sent as a token, it is accepted only if HMAC-SHA256
// under one of its app's secrets is its signature, computed here anew.
func FuzzToken(f *testing.F) {
	f.Add(hs256(f, secretNew, jwt.MapClaims{"appId": "cs-demo"}))
	f.Add(hs256(f, secretOld, jwt.MapClaims{"iss": "cs-demo", "exp": start().Unix() + 60}))
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"appId": "cs-demo"}))
	f.Add(confused(secretNew))
	f.Add("..")
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6ImNzLWRlbW8ifQ.")
	g := gate(f)
	f.Fuzz(func(t *testing.T, token string) {
		res, err := g.Admit(start(), request(token))
		if err != nil {
			reasonOf(t, err)
			return
		}
		res.Release()
		if !genuine(token) {
			t.Errorf("accepted, but not signed by the app: %q", token)
		}
	})
}

func genuine(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	var header struct{ Alg string }
	text, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || json.Unmarshal(text, &header) != nil || header.Alg != "HS256" {
		return false
	}
	for _, secret := range []string{secretNew, secretOld} {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(parts[0] + "." + parts[1]))
		if hmac.Equal(mac.Sum(nil), signature) {
			return true
		}
	}
	return false
}
