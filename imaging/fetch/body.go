package fetch

import (
	"context"
	"errors"
	"io"
	"time"
)

// httpBody is the body of one answer, held to its length and to StallTimeout.
type httpBody struct {
	ctx    context.Context // the caller's
	reqCtx context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer // cancels the request; runs only while Read waits
	stall  time.Duration
	left   int64
	fail   func(error) *Error
}

func (b *httpBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	b.timer.Reset(b.stall)
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.timer.Stop()
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, b.fail(ErrShort)
	case err != nil:
		return n, settle(b.ctx, b.fail(cause(b.ctx, b.reqCtx, err)))
	}
	return n, nil
}

func (b *httpBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}
