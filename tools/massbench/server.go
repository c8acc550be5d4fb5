package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
)

// serverMain is the server's process: the controller's handler of images. It ends
// when its input does.
func serverMain(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := scanLines(in)
	var told serving
	if !lines.Scan() {
		return errors.New("server: no task")
	}
	if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
		return err
	}
	store, err := image.Open(told.Store, image.Options{})
	if err != nil {
		return err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	signer, err := image.NewSigner(nil, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(told.Host, "0"))
	if err != nil {
		return err
	}
	var sent atomic.Int64
	handler := store.Handler(image.Serving{Signer: signer, Access: anyone{}, Observe: func(s image.Served) { sent.Add(s.Bytes) }})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(newLink(told.Link).listen(listener)) }()
	answer := served{}
	for _, path := range told.Paths {
		link := signer.Sign(path, image.Reader{MachineID: "bench"}, time.Now().Add(time.Hour))
		answer.URLs = append(answer.URLs, "http://"+listener.Addr().String()+link)
	}
	told2 := newLines(out)
	if err := told2.write(answer); err != nil {
		return err
	}
	for lines.Scan() { // until the input ends
	}
	// What is under way is broken off, and still counted.
	err = errors.Join(srv.Close(), store.Close())
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	for end := time.Now().Add(time.Second); handler.Open() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(err, told2.write(served{Bytes: sent.Load()}))
}

// anyone may read everything here.
type anyone struct{}

func (anyone) ImageGrant(context.Context, image.Reader, string) (image.Grant, error) {
	return image.Grant{}, nil
}
