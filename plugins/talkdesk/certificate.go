package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate serves a certificate from files and reads them again when they
// change, so that a renewal needs no restart. A pair that cannot be read leaves
// the last good one in place.
type certificate struct {
	files tlsFiles
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   fileStamp
	looked  time.Time
}

// fileStamp tells one version of both files from the next.
type fileStamp struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

// lookInterval bounds how often the files are looked at.
const lookInterval = time.Second

func loadCertificate(files tlsFiles, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	stamp, err := stampOf(files)
	if err != nil {
		return nil, err
	}
	if c.current, err = readPair(files); err != nil {
		return nil, err
	}
	c.stamp, c.looked = stamp, time.Now()
	return c, nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookInterval {
		return c.current, nil
	}
	c.looked = now
	stamp, err := stampOf(c.files)
	if err == nil && stamp == c.stamp {
		return c.current, nil
	}
	var pair *tls.Certificate
	if err == nil {
		pair, err = readPair(c.files)
	}
	if err != nil {
		c.log.Warn("certificate not reloaded, the last one stays in use", "error", err)
		return c.current, nil
	}
	c.current, c.stamp = pair, stamp
	c.log.Info("certificate reloaded", "not_after", pair.Leaf.NotAfter)
	return c.current, nil
}

// notAfter is when the certificate in use expires.
func (c *certificate) notAfter() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf.NotAfter
}

func stampOf(files tlsFiles) (fileStamp, error) {
	cert, err := os.Stat(files.CertFile)
	if err != nil {
		return fileStamp{}, fmt.Errorf("look at the certificate file: %w", err)
	}
	key, err := os.Stat(files.KeyFile)
	if err != nil {
		return fileStamp{}, fmt.Errorf("look at the key file: %w", err)
	}
	return fileStamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func readPair(files tlsFiles) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate and key: %w", err)
	}
	if pair.Leaf == nil {
		return nil, errors.New("read certificate and key: no certificate in the file")
	}
	return &pair, nil
}

// tlsConfig is for HTTP/1.1 only: a WebSocket upgrade is an HTTP/1.1 request.
func (c *certificate) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}
}
