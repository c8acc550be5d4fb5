package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
)

// server is the one HTTP server for all writers, on loopback: our image
// handler, and files for the peers, both by sendfile.
type server struct {
	http   *http.Server
	base   string
	signer *image.Signer
	done   chan error
}

func startServer(store *image.Store, inputDir string) (*server, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	signer, err := image.NewSigner(nil, key)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve images: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/images/", store.Handler(image.Serving{Signer: signer, Access: anyone{}}))
	mux.Handle("/inputs/", http.StripPrefix("/inputs/", http.FileServer(http.Dir(inputDir))))
	s := &server{http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, base: "http://" + listener.Addr().String(), signer: signer, done: make(chan error, 1)}
	go func() { s.done <- s.http.Serve(listener) }()
	return s, nil
}

// framesURL is what an agent would be given for the image.
func (s *server) framesURL(p packed) string {
	return s.base + s.signer.Sign(image.FramesPath(p.digest), image.Reader{MachineID: "bench"}, time.Now().Add(time.Hour))
}

func (s *server) close() error {
	err := s.http.Shutdown(context.Background())
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// anyone may read everything here.
type anyone struct{}

func (anyone) ImageGrant(context.Context, image.Reader, string) (image.Grant, error) {
	return image.Grant{}, nil
}
