package writer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mixed = "dd..r.d....dddrr.d..d"

// options that make several runs, workers and connections take part.
var small = Options{RunBytes: 3 * testFrame, Workers: 3, Connections: 2}

func resume(o Options) Options { o.Resume = true; return o }

// checkWritten compares image and disk, and that nothing beyond was touched.
func checkWritten(t *testing.T, d *disk, img image) {
	t.Helper()
	if !bytes.Equal(d.data[:len(img.content)], img.content) {
		t.Error("the disk does not hold the image")
	}
	if rest := d.data[len(img.content):]; !bytes.Equal(rest, bytes.Repeat([]byte{0xee}, len(rest))) {
		t.Error("bytes beyond the image were touched")
	}
}

func TestWriteOnADirtyDisk(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		for _, tail := range []int{0, sectorSize} {
			img := newImage(t, mixed, tail, sectorSize)
			d := newDisk(int64(len(img.content))+4*int64(sectorSize), sectorSize)
			report, err := Write(t.Context(), d, img.m, newSource(img), small)
			if err != nil {
				t.Fatal(err)
			}
			checkWritten(t, d, img)
			if !bytes.Equal(d.flushed, d.data) {
				t.Error("not everything was flushed")
			}
			if !report.Flushed || !report.Verified || report.BytesVerified != int64(len(img.content)) ||
				report.BytesWritten != int64(img.m.DataBytes()) || report.BytesWritten+report.BytesZeroed != int64(len(img.content)) ||
				report.BytesFetched < int64(img.m.FetchBytes()) || report.FramesWritten+report.HolesZeroed != len(img.m.Frames) {
				t.Errorf("sectors of %d, tail %d: got %+v", sectorSize, tail, report)
			}
		}
	}
}

func TestOnlyHolesAndOnlyData(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"....", "dddd", "r"} {
		img := newImage(t, pattern, 0, 512)
		d := newDisk(int64(len(img.content)), 512)
		if _, err := Write(t.Context(), d, img.m, newSource(img), Options{}); err != nil {
			t.Fatal(err)
		}
		checkWritten(t, d, img)
	}
}

func TestRefusedBeforeAnythingIsChanged(t *testing.T) {
	t.Parallel()
	img := newImage(t, "dd", 512, 512)
	size := int64(len(img.content))
	invalid := *img.m
	invalid.Architecture = ""
	tree := *img.m
	tree.Kind, tree.SectorSize = manifest.KindTree, 0
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var tooLarge *SizeError
	var otherSector *SectorSizeError
	for name, tc := range map[string]struct {
		ctx  context.Context
		m    *manifest.Manifest
		disk *disk
		want func(error) bool
	}{
		"image larger than disk": {t.Context(), img.m, newDisk(size-512, 512), func(err error) bool {
			return errors.As(err, &tooLarge) && *tooLarge == SizeError{size, size - 512}
		}},
		"other sector size": {t.Context(), img.m, newDisk(2*size, 4096), func(err error) bool {
			return errors.As(err, &otherSector) && *otherSector == SectorSizeError{512, 4096}
		}},
		"invalid manifest": {t.Context(), &invalid, newDisk(size, 512), func(err error) bool { return errors.Is(err, manifest.ErrInvalid) }},
		"tree":             {t.Context(), &tree, newDisk(size, 512), func(err error) bool { return err != nil }},
		"ended context":    {ended, img.m, newDisk(size, 512), func(err error) bool { return errors.Is(err, context.Canceled) }},
	} {
		src := newSource(img)
		report, err := Write(tc.ctx, tc.disk, tc.m, src, Options{})
		if !tc.want(err) || report != (Report{}) {
			t.Errorf("%s: got %v, %+v", name, err, report)
		}
		if tc.disk.writes+tc.disk.zeroCalls+src.asked > 0 {
			t.Errorf("%s: %d writes, %d zeroings, %d requests were made", name, tc.disk.writes, tc.disk.zeroCalls, src.asked)
		}
	}
}

