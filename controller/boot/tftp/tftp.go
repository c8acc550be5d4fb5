// Package tftp serves the few small loaders that firmware can fetch in no other
// way (RFC 1350, options of RFC 2347 to 2349). It is read-only, serves an
// allow-list of names, and leaves everything larger to HTTP: lock-step transfer
// makes about one block a round trip.
//
// All transfers run on one port, so that a firewall or an L4 relay between
// controller and machines needs no knowledge of TFTP.
package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/ingot-metal/ingot/controller/boot"
)

const (
	// maxTransfers bounds transfers at one time; more are told to come back.
	maxTransfers = 256
	// maxFile is the largest loader served, in bytes.
	maxFile = 8 << 20
	// blockSize is the largest block offered: an Ethernet frame less headers.
	blockSize = 1468
	// A client that does not answer is given up after about retries*timeout.
	timeout = 2 * time.Second
	retries = 4
)

// Config is what the server needs.
type Config struct {
	// Files holds the loaders at its top; only boot.TFTPFiles are opened.
	Files fs.FS
	// Observer may be nil.
	Observer boot.Observer
	Log      *slog.Logger
	// Now is the controller's clock; nil means time.Now.
	Now func() time.Time
}

// Server is a TFTP server on one socket.
type Server struct {
	c     Config
	srv   *tftp.Server
	slots chan struct{}
	stop  chan struct{}
}

// New makes a server; Run starts it.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{c: c, slots: make(chan struct{}, maxTransfers), stop: make(chan struct{})}
	s.srv = tftp.NewServer(s.read, nil)
	// The block size must be set before single-port mode, which would
	// otherwise settle for 512 bytes.
	s.srv.SetBlockSize(blockSize)
	s.srv.EnableSinglePort()
	s.srv.SetTimeout(timeout)
	s.srv.SetRetries(retries)
	s.srv.SetHook(hook{s})
	return s
}

// Run serves on conn until ctx ends, then lets running transfers fail, closes
// conn and returns. It returns within about ten seconds of the end of ctx, the
// time that a silent client takes to be given up.
func (s *Server) Run(ctx context.Context, conn net.PacketConn) error {
	done := make(chan error, 1)
	go func() { done <- s.srv.Serve(conn) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve TFTP on %s: %w", conn.LocalAddr(), err)
	case <-ctx.Done():
		close(s.stop)
		s.srv.Shutdown()
		<-done
		return nil
	}
}

// Errors below are sent to the client, whose screen is often the only place
// where a person looks.
var (
	errBusy     = errors.New("the server is busy, try again")
	errStopping = errors.New("the server is stopping")
)

// read is called once a transfer, each in its own goroutine.
func (s *Server) read(name string, rf io.ReaderFrom) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return errBusy
	}
	file, err := allowed(name)
	if err != nil {
		return err
	}
	f, size, err := s.open(file)
	if err != nil {
		s.c.Log.Error("loader cannot be read; build it with make initramfs", "file", file, "err", err)
		return fmt.Errorf("%s is missing on the controller", file)
	}
	defer f.Close()
	if t, ok := rf.(tftp.OutgoingTransfer); ok {
		t.SetSize(size)
	}
	_, err = rf.ReadFrom(stopReader{f, s.stop})
	return err
}

// allowed finds the loader that a client's name means. Firmware writes it with
// leading slashes, backslashes or a drive's manners.
func allowed(name string) (string, error) {
	if len(name) > 255 {
		return "", errors.New("file name is too long")
	}
	clean := strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, `\`, "/")), "/")
	for _, f := range boot.TFTPFiles() {
		if clean == f {
			return f, nil
		}
	}
	return "", fmt.Errorf("only %s are served here", strings.Join(boot.TFTPFiles(), ", "))
}

func (s *Server) open(name string) (io.ReadCloser, int64, error) {
	f, err := s.c.Files.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxFile) {
		err = fmt.Errorf("it is not a file of at most %d bytes", maxFile)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// stopReader ends a transfer at its next block when the server stops.
type stopReader struct {
	r    io.Reader
	stop <-chan struct{}
}

func (r stopReader) Read(b []byte) (int, error) {
	select {
	case <-r.stop:
		return 0, errStopping
	default:
		return r.r.Read(b)
	}
}

// hook hears how transfers ended.
type hook struct{ s *Server }

func (h hook) OnSuccess(t tftp.TransferStats) {
	h.s.c.Log.Info("loader sent", "file", fmt.Sprintf("%.64q", t.Filename), "ip", t.RemoteAddr.String(), "elapsed", t.Duration)
	if h.s.c.Observer == nil {
		return
	}
	addr, _ := netip.AddrFromSlice(t.RemoteAddr)
	h.s.c.Observer.BootObserved(context.Background(), boot.Observation{
		Addr: addr.Unmap(), What: boot.SeenLoader, At: h.s.c.Now(),
		Detail: fmt.Sprintf("%.64q by TFTP in %s", t.Filename, t.Duration.Round(time.Millisecond)),
	})
}

// OnFailure logs at debug: edk2 opens each file once to learn its size and
// aborts that transfer, late acknowledgements come as stray packets, and
// strangers ask for anything. The text may hold a NUL byte, hence %q.
func (h hook) OnFailure(t tftp.TransferStats, err error) {
	h.s.c.Log.Debug("TFTP transfer ended early", "file", fmt.Sprintf("%.64q", t.Filename), "ip", t.RemoteAddr.String(), "err", fmt.Sprintf("%.200q", err))
}
