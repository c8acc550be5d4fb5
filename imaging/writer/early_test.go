package writer

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// slowSource is a network that everybody waits for.
type slowSource struct{ *source }

func (s slowSource) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	body, err := s.source.Range(ctx, offset, length)
	return slowBody{body}, err
}

type slowBody struct{ io.ReadCloser }

func (s slowBody) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.ReadCloser.Read(p[:min(len(p), 4096)])
}

// While the network is slow, what was flushed is read back already; whatever
// the writer has, it ends with all of the disk compared.
func TestReadBackBesideTheWriting(t *testing.T) {
	t.Parallel()
	img, old := release(t, 512)
	for _, slow := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := &countingDisk{disk: newDisk(int64(len(old)), 512)}
			var src Source = newSource(img)
			if slow {
				src = slowSource{newSource(img)}
			}
			readBefore := int64(-1)
			o := small
			o.Progress = func(p Progress) {
				if p.Phase == PhaseFlush && readBefore < 0 {
					readBefore = d.readSoFar()
				}
			}
			w := newWrite(d, img.m, src, o)
			w.plan.earlyBytes = 3 * testFrame
			report, err := w.do(t.Context())
			if err != nil || !report.Verified || report.BytesVerified != int64(len(img.content)) || d.readSoFar() != int64(len(img.content)) {
				t.Errorf("slow %t: got %v, %+v, %d bytes read", slow, err, report, d.readSoFar())
			}
			if slow != (readBefore > 0) {
				t.Errorf("slow %t: %d bytes were read back before the flush", slow, readBefore)
			}
			checkWritten(t, d.disk, img)
		})
	}
}

// A disk that returns other bytes ends the write at once.
func TestReadBackEarlyFindsOtherBytes(t *testing.T) {
	t.Parallel()
	img, old := release(t, 512)
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(int64(len(old)), 512)
		d.flip = testFrame + 5
		w := newWrite(d, img.m, slowSource{newSource(img)}, small)
		w.plan.earlyBytes = 3 * testFrame
		report, err := w.do(t.Context())
		var wrong *HashError
		if !errors.As(err, &wrong) || wrong.Frame != 1 || wrong.Stage != StageReadBack || report.Flushed {
			t.Errorf("got %v, %+v", err, report)
		}
	})
}
