package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// maxChunk bounds one piece of an image, in bytes.
	maxChunk = 1 << 20
	// importIdle is how long an import waits for its next piece.
	importIdle = 2 * time.Minute
)

// upload reads the pieces of an import as one stream.
type upload struct {
	ctx    context.Context
	pieces chan piece
	rest   bytes.Reader
	sum    hash.Hash
	size   uint64
	header *operator.ImageHeader
	err    error // at the end
}

type piece struct {
	data []byte
	err  error
}

// newUpload reads ahead by one piece. Its goroutine ends with ctx, or at the
// latest when the handler returns, which ends the stream.
func newUpload(ctx context.Context, stream grpc.ClientStreamingServer[operator.ImageImportRequest, operator.Image], h *operator.ImageHeader) *upload {
	u := &upload{ctx: ctx, pieces: make(chan piece, 1), sum: sha256.New(), header: h}
	go func() {
		for {
			r, err := stream.Recv()
			select {
			case u.pieces <- piece{r.GetData(), checkPiece(r, err)}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return u
}

func checkPiece(r *operator.ImageImportRequest, err error) error {
	switch {
	case err != nil:
		return err
	case r.GetHeader() != nil:
		return fault.New(fault.Invalid, "an import has one header, as its first message")
	case len(r.GetData()) > maxChunk:
		return fault.New(fault.Invalid, "a piece of an import has %d bytes, at most %d (1 MiB) are taken", len(r.GetData()), maxChunk)
	}
	return nil
}

// Read ends with io.EOF only if the bytes are those that the header promised.
func (u *upload) Read(p []byte) (int, error) {
	for u.rest.Len() == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.next()
	}
	return u.rest.Read(p)
}

func (u *upload) next() {
	idle := time.NewTimer(importIdle)
	defer idle.Stop()
	select {
	case got := <-u.pieces:
		if errors.Is(got.err, io.EOF) {
			u.err = u.finish()
			return
		}
		u.err = got.err
		u.sum.Write(got.data) // a hash never fails
		u.size += uint64(len(got.data))
		u.rest.Reset(got.data)
	case <-u.ctx.Done():
		u.err = fmt.Errorf("receive the image: %w", context.Cause(u.ctx))
	case <-idle.C:
		u.err = fault.New(fault.Unavailable, "nothing of the image came for %s", importIdle)
	}
}

func (u *upload) finish() error {
	if want := u.header.GetSourceSizeBytes(); want != 0 && u.size != want {
		return fault.New(fault.Invalid, "the source has %d bytes, its header promised %d", u.size, want)
	}
	got := hex.EncodeToString(u.sum.Sum(nil))
	if want := strings.ToLower(u.header.GetSourceSha256()); want != "" && got != want {
		return fault.New(fault.Invalid, "the source has SHA-256 %s, its header promised %s", got, want)
	}
	return io.EOF
}
