package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

const (
	// readLimit bounds one message; a media message is about 400 bytes.
	readLimit = 1 << 20
	// socketBuffer is gorilla's read and write buffer: two media messages.
	socketBuffer   = 1 << 10
	upgradeTimeout = 5 * time.Second
	// retryAfter is sent with 429 and 503 when the gateway names no time.
	retryAfter = 5 * time.Second
)

// answer is a request that gets no stream.
type answer struct {
	status int
	text   string // for the peer: no value of the request, no detail of ours
	detail string // for the log
	retry  time.Duration
}

// serve answers one request: everything that can be refused is refused before
// the upgrade, as a status other than 101 is what sends the platform's flow to
// its failure exit.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	set := s.settings.Load()
	remote := clientAddress(r, set.proxies)
	req, refused := s.examine(r, set)
	if refused != nil {
		s.refuse(w, r, remote, refused)
		return
	}
	admission, err := s.gateway.Admit(r.Context(), admitRequest(req, r, remote))
	if err != nil {
		s.refuse(w, r, remote, answerTo(err))
		return
	}
	s.upgrade(w, r, remote, newStream(s, set, req, admission))
}

// examine checks what needs no gateway.
func (s *server) examine(r *http.Request, set *settings) (streamRequest, *answer) {
	if strings.TrimSuffix(r.URL.Path, "/") != set.path {
		return streamRequest{}, &answer{status: http.StatusNotFound, text: "no stream is served on this path"}
	}
	if r.Method != http.MethodGet {
		return streamRequest{}, &answer{status: http.StatusMethodNotAllowed, text: "only GET with a WebSocket upgrade is served"}
	}
	if !websocket.IsWebSocketUpgrade(r) {
		return streamRequest{}, &answer{status: http.StatusUpgradeRequired, text: "this is a WebSocket endpoint"}
	}
	req, problems := parseStreamQuery(r.URL.RawQuery)
	var texts []string
	for _, p := range problems {
		if p.Malformed {
			texts = append(texts, p.Text)
		}
	}
	if len(texts) > 0 {
		text := strings.Join(texts, "; ")
		return req, &answer{status: http.StatusBadRequest, text: cutText(text, 512)}
	}
	if s.draining.Load() {
		return req, &answer{status: http.StatusServiceUnavailable, text: textOfRefusal(sdk.RefusedDraining)}
	}
	return req, nil
}

func admitRequest(req streamRequest, r *http.Request, remote netip.Addr) sdk.AdmitRequest {
	token := req.Token
	if token == "" {
		if bearer, ok := cutPrefixFold(r.Header.Get("Authorization"), "Bearer "); ok {
			token = strings.TrimSpace(bearer)
		}
	}
	mode := sdk.ModeBot
	if req.Monitor {
		mode = sdk.ModeMonitor
	}
	return sdk.AdmitRequest{
		Credential: sdk.Credential{JWT: strings.ToValidUTF8(token, "")},
		Number:     req.Number, Bot: req.Bot, Account: req.Account,
		Mode: mode, Parameters: req.Parameters, Remote: remote.String(),
	}
}

func (s *server) upgrade(w http.ResponseWriter, r *http.Request, remote netip.Addr, st *stream) {
	upgrader := websocket.Upgrader{
		HandshakeTimeout: upgradeTimeout,
		ReadBufferSize:   socketBuffer,
		WriteBufferSize:  socketBuffer,
		// The platform sends no Origin, and the token is the credential.
		CheckOrigin: func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, r *http.Request, status int, reason error) {
			s.refuse(w, r, remote, &answer{status: status, text: "the WebSocket handshake is broken", detail: reason.Error()})
		},
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		st.admission.Withdraw()
		return // answered and logged by Error, or the peer has gone
	}
	s.measures.answered(http.StatusSwitchingProtocols)
	options := engine.WebSocketOptions{
		ReadLimit: readLimit, CloseGrace: st.set.closeTimeout,
		PingInterval: st.set.pingInterval, PongTimeout: st.set.pongTimeout,
	}
	_, err = s.engine.WebSocket(conn, options, func(c engine.WebSocketConn) engine.Handler {
		st.conn = c
		return st
	})
	if err != nil { // only when the process ends
		st.admission.Withdraw()
		return
	}
	st.log.Info("stream opened", "remote", remote.String(), "url", maskURL(r.URL.RequestURI()))
	if !s.register(st) {
		st.admission.Withdraw()
		st.conn.Close(websocket.CloseGoingAway, "the gateway is shutting down")
	}
}

func (s *server) refuse(w http.ResponseWriter, r *http.Request, remote netip.Addr, a *answer) {
	s.measures.answered(a.status)
	s.log.Info("stream refused", "status", a.status, "reason", a.text, "detail", a.detail,
		"remote", remote.String(), "url", maskURL(r.URL.RequestURI()))
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	switch a.status {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired: // RFC 9110 §15.5.22
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade, close")
	case http.StatusUnauthorized: // RFC 9110 §15.5.2
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		retry := a.retry
		if retry <= 0 {
			retry = retryAfter
		}
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
	}
	w.WriteHeader(a.status)
	// The peer may have gone; its status is counted.
	_, _ = fmt.Fprintln(w, a.text) //nolint:gosec // plain text that no browser sniffs; it repeats at most a parameter's name
}

// answerTo turns a refusal of the gateway into what the platform understands.
func answerTo(err error) *answer {
	var refusal *sdk.Refusal
	if !errors.As(err, &refusal) {
		return &answer{status: http.StatusServiceUnavailable, text: textOfRefusal(sdk.RefusedBusy), detail: err.Error()}
	}
	a := &answer{text: textOfRefusal(refusal.Reason), detail: refusal.Detail, retry: refusal.RetryAfter}
	switch refusal.Reason {
	case sdk.RefusedMalformed:
		a.status = http.StatusBadRequest
	case sdk.RefusedUnauthenticated:
		a.status = http.StatusUnauthorized
	case sdk.RefusedForbidden:
		a.status = http.StatusForbidden
	case sdk.RefusedUnsupported:
		a.status = http.StatusNotImplemented
	case sdk.RefusedNoRoute:
		a.status = http.StatusNotFound
	case sdk.RefusedQuota:
		a.status = http.StatusTooManyRequests
	case sdk.RefusedBusy, sdk.RefusedDraining:
		a.status = http.StatusServiceUnavailable
	default:
		a.status = http.StatusServiceUnavailable
	}
	return a
}

func textOfRefusal(reason sdk.RefusalReason) string {
	switch reason {
	case sdk.RefusedMalformed:
		return "the request is malformed"
	case sdk.RefusedUnauthenticated:
		return "the token is missing or not valid"
	case sdk.RefusedForbidden:
		return "this bot, account or number is not allowed"
	case sdk.RefusedUnsupported:
		return "this mode is not supported"
	case sdk.RefusedNoRoute:
		return "no route matches this call"
	case sdk.RefusedQuota:
		return "too many calls"
	case sdk.RefusedDraining:
		return "the gateway takes no new calls"
	case sdk.RefusedBusy:
	}
	return "the gateway is busy"
}

// clientAddress is the peer's address; behind a trusted proxy the last address
// of X-Forwarded-For that is not itself a trusted proxy's.
func clientAddress(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(addr, proxies); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break // what a trusted proxy did not write cannot be believed
		}
		addr = hop.Unmap().WithZone("")
	}
	return addr
}

func trusted(addr netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
