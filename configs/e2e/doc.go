// Package e2e holds the end-to-end tests: the gateway and its plugins as the programs that `make build` leaves, run from
// a YAML text, between the simulated platform and the simulated bot. Every wait is for something to happen, with a
// deadline; what is compared is what the two ends sent, heard and were told, and what the gateway wrote down.
package e2e