func TestWrongBytesFromTheSource(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	const frame = 12
	at := int64(img.m.Frames[frame].Offset) + 50
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		d, src := newDisk(int64(len(img.content)), 512), newSource(img)
		src.wrongAt, src.wrongFor = at, 1000
		report, err := Write(t.Context(), d, img.m, src, small)
		var wrong *HashError
		if !errors.As(err, &wrong) || wrong.Frame != frame || wrong.Stage != StagePacked || wrong.Offset != frame*testFrame {
			t.Errorf("got %v", err)
		}
		if report.Flushed || report.Verified || src.suspects != fetchAttempts-1 {
			t.Errorf("got %+v and %d suspicions", report, src.suspects)
		}
		if !bytes.Equal(d.data[frame*testFrame:(frame+1)*testFrame], bytes.Repeat([]byte{0xee}, testFrame)) {
			t.Error("the wrong frame reached the disk")
		}
	})
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		d, src := newDisk(int64(len(img.content)), 512), newSource(img)
		src.wrongAt, src.wrongFor = at, 1
		report, err := Write(t.Context(), d, img.m, src, small)
		if err != nil || report.FramesRefetched != 1 || !report.Verified {
			t.Errorf("got %v, %+v", err, report)
		}
		checkWritten(t, d, img)
	})
	t.Run("manifest that promises other content", func(t *testing.T) {
		t.Parallel()
		m := *img.m
		m.Frames = append([]manifest.Frame(nil), img.m.Frames...)
		m.Frames[frame].XXH3++
		_, err := Write(t.Context(), newDisk(int64(len(img.content)), 512), &m, newSource(img), small)
		var wrong *HashError
		if !errors.As(err, &wrong) || wrong.Frame != frame || wrong.Stage != StageContent {
			t.Errorf("got %v", err)
		}
	})
}

func TestSourceThatEndsIsNamedAndResumed(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 512, 512)
	const frame = 12
	at := int64(img.m.Frames[frame].Offset) + 7
	for name, tc := range map[string]struct {
		spoil func(*source)
		want  error
	}{
		"short": {func(s *source) { s.endAt = at }, io.ErrUnexpectedEOF},
		"dies":  {func(s *source) { s.failAt = at }, errGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, src := newDisk(int64(len(img.content)), 512), newSource(img)
			tc.spoil(src)
			one := small
			one.Connections = 1 // so that the frames before it have arrived
			report, err := Write(t.Context(), d, img.m, src, one)
			var missing *SourceError
			if !errors.As(err, &missing) || missing.Frame != frame || !errors.Is(err, tc.want) || report.Verified {
				t.Fatalf("got %v, %+v", err, report)
			}
			again := newSource(img)
			second, err := Write(t.Context(), d, img.m, again, resume(one))
			if err != nil || !second.Verified || second.FramesKept == 0 ||
				second.FramesKept+second.FramesWritten+second.HolesZeroed != len(img.m.Frames) || second.BytesFetched >= report.BytesFetched+int64(len(img.packed)) {
				t.Errorf("got %v, %+v", err, second)
			}
			checkWritten(t, d, img)
			third, err := Write(t.Context(), d, img.m, nil, resume(one))
			if err != nil || third.FramesKept != len(img.m.Frames) || third.BytesFetched+third.BytesWritten+third.BytesZeroed != 0 || !third.Verified {
				t.Errorf("nothing left to do: got %v, %+v", err, third)
			}
		})
	}
}

