package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// maxSpool bounds what waits in memory while the disk is slow or full, in
// bytes. What finds no room is lost, counted and logged.
const maxSpool = 16 << 20

// retryAfter is how long the writer leaves a failing disk alone.
const retryAfter = time.Second

// Writer appends records to a file. Add never blocks: calls go on whatever the
// disk does.
type Writer struct {
	path   string
	rotate int64
	log    *slog.Logger

	mu      sync.Mutex
	spool   [][]byte
	held    int
	closing bool
	wake    chan struct{}
	done    chan struct{}

	open func(path string) (disk, int64, error)
	file disk // run's own
	size int64

	written, lost, failures atomic.Uint64
}

// disk is what the writer asks of a file; tests have one that fails.
type disk interface {
	io.WriteCloser
	Truncate(size int64) error
}

// Stats are a writer's counters.
type Stats struct {
	Written  uint64
	Lost     uint64 // found no room, or could not be written at the end
	Failures uint64 // failed attempts to write
	Waiting  int    // records in memory
}

// Open makes the file's folder, opens the file for appending and starts the
// writer. A file that grows past rotate bytes is renamed with the time.
func Open(path string, rotate int64, log *slog.Logger) (*Writer, error) {
	w := newWriter(path, rotate, log)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("make folder of call records: %w", err)
	}
	if err := w.reopen(); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

func newWriter(path string, rotate int64, log *slog.Logger) *Writer {
	return &Writer{path: path, rotate: rotate, log: log, open: openFile, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (w *Writer) reopen() error {
	f, size, err := w.open(w.path)
	if err != nil {
		return fmt.Errorf("open call records: %w", err)
	}
	w.file, w.size = f, size
	return nil
}

// openFile opens the file for appending. A half line at its end, which a crash
// or a full disk has left, is closed with a line break so that the next record
// does not hang on to it.
func openFile(path string) (disk, int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	size, last := info.Size(), []byte{'\n'}
	if size > 0 && info.Mode().IsRegular() {
		_, err = f.ReadAt(last, size-1)
	}
	if err == nil && last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
		size++
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// Add queues r.
func (w *Writer) Add(r *Record) {
	line, err := json.Marshal(r)
	if err != nil {
		w.log.Error("call record cannot be encoded", "call_id", r.CallID, "error", err)
		w.lost.Add(1)
		return
	}
	line = append(line, '\n')
	w.mu.Lock()
	full := w.closing || w.held+len(line) > maxSpool
	if !full {
		w.spool = append(w.spool, line)
		w.held += len(line)
	}
	w.mu.Unlock()
	if full {
		w.lost.Add(1)
		w.log.Error("call record is lost: too many wait for the disk", "call_id", r.CallID)
		return
	}
	w.kick()
}

func (w *Writer) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) run() {
	defer close(w.done)
	for range w.wake {
		for {
			w.mu.Lock()
			batch, closing := w.spool, w.closing
			w.mu.Unlock()
			if len(batch) == 0 {
				if closing {
					return
				}
				break
			}
			if !w.writeOut(batch[0]) {
				if closing {
					w.giveUp()
					return
				}
				time.Sleep(retryAfter) // the disk's pace, nobody waits on it
				continue
			}
			w.mu.Lock()
			w.spool[0] = nil
			w.spool = w.spool[1:]
			w.held -= len(batch[0])
			w.mu.Unlock()
		}
	}
}

// writeOut appends one line, rotating first where it would grow too long.
func (w *Writer) writeOut(line []byte) bool {
	err := w.prepare(int64(len(line)))
	if err == nil {
		var n int
		n, err = w.file.Write(line)
		w.size += int64(n)
		if err != nil {
			err = errors.Join(err, w.dropFile(n))
		}
	}
	if err != nil {
		if w.failures.Add(1)%30 == 1 {
			w.log.Error("call records cannot be written: they wait in memory", "path", w.path, "error", err)
		}
		return false
	}
	w.written.Add(1)
	return true
}

// dropFile gives a file up that has failed after n bytes of a line: the next
// attempt opens it anew, for the handle itself may be dead.
func (w *Writer) dropFile(n int) error {
	var err error
	if n > 0 { // half a line: take it back, so that the file stays JSON Lines
		err = w.file.Truncate(w.size - int64(n))
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return err
}

func (w *Writer) prepare(n int64) error {
	if w.file == nil {
		if err := w.reopen(); err != nil {
			return err
		}
	}
	if w.rotate <= 0 || w.size == 0 || w.size+n <= w.rotate {
		return nil
	}
	err := w.file.Close()
	w.file = nil // closed whatever it says
	if err != nil {
		return fmt.Errorf("close call records: %w", err)
	}
	if err := os.Rename(w.path, w.path+"."+time.Now().UTC().Format("20060102T150405.000000000")); err != nil {
		return fmt.Errorf("rotate call records: %w", err)
	}
	return w.reopen()
}

func (w *Writer) giveUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost.Add(uint64(len(w.spool)))
	w.log.Error("call records are lost: the disk does not take them", "records", len(w.spool))
	w.spool, w.held = nil, 0
}

// Stats returns the counters.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Stats{Written: w.written.Load(), Lost: w.lost.Load(), Failures: w.failures.Load(), Waiting: len(w.spool)}
}

// Close writes what waits and closes the file.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.kick()
	<-w.done
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
