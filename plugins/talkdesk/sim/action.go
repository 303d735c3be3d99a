package sim

import (
	"fmt"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

// Step is an Action at a time of the call, counted from the moment start was sent.
type Step struct {
	At time.Duration
	Do Action
}

// Action is something the platform does beside streaming; the functions of this file make them.
type Action struct {
	name string
	do   func(*session) error
}

// String names the action.
func (a Action) String() string { return a.name }

// SendText sends message as it stands, in a text frame. It may be malformed.
func SendText(message string) Action {
	return Action{"text", func(s *session) error { return s.write(websocket.TextMessage, []byte(message)) }}
}

// SendBinary sends message as it stands, in a binary frame.
func SendBinary(message []byte) Action {
	return Action{"binary", func(s *session) error { return s.write(websocket.BinaryMessage, message) }}
}

// SendRaw writes bytes to the connection beneath the WebSocket: broken frames, half frames, garbage.
func SendRaw(raw []byte) Action {
	return Action{"raw", func(s *session) error {
		if err := s.ws.NetConn().SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
			return fmt.Errorf("limit a raw write: %w", err)
		}
		if _, err := s.ws.NetConn().Write(raw); err != nil {
			return fmt.Errorf("write raw bytes: %w", err)
		}
		return nil
	}}
}

// SendMedia sends one media message of the inbound track outside the pacing, with the next sequence number.
// Its chunk and timestamp are those of the frame that the pacing sends next.
func SendMedia(ulaw []byte) Action {
	return Action{"media", func(s *session) error { return s.sendMedia(s.pacer.next, ulaw) }}
}

// SendDTMF presses one digit.
func SendDTMF(digit string) Action {
	return Action{"dtmf", func(s *session) error { return s.sendDTMF(digit) }}
}

// SendPing sends a WebSocket ping; the pong is counted in Report.Pongs.
func SendPing() Action {
	return Action{"ping", func(s *session) error {
		return s.ws.WriteControl(websocket.PingMessage, []byte("sim"), time.Now().Add(writeWait))
	}}
}

// Mute stops sending audio while everything else goes on; Unmute goes on with the frame then due.
func Mute() Action { return Action{"mute", func(s *session) error { s.muted = true; return nil }} }

// Unmute takes Mute back. The frames between are lost, not late.
func Unmute() Action {
	return Action{"unmute", func(s *session) error {
		s.muted = false
		return nil
	}}
}

// StopReading leaves what arrives in the socket, so that the gateway's writes fill up. Pings stay unanswered too.
// A message that was being read is still delivered.
func StopReading() Action {
	return Action{"stop-reading", func(s *session) error { s.gate.shut(); return nil }}
}

// ResumeReading takes StopReading back.
func ResumeReading() Action {
	return Action{"resume-reading", func(s *session) error { s.gate.open(); return nil }}
}

// Hangup ends the call as a caller who hangs up.
func Hangup(mode HangupMode) Action {
	return Action{"hangup", func(s *session) error { return s.hangup(mode, OutcomeHangup) }}
}

// Close sends a close frame with the code and waits for the gateway's.
func Close(code int) Action {
	return Action{"close", func(s *session) error {
		s.claim(OutcomeHangup, SideCaller)
		return s.close(code)
	}}
}

// Drop cuts the TCP connection without stop or close frame: by a FIN, or by a reset.
func Drop(reset bool) Action {
	return Action{"drop", func(s *session) error { return s.drop(reset) }}
}

// drop cuts the connection beneath TLS too, so that no close_notify warns the gateway.
func (s *session) drop(reset bool) error {
	s.claim(OutcomeDropped, SideCaller)
	s.phase = phaseDone
	nc := s.ws.NetConn()
	if under, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = under.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok && reset {
		if err := tcp.SetLinger(0); err != nil {
			return fmt.Errorf("prepare the reset: %w", err)
		}
	}
	if err := nc.Close(); err != nil {
		return fmt.Errorf("drop the connection: %w", err)
	}
	return nil
}
