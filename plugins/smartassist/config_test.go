package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/patchbay/patchbay/sdk"
)

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	c, err := parseConfig(json.RawMessage(`{"trunk":{"targets":["sip:sbc.example.com","sip:192.0.2.1:5070;transport=tls"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.listen.String() != "0.0.0.0:5060" || c.tlsListen.IsValid() || c.minPort != 20000 || c.maxPort != 29999 ||
		c.strictSource || c.answerTimeout != 20*time.Second || !c.earlyMedia || c.dtmfByInfo {
		t.Errorf("defaults: %+v", c)
	}
	want := []target{{"sbc.example.com", 5060, transportUDP}, {"192.0.2.1", 5070, transportTLS}}
	if diff := cmp.Diff(want, c.targets, cmp.AllowUnexported(target{})); diff != "" {
		t.Error(diff)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		json string
		want []string // pointers
	}{
		"no targets":     {`{}`, []string{"/trunk/targets"}},
		"unknown key":    {`{"lisen":"x"}`, []string{""}},
		"wrong type":     {`{"trunk":{"early_media":"yes"}}`, []string{"/trunk/early_media"}},
		"srtp":           {`{"trunk":{"targets":["sip:a"],"srtp":"require"}}`, []string{"/trunk/srtp"}},
		"half a secret":  {`{"trunk":{"targets":["sip:a"],"auth":{"username":"u"}}}`, []string{"/trunk/auth"}},
		"half a pair":    {`{"trunk":{"targets":["sip:a"],"tls":{"cert_file":"c"}}}`, []string{"/trunk/tls/key_file"}},
		"tls uncertain":  {`{"tls_listen":"0.0.0.0:5061","trunk":{"targets":["sip:a"]}}`, []string{"/trunk/tls/cert_file"}},
		"one port":       {`{"rtp_ports":"2001-2002","trunk":{"targets":["sip:a"]}}`, []string{"/rtp_ports"}},
		"mixed versions": {`{"advertise":"::1","trunk":{"targets":["sip:a"]}}`, []string{"/advertise"}},
		"everything at once": {
			`{"listen":"5060","rtp_ports":"9-1","rtp_source":"any","trunk":{"targets":["sips:a","sip:a:0","sip:u@a","sip:a;transport=sctp","sip:a;x=1","b","sip:-a"],"answer_timeout":"0s","dtmf":"tone"}}`,
			[]string{
				"/listen", "/rtp_ports", "/rtp_source", "/trunk/targets/0", "/trunk/targets/1", "/trunk/targets/2", "/trunk/targets/3",
				"/trunk/targets/4", "/trunk/targets/5", "/trunk/targets/6", "/trunk/answer_timeout", "/trunk/dtmf",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseConfig(json.RawMessage(tt.json))
			var errs sdk.FieldErrors
			if !errors.As(err, &errs) {
				t.Fatalf("error %v, want field errors", err)
			}
			var got []string
			for _, e := range errs {
				got = append(got, e.Pointer)
				if e.Problem == "" || e.Mend == "" {
					t.Errorf("%+v does not help", e)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigSchemaAgrees(t *testing.T) {
	t.Parallel()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(configSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	full := fileConfig{
		Listen: "0.0.0.0:5060", RTPPorts: "20000-29999", RTPSource: sourceStrict,
		Trunk: fileTrunk{Targets: []string{"sip:a"}, SRTP: "off", AnswerTimeout: "20s", DTMF: dtmfInfo},
	}
	raw, err := json.Marshal(full) // every key we read is a key of the schema
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
}
