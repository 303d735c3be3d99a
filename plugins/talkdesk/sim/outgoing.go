package sim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// writeWait bounds one write; a gateway that does not read for so long has hung.
const writeWait = 10 * time.Second

// object is a message to be: what the platform sends is built from the sample messages, key by key.
type object = map[string]any

// number writes n as the platform does, as a string, unless Faults say otherwise.
func (s *session) number(n int64) any {
	if s.opt.Faults.NumbersAsNumbers {
		return n
	}
	return strconv.FormatInt(n, 10)
}

// send writes m with the next sequence number and the stream's id.
// sequenceNumber: "first message starts with 1" and connected has none, so start is 1 (talkdesk-to-partner page).
func (s *session) send(event string, m object) error {
	s.sequence++
	m["event"] = event
	m["sequenceNumber"] = s.number(s.sequence)
	if !s.opt.Faults.NoStreamSID {
		m["streamSid"] = s.opt.StreamSID
	}
	return s.sendJSON(m)
}

func (s *session) sendJSON(m object) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %v: %w", m["event"], err)
	}
	return s.write(websocket.TextMessage, raw)
}

// open sends connected and start, or what Faults put in their place.
func (s *session) open() error {
	if s.opt.Faults.Opening != nil {
		for _, m := range s.opt.Faults.Opening {
			if err := s.write(websocket.TextMessage, []byte(m)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.sendJSON(object{"event": "connected", "protocol": "Call", "version": "1.0.0"}); err != nil {
		return err
	}
	s.note(Event{Sent: true, Name: "connected"})
	err := s.send("start", object{"start": object{
		"streamSid":        s.opt.StreamSID,
		"accountSid":       s.opt.AccountSID,
		"callSid":          s.opt.CallSID,
		"tracks":           []string{"inbound"},
		"customParameters": s.opt.Params,
		// mediaFormat's values are real numbers, unlike the counters of media.
		"mediaFormat": object{"encoding": "audio/x-mulaw", "sampleRate": sampleRate, "channels": 1},
	}})
	if err != nil {
		return err
	}
	s.note(Event{Sent: true, Name: "start", Detail: s.opt.StreamSID})
	return nil
}

// sendMedia sends frame n: chunk counts from 1, timestamp is milliseconds from the start of the stream.
func (s *session) sendMedia(n int, ulaw []byte) error {
	s.sequence++
	quote := `"`
	if s.opt.Faults.NumbersAsNumbers {
		quote = ""
	}
	b := append(s.buf[:0], `{"event":"media","sequenceNumber":`...)
	b = append(strconv.AppendInt(append(b, quote...), s.sequence, 10), quote...)
	if !s.opt.Faults.NoStreamSID {
		b = strconv.AppendQuote(append(b, `,"streamSid":`...), s.opt.StreamSID)
	}
	b = append(append(b, `,"media":{"track":"inbound","chunk":`...), quote...)
	b = append(strconv.AppendInt(b, int64(n)+1, 10), quote...)
	b = append(append(b, `,"timestamp":`...), quote...)
	b = append(strconv.AppendInt(b, s.pacer.due(n).Milliseconds(), 10), quote...)
	b = base64.StdEncoding.AppendEncode(append(b, `,"payload":"`...), ulaw)
	s.buf = append(b, `"}}`...)
	if err := s.write(websocket.TextMessage, s.buf); err != nil {
		return err
	}
	s.report.FramesSent++
	s.observe(Event{Sent: true, Name: "media"})
	return nil
}

func (s *session) sendDTMF(digit string) error {
	if err := s.send("dtmf", object{"dtmf": object{"track": "inbound_track", "digit": digit}}); err != nil {
		return err
	}
	s.report.DTMFSent += digit
	s.note(Event{Sent: true, Name: "dtmf", Detail: digit})
	return nil
}

func (s *session) sendMark(name string) error {
	if err := s.send("mark", object{"mark": object{"name": name}}); err != nil {
		return err
	}
	s.report.MarksEchoed++
	s.note(Event{Sent: true, Name: "mark", Detail: name})
	return nil
}

func (s *session) sendStop() error {
	err := s.send("stop", object{"stop": object{"accountSid": s.opt.AccountSID, "callSid": s.opt.CallSID}})
	if err != nil {
		return err
	}
	s.stopSent = time.Now()
	s.note(Event{Sent: true, Name: "stop"})
	return nil
}

// write sends one message. A connection that no longer takes any is not an error yet: what the reader finds says why.
func (s *session) write(kind int, message []byte) error {
	if s.writeFailed {
		return errWriteFailed
	}
	if s.opt.Faults.Binary {
		kind = websocket.BinaryMessage
	}
	if err := s.ws.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return fmt.Errorf("limit a write: %w", err)
	}
	if err := s.ws.WriteMessage(kind, message); err != nil {
		s.writeFailed = true
		return fmt.Errorf("%w: %w", errWriteFailed, err)
	}
	return nil
}
