package writer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func reuse(o Options) Options { o.Reuse = true; return o }

func TestReuseWritesWhatDiffers(t *testing.T) {
	t.Parallel()
	for _, lies := range []bool{false, true} {
		img, old := release(t, 512)
		d := newDisk(int64(len(old)), 512)
		copy(d.data, old)
		d.zeroLies = lies
		report, err := Write(t.Context(), d, img.m, newSource(img), reuse(small))
		if err != nil || !report.Verified || report.FramesKept == 0 || report.BytesVerified != int64(len(img.content)) {
			t.Fatalf("got %v, %+v", err, report)
		}
		checkWritten(t, d, img)
		data := int64(img.m.DataBytes())
		if report.BytesKept+report.BytesWritten != data || report.BytesWritten > data/2 || report.BytesFetched >= int64(len(img.packed)) {
			t.Errorf("got %+v of %d bytes of data", report, data)
		}
	}
}

// Content with the right XXH3 and another SHA-256 is somebody's work, and goes.
func TestReuseDemandsSHA256(t *testing.T) {
	t.Parallel()
	img := newImage(t, "dddd", 0, 512)
	d := newDisk(int64(len(img.content)), 512)
	copy(d.data, img.content)
	m := *img.m
	m.Frames = append([]manifest.Frame(nil), img.m.Frames...)
	m.Frames[1].SHA256[0] ^= 1
	for _, o := range []Options{reuse(small), resume(small)} {
		report, err := Write(t.Context(), d, &m, newSource(img), o)
		if err != nil || report.BytesWritten < testFrame {
			t.Errorf("got %v, %+v", err, report)
		}
	}
}

// A disk of something else is not read to its end before it is written.
func TestReuseGivesUp(t *testing.T) {
	t.Parallel()
	img := newImage(t, "d"+strings.Repeat("=", sampleFrom+8), 0, 512)
	for _, same := range []bool{false, true} {
		d := &countingDisk{disk: newDisk(int64(len(img.content)), 512)}
		if same {
			copy(d.data, img.content)
			d.data[testFrame+9]++
		}
		report, err := Write(t.Context(), d, img.m, newSource(img), reuse(small))
		if err != nil || !report.Verified {
			t.Fatal(err)
		}
		// Everything is read once: by the check, or by the read-back.
		if most := int64(len(img.content)) + (sampleFrames+4)*testFrame; d.read > most || same == (report.BytesWritten == int64(len(img.content))) {
			t.Errorf("same %t: %d bytes were read, %+v", same, d.read, report)
		}
	}
}

type countingDisk struct {
	*disk
	read int64 // guarded by disk.mu
}

func (c *countingDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.disk.ReadAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read += int64(n)
	return n, err
}

func (c *countingDisk) readSoFar() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read
}

