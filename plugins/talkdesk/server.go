package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay/patchbay/sdk"
	"github.com/patchbay/patchbay/sdk/engine"
)

// Limits of a request for a stream; it has no body.
const (
	maxHeaderBytes    = 16 << 10 // over maxURLBytes, so that a long URL gets its own answer
	readHeaderTimeout = 5 * time.Second
	requestTimeout    = 10 * time.Second
)

// server takes requests for streams and owns the streams.
type server struct {
	settings *atomic.Pointer[settings]
	measures *measures
	gateway  sdk.Gateway
	engine   engine.Engine
	log      *slog.Logger
	cert     *certificate // nil: plain ws
	listener net.Listener
	http     *http.Server
	draining atomic.Bool
	stopping chan struct{} // closed when the process ends

	wg     sync.WaitGroup // the accept loop and every stream's conduct
	mu     sync.Mutex
	closed bool
	open   map[*stream]struct{}
}

func openServer(ctx context.Context, current *atomic.Pointer[settings], m *measures, gw sdk.Gateway, log *slog.Logger) (*server, error) {
	set := current.Load()
	s := &server{
		settings: current, measures: m, gateway: gw, log: log,
		stopping: make(chan struct{}), open: make(map[*stream]struct{}),
	}
	if set.tls.CertFile != "" {
		var err error
		if s.cert, err = loadCertificate(set.tls, log); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", set.listen)
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w: free the port or change listen", err)
	}
	if s.engine, err = engine.Open(engine.Options{}); err != nil {
		_ = listener.Close() // the error to report is the engine's
		return nil, fmt.Errorf("open i/o engine: %w", err)
	}
	s.listener = listener
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		Protocols:         protocols,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       requestTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *server) accept() {
	var err error
	if s.cert != nil {
		s.http.TLSConfig = s.cert.tlsConfig()
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("stream server ended", "error", err)
	}
}

// register makes a stream the server's; it reports false when the process ends.
func (s *server) register(st *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[st] = struct{}{}
	s.measures.open.Add(1)
	s.wg.Go(st.conduct)
	return true
}

func (s *server) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
	s.measures.open.Add(-1)
}

// close tells every stream that the process ends and waits for them; what is
// left when ctx ends is cut off.
func (s *server) close(ctx context.Context) error {
	s.draining.Store(true)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stopping)
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("shut the stream server down: %w", err), s.http.Close())
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.wg.Wait()
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("end streams: %w", ctx.Err()))
		s.abort()
		<-gone // an aborted stream ends at once
	}
	return errors.Join(err, s.engine.Close())
}

func (s *server) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.open {
		st.conn.Abort()
	}
}
