// Package sim plays the platform's side of a Talkdesk bidirectional audio stream: the WebSocket client that streams a caller's
// audio to a stream URL, plays what comes back in real time and says what it thinks of the gateway.
//
// It is written from the protocol's description alone and shares no message type with the plugin, so that a mistake in one is
// not hidden by the same mistake in the other. Main is the command, Run the library behind it, which tests drive with scripted
// faults.
//
// One goroutine owns the call and does all writing; a second one reads the socket and stamps each message with its arrival.
package sim