func TestPieces(t *testing.T) {
	t.Parallel()
	const size = 64*granule - 512
	at := func(differing ...int) []uint64 {
		sums := make([]uint64, 64)
		for _, i := range differing {
			sums[i] = 1
		}
		return sums
	}
	var everySixth []int
	for i := 0; i < 64; i += 6 {
		everySixth = append(everySixth, i)
	}
	for name, tc := range map[string]struct {
		old, now []uint64
		want     []span
	}{
		"unknown":       {nil, at(), []span{{0, size}}},
		"equal":         {at(), at(), nil},
		"one":           {at(), at(3), []span{{3 * granule, 4 * granule}}},
		"the last":      {at(), at(63), []span{{63 * granule, size}}},
		"a small gap":   {at(), at(3, 8), []span{{3 * granule, 9 * granule}}},
		"a larger gap":  {at(), at(3, 9), []span{{3 * granule, 4 * granule}, {9 * granule, 10 * granule}}},
		"many":          {at(), at(everySixth...), []span{{0, 61 * granule}}},
		"many, and far": {at(), at(0, 6, 12, 18, 24, 30, 36, 42, 63), []span{{0, 43 * granule}, {63 * granule, size}}},
	} {
		if diff := cmp.Diff(tc.want, pieces(size, tc.old, tc.now), cmp.AllowUnexported(span{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	img, old := release(t, 512)
	newPair := func() (a, b *disk) {
		a, b = newDisk(int64(len(old)), 512), newDisk(int64(len(old))+4096, 512)
		copy(a.data, old)
		return a, b
	}
	for _, o := range []Options{small, reuse(small), resume(small)} {
		a, b := newPair()
		report, err := Write(t.Context(), Mirror(a, b), img.m, newSource(img), o)
		if err != nil || !report.Verified || report.BytesFetched > int64(len(img.packed)) {
			t.Fatalf("got %v, %+v", err, report)
		}
		for _, d := range []*disk{a, b} {
			if !bytes.Equal(d.flushed[:len(img.content)], img.content) {
				t.Error("a disk does not hold the image")
			}
		}
		again, err := Write(t.Context(), Mirror(a, b), img.m, nil, resume(small))
		if err != nil || again.FramesKept != len(img.m.Frames) {
			t.Errorf("again: got %v, %+v", err, again)
		}
	}
	for name, spoil := range map[string]func(d *disk){
		"write": func(d *disk) { d.badWrite = 14 * testFrame / 512 },
		"read":  func(d *disk) { d.badRead = 14 * testFrame / 512 },
		"flip":  func(d *disk) { d.flip = 14 * testFrame },
		"zero":  func(d *disk) { d.zeroErr = errMedium },
		"flush": func(d *disk) { d.flushErr = errMedium },
	} {
		a, b := newPair()
		spoil(b)
		report, err := Write(t.Context(), Mirror(a, b), img.m, newSource(img), small)
		var which *TargetError
		if !errors.As(err, &which) || which.Index != 1 || report.Verified {
			t.Errorf("%s: got %v, %+v", name, err, report)
		}
	}
	var other *SectorSizeError
	if _, err := Write(t.Context(), Mirror(newDisk(int64(len(old)), 512), newDisk(int64(len(old)), 4096)), img.m, newSource(img), small); !errors.As(err, &other) {
		t.Errorf("other sectors: got %v", err)
	}
}

// A disk that takes less than it was given, and says nothing.
type shortDisk struct{ *disk }

func (s shortDisk) WriteAt(p []byte, off int64) (int, error) {
	if off >= 12*testFrame && len(p) > 512 {
		p = p[:len(p)/2/512*512]
	} else if off > 12*testFrame+1000 {
		p = p[:0]
	}
	return s.disk.WriteAt(p, off)
}

func TestShortWritesAreErrors(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	d := newDisk(int64(len(img.content))*2, 512)
	one := small
	one.Workers = 1
	_, err := Write(t.Context(), shortDisk{d}, img.m, newSource(img), one)
	var bad *SectorError
	if !errors.As(err, &bad) || !errors.Is(err, io.ErrShortWrite) || bad.LBA < 12*testFrame/512 {
		t.Errorf("got %v", err)
	}
	err = writeZeros(shortDisk{d}, make([]byte, testFrame), 11*testFrame, 3*testFrame)
	if !errors.As(err, &bad) || !errors.Is(err, io.ErrShortWrite) || bad.Op != "zero" {
		t.Errorf("zeros: got %v", err)
	}
}

// A sampled read-back is never called verified, and still sees both ends.
func TestSampledReadBack(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	o := small
	o.ReadBackPercent = 25
	d := newDisk(int64(len(img.content)), 512)
	report, err := Write(t.Context(), d, img.m, newSource(img), o)
	if err != nil || report.Verified || !report.Sampled || report.BytesVerified < 5*testFrame || report.BytesVerified > 8*testFrame {
		t.Errorf("got %v, %+v", err, report)
	}
	checkWritten(t, d, img)
	for _, at := range []int64{5, int64(len(img.content)) - 1} {
		d = newDisk(int64(len(img.content)), 512)
		d.flip = at
		var wrong *HashError
		if report, err = Write(t.Context(), d, img.m, newSource(img), o); !errors.As(err, &wrong) || report.Sampled {
			t.Errorf("byte %d: got %v, %+v", at, err, report)
		}
	}
}

// A disk of which hardly anything can be read is not tried to its end.
func TestReuseOfABrokenDisk(t *testing.T) {
	t.Parallel()
	img, old := release(t, 512)
	d := &unreadableDisk{disk: newDisk(int64(len(old)), 512)}
	one := reuse(small)
	one.Workers = 1
	_, err := Write(t.Context(), d, img.m, newSource(img), one)
	var bad *SectorError
	if !errors.As(err, &bad) || bad.Op != "read" || bad.LBA < 0 || d.reads > maxUnreadable+2*20 {
		t.Errorf("got %v after %d reads", err, d.reads)
	}
}

type unreadableDisk struct {
	*disk
	reads int // guarded by disk.mu
}

func (u *unreadableDisk) ReadAt([]byte, int64) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reads++
	return 0, errMedium
}
