package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay/patchbay/sdk"
)

//go:embed config.schema.json
var configSchema string

// fileConfig is the configuration block as the operator writes it.
type fileConfig struct {
	Listen    string    `json:"listen"`
	TLSListen string    `json:"tls_listen"`
	Advertise string    `json:"advertise"`
	RTPPorts  string    `json:"rtp_ports"`
	RTPSource string    `json:"rtp_source"`
	Trunk     fileTrunk `json:"trunk"`
}

type fileTrunk struct {
	Targets       []string `json:"targets"`
	SRTP          string   `json:"srtp"`
	TLS           fileTLS  `json:"tls"`
	Auth          fileAuth `json:"auth"`
	AnswerTimeout string   `json:"answer_timeout"`
	EarlyMedia    bool     `json:"early_media"`
	DTMF          string   `json:"dtmf"`
}

type fileTLS struct {
	CAFile     string `json:"ca_file"`
	ServerName string `json:"server_name"`
	CertFile   string `json:"cert_file"`
	KeyFile    string `json:"key_file"`
}

type fileAuth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Values of rtp_source and trunk.dtmf.
const (
	sourceLatch  = "latch"
	sourceStrict = "strict"
	dtmfRFC4733  = "rfc4733"
	dtmfInfo     = "info"
)

// config is the block, read and checked.
type config struct {
	listen, tlsListen netip.AddrPort
	advertise         netip.Addr // not valid: found per target
	minPort, maxPort  uint16
	strictSource      bool
	targets           []target
	tls               fileTLS
	auth              fileAuth
	answerTimeout     time.Duration
	earlyMedia        bool
	dtmfByInfo        bool
}

// parseConfig reads the block. The error is sdk.FieldErrors when fields are wrong.
func parseConfig(raw json.RawMessage) (config, error) {
	f := fileConfig{
		Listen: "0.0.0.0:5060", RTPPorts: "20000-29999", RTPSource: sourceLatch,
		Trunk: fileTrunk{SRTP: "off", AnswerTimeout: "20s", EarlyMedia: true, DTMF: dtmfRFC4733},
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return config{}, sdk.FieldErrors{{
				Pointer: "/" + strings.ReplaceAll(wrong.Field, ".", "/"), Problem: "is a " + wrong.Value,
				Mend: "write a " + wrong.Type.String(),
			}}
		}
		return config{}, sdk.FieldErrors{{Problem: err.Error(), Mend: "see `patchbay schema` for the keys of this plugin"}}
	}
	r := configReader{file: f}
	c := r.read()
	if len(r.errs) > 0 {
		return config{}, r.errs
	}
	return c, nil
}

// configReader gathers every error before it gives up.
type configReader struct {
	file fileConfig
	errs sdk.FieldErrors
}

func (r *configReader) bad(pointer, problem, mend string) {
	r.errs = append(r.errs, sdk.FieldError{Pointer: pointer, Problem: problem, Mend: mend})
}

func (r *configReader) read() config {
	f := r.file
	c := config{tls: f.Trunk.TLS, auth: f.Trunk.Auth, earlyMedia: f.Trunk.EarlyMedia}
	var err error
	if c.listen, err = netip.ParseAddrPort(f.Listen); err != nil {
		r.bad("/listen", fmt.Sprintf("%q is not an IP address and port", f.Listen), "write e.g. 0.0.0.0:5060")
	}
	if f.TLSListen != "" {
		if c.tlsListen, err = netip.ParseAddrPort(f.TLSListen); err != nil {
			r.bad("/tls_listen", fmt.Sprintf("%q is not an IP address and port", f.TLSListen), "write e.g. 0.0.0.0:5061, or leave it empty")
		}
		if f.Trunk.TLS.CertFile == "" {
			r.bad("/trunk/tls/cert_file", "is empty, but tls_listen is set", "name the PEM file of the certificate to show to peers")
		}
	}
	if f.Advertise != "" {
		if c.advertise, err = netip.ParseAddr(f.Advertise); err != nil || c.advertise.IsUnspecified() {
			r.bad("/advertise", fmt.Sprintf("%q is not an IP address that peers can reach", f.Advertise), "write the address peers see, e.g. 203.0.113.7, or leave it empty")
		}
		if c.listen.IsValid() && c.advertise.IsValid() && c.listen.Addr().Is4() != c.advertise.Is4() {
			r.bad("/advertise", "is of another IP version than listen", "use the same version for both")
		}
	}
	c.minPort, c.maxPort = r.ports()
	switch f.RTPSource {
	case sourceLatch, sourceStrict:
		c.strictSource = f.RTPSource == sourceStrict
	default:
		r.bad("/rtp_source", fmt.Sprintf("%q is not known", f.RTPSource), "write latch or strict")
	}
	r.trunk(&c)
	return c
}

func (r *configReader) ports() (first, last uint16) {
	low, high, _ := strings.Cut(r.file.RTPPorts, "-")
	from, err1 := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || from < 1024 || to < from {
		r.bad("/rtp_ports", fmt.Sprintf("%q is not a range of ports from 1024 to 65535", r.file.RTPPorts), "write e.g. 20000-29999")
		return 0, 0
	}
	from += from % 2
	if to < from+1 {
		r.bad("/rtp_ports", fmt.Sprintf("%q holds no pair of an even and the next odd port", r.file.RTPPorts), "write e.g. 20000-29999")
		return 0, 0
	}
	return uint16(from), uint16(to)
}

func (r *configReader) trunk(c *config) {
	t := r.file.Trunk
	if len(t.Targets) == 0 {
		r.bad("/trunk/targets", "is empty", "name at least one target, e.g. sip:sbc.example.com:5060")
	}
	for i, s := range t.Targets {
		parsed, err := parseTarget(s)
		if err != nil {
			r.bad("/trunk/targets/"+strconv.Itoa(i), err.Error(), "write sip:host:port, with ;transport=tcp or ;transport=tls where UDP is not wanted")
			continue
		}
		c.targets = append(c.targets, parsed)
	}
	switch t.SRTP {
	case "off":
	case "offer", "require":
		r.bad("/trunk/srtp", fmt.Sprintf("%q is not built yet: this version sends plain RTP only", t.SRTP), "write off")
	default:
		r.bad("/trunk/srtp", fmt.Sprintf("%q is not known", t.SRTP), "write off")
	}
	if (t.TLS.CertFile == "") != (t.TLS.KeyFile == "") {
		r.bad("/trunk/tls/key_file", "cert_file and key_file go together, one is empty", "set both, or none")
	}
	if (t.Auth.Username == "") != (t.Auth.Password == "") {
		r.bad("/trunk/auth", "username and password go together, one is empty", "set both, or none")
	}
	var err error
	if c.answerTimeout, err = time.ParseDuration(t.AnswerTimeout); err != nil || c.answerTimeout < time.Second || c.answerTimeout > 3*time.Minute {
		r.bad("/trunk/answer_timeout", fmt.Sprintf("%q is not a duration from 1s to 3m", t.AnswerTimeout), "write e.g. 20s")
	}
	switch t.DTMF {
	case dtmfRFC4733, dtmfInfo:
		c.dtmfByInfo = t.DTMF == dtmfInfo
	default:
		r.bad("/trunk/dtmf", fmt.Sprintf("%q is not known", t.DTMF), "write rfc4733 or info")
	}
}

// sameSockets tells whether running sockets serve next as well.
func (c *config) sameSockets(next *config) bool {
	return c.listen == next.listen && c.tlsListen == next.tlsListen && c.tls == next.tls &&
		c.minPort == next.minPort && c.maxPort == next.maxPort
}
