package sdp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const offer = "v=0\r\no=gw 1 2 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n" +
	"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendonly\r\n"

func TestParse(t *testing.T) {
	got, err := Parse([]byte(offer))
	if err != nil {
		t.Fatal(err)
	}
	want := &Session{
		SessionID: "1", Version: "2", Profile: "RTP/AVP", Ptime: 20, Direction: SendOnly,
		Addr: netip.MustParseAddrPort("10.0.0.1:4000"), RTCP: netip.MustParseAddrPort("10.0.0.1:4001"),
		Codecs: []Codec{{0, "PCMU", 8000, ""}, {8, "PCMA", 8000, ""}, {101, "TELEPHONE-EVENT", 8000, "0-16"}},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("session (-want +got):\n%s", d)
	}
	if c, ok := got.Find("telephone-event"); !ok || c.PayloadType != 101 {
		t.Errorf("find: %+v %v", c, ok)
	}
}

func TestParseProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		old, new string
		want     string // of Problems; "" means refused
	}{
		"other version":    {"v=0", "v=1", ""},
		"no audio":         {"m=audio", "m=video", ""},
		"no address":       {"c=IN IP4 10.0.0.1\r\n", "", ""},
		"family mismatch":  {"c=IN IP4 10.0.0.1", "c=IN IP4 ::1", ""},
		"host name":        {"c=IN IP4 10.0.0.1", "c=IN IP4 example.com", ""},
		"port":             {"4000", "70000", ""},
		"payload type":     {"8 101", "8 128", ""},
		"no equals sign":   {"t=0 0", "t", ""},
		"bare line feed":   {"t=0 0\r\n", "t=0 0\n", "line end without CR"},
		"short origin":     {"o=gw 1 2 IN IP4 10.0.0.1", "o=gw 1", "o= has 2 fields, want 6"},
		"no session name":  {"s=-\r\n", "", "v=, o=, s= must come first, in this order, and t= must be there"},
		"ptime":            {"ptime:20", "ptime:x", `ptime "x"`},
		"unmapped dynamic": {"a=rtpmap:101 telephone-event/8000\r\n", "", "dynamic payload type 101 without rtpmap"},
		"unlisted rtpmap":  {"rtpmap:101", "rtpmap:102", "rtpmap for payload type 102, which the m= line does not list"},
	} {
		s, err := Parse([]byte(strings.Replace(offer, tc.old, tc.new, 1)))
		if tc.want == "" {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		if err != nil || !strings.Contains(strings.Join(s.Problems, "\n"), tc.want) {
			t.Errorf("%s: %v, problems %q", name, err, s.Problems)
		}
	}
}

func TestDirection(t *testing.T) {
	for d, want := range map[Direction]Direction{SendRecv: SendRecv, SendOnly: RecvOnly, RecvOnly: SendOnly, Inactive: Inactive} {
		if got := d.Reverse(); got != want {
			t.Errorf("%s reversed: %s, want %s", d, got, want)
		}
	}
	s, err := Parse([]byte(strings.Replace(strings.Replace(offer, "a=sendonly\r\n", "", 1), "t=0 0\r\n", "t=0 0\r\na=inactive\r\n", 1)))
	if err != nil || s.Direction != Inactive {
		t.Errorf("session level: %v, %v", s, err)
	}
}

// FuzzParse: a description that parses, said again by us with its codecs, reads back the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(offer))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := Parse(in)
		if err != nil {
			return
		}
		if len(s.Codecs) == 0 {
			return
		}
		out := Local{Addr: s.Addr, Codecs: s.Codecs, Direction: s.Direction}.Bytes()
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("own output refused: %v\n%s", err, out)
		}
		if d := cmp.Diff(s.PayloadTypes(), again.PayloadTypes()); d != "" {
			t.Fatal(d)
		}
		if again.Addr != s.Addr || again.Direction != s.Direction {
			t.Fatalf("address %v → %v, direction %v → %v", s.Addr, again.Addr, s.Direction, again.Direction)
		}
	})
}