func TestWithoutASource(t *testing.T) {
	t.Parallel()
	img := newImage(t, "d", 0, 512)
	var missing *SourceError
	if _, err := Write(t.Context(), newDisk(testFrame, 512), img.m, nil, Options{}); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestHardwareErrorsNameTheSector(t *testing.T) {
	t.Parallel()
	for _, sectorSize := range []int{512, 4096} {
		img := newImage(t, mixed, 0, sectorSize)
		perFrame := int64(testFrame / sectorSize)
		for _, within := range []int64{0, 1, perFrame / 2, perFrame - 1} {
			lba := 12*perFrame + within
			for _, op := range []string{"write", "read"} {
				d := newDisk(int64(len(img.content)), sectorSize)
				if op == "write" {
					d.badWrite = lba
				} else {
					d.badRead = lba
				}
				report, err := Write(t.Context(), d, img.m, newSource(img), small)
				var bad *SectorError
				if !errors.As(err, &bad) || bad.Op != op || bad.LBA != lba || bad.SectorSize != sectorSize || !errors.Is(err, errMedium) || report.Verified {
					t.Errorf("%s sector %d of %d: got %v, %+v", op, lba, sectorSize, err, report)
				}
			}
		}
	}
}

func TestZeroAndFlushErrors(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	d := newDisk(int64(len(img.content)), 512)
	d.zeroErr = errMedium
	_, err := Write(t.Context(), d, img.m, newSource(img), small)
	var bad *SectorError
	if want := int64(2 * testFrame / 512); !errors.As(err, &bad) || bad.Op != "zero" || bad.LBA != want {
		t.Errorf("zero: got %v", err)
	}
	d = newDisk(int64(len(img.content)), 512)
	d.flushErr = errMedium
	report, err := Write(t.Context(), d, img.m, newSource(img), small)
	if !errors.As(err, &bad) || bad.Op != "flush" || bad.LBA != -1 || report.Flushed || report.Verified {
		t.Errorf("flush: got %v, %+v", err, report)
	}
}

// A device whose "write zeroes" leaves old data gets zeros written by hand.
func TestZeroingThatLiesIsRepaired(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	d := newDisk(int64(len(img.content)), 512)
	d.zeroLies = true
	report, err := Write(t.Context(), d, img.m, newSource(img), small)
	if err != nil || !report.Verified || report.HolesRewritten != report.HolesZeroed || report.BytesVerified != int64(len(img.content)) {
		t.Errorf("got %v, %+v", err, report)
	}
	checkWritten(t, d, img)
}

func TestDiskThatReturnsOtherBytes(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	for _, proof := range []Proof{ProofSHA256, ProofXXH3} {
		for frame, stage := range map[int]Stage{14: StageReadBack, 9: StageReadBack} { // data, hole
			d := newDisk(int64(len(img.content)), 512)
			d.flip = int64(frame)*testFrame + 4321
			o := small
			o.Proof = proof
			report, err := Write(t.Context(), d, img.m, newSource(img), o)
			var wrong *HashError
			if !errors.As(err, &wrong) || wrong.Frame != frame || wrong.Stage != stage || report.Verified || !report.Flushed {
				t.Errorf("proof %d, frame %d: got %v, %+v", proof, frame, err, report)
			}
		}
	}
}

// SHA-256 is demanded of what was read back even where XXH3 is content.
func TestProof(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	m := *img.m
	m.Frames = append([]manifest.Frame(nil), img.m.Frames...)
	m.Frames[12].SHA256[0] ^= 1
	for proof, good := range map[Proof]bool{ProofSHA256: false, ProofXXH3: true} {
		o := small
		o.Proof = proof
		report, err := Write(t.Context(), newDisk(int64(len(img.content)), 512), &m, newSource(img), o)
		var wrong *HashError
		if good != (err == nil) || good != report.Verified || (!good && (!errors.As(err, &wrong) || wrong.Frame != 12)) {
			t.Errorf("proof %d: got %v, %+v", proof, err, report)
		}
	}
}

// Power goes after any number of writes, an arbitrary half of what was not
// flushed is lost, and a resume arrives.
func TestResumeAfterPowerCut(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 512*8, 512)
	for after := 1; ; after += 2 {
		d := newDisk(int64(len(img.content)), 512)
		ctx, cancel := context.WithCancel(t.Context())
		d.onWrite = func(n int) {
			if n == after {
				cancel()
			}
		}
		_, err := Write(ctx, d, img.m, newSource(img), small)
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		d.cutPower(uint64(after))
		d.onWrite = nil
		report, err := Write(t.Context(), d, img.m, newSource(img), resume(small))
		if err != nil || !report.Verified {
			t.Fatalf("cut after %d writes: %v, %+v", after, err, report)
		}
		checkWritten(t, d, img)
	}
}

// A sector that cannot be read while looking for what to keep is written.
func TestResumeOverUnreadableSector(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	d := newDisk(int64(len(img.content)), 512)
	d.badRead = 14 * testFrame / 512
	d.onWrite = func(int) { d.badRead = -1 } // rewriting mends it, as disks do
	report, err := Write(t.Context(), d, img.m, newSource(img), resume(small))
	if err != nil || !report.Verified {
		t.Errorf("got %v, %+v", err, report)
	}
}
