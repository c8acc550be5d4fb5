package writer

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	var phases []Phase
	var last Progress
	o := resume(small)
	o.Progress = func(p Progress) {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases, last = append(phases, p.Phase), Progress{}
		}
		if p.DoneBytes < last.DoneBytes || p.BytesWritten < last.BytesWritten || p.TotalBytes != int64(len(img.content)) {
			t.Errorf("%+v came after %+v", p, last)
		}
		last = p
	}
	if _, err := Write(t.Context(), newDisk(int64(len(img.content)), 512), img.m, newSource(img), o); err != nil {
		t.Fatal(err)
	}
	want := []Phase{PhaseCheck, PhaseWrite, PhaseFlush, PhaseVerify, PhaseDone}
	if fmt.Sprint(phases) != fmt.Sprint(want) || last.DoneBytes != last.TotalBytes || last.BytesFetched == 0 {
		t.Errorf("got %v ending in %+v, want %v", phases, last, want)
	}
}

func TestPlanStaysInMemory(t *testing.T) {
	t.Parallel()
	for _, frameSize := range []uint32{64 << 10, 1 << 20, 4 << 20, 16 << 20} {
		for _, memory := range []int64{0, 32 << 20, 128 << 20} {
			m := &manifest.Manifest{FrameSizeBytes: frameSize}
			p := Options{MemoryBytes: memory, Workers: 64, Connections: 64}.plan(m)
			// A worker decodes into one frame, and there is one to read the target for each.
			used := int64(p.Workers)*(2*int64(frameSize)+decoderBytes) + int64(p.packedBuffers)*int64(manifest.MaxPacked(frameSize))
			limit := max(p.MemoryBytes-p.MemoryBytes/8, 3*int64(frameSize)+2*decoderBytes+int64(frameSize)/256)
			if used > limit || p.Workers < 1 || p.Connections < 1 || p.packedBuffers < 1 {
				t.Errorf("frames of %d, %d allowed: %d used by %+v", frameSize, memory, used, p)
			}
		}
	}
}

// One buffer of each kind must suffice, or large frames would hang.
func TestLeastMemoryStillWorks(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 0, 512)
	d := newDisk(int64(len(img.content)), 512)
	if _, err := Write(t.Context(), d, img.m, newSource(img), Options{MemoryBytes: 1}); err != nil {
		t.Fatal(err)
	}
	checkWritten(t, d, img)
}

func TestWipeSignatures(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{512 * 7, 1 << 20, 3<<20 + 512*3, 80 << 20} {
		d := newDisk(size, 512)
		d.zeroLies = true
		if err := WipeSignatures(d); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 1080, 4096, 64 << 10, size - 1, size - 4096, size - 512<<10, 1 << 20, 2 << 20, 64<<20 + 64} {
			if at >= 0 && at < size && d.flushed[at] != 0 {
				t.Errorf("disk of %d: byte %d is still there", size, at)
			}
		}
		if size == 80<<20 && d.data[8<<20] == 0 {
			t.Error("the middle was wiped too")
		}
	}
	d := newDisk(4<<20, 512)
	d.badWrite = 3
	var bad *SectorError
	if err := WipeSignatures(d); !errors.As(err, &bad) || bad.LBA != 3 {
		t.Errorf("got %v", err)
	}
}

// Somebody who passes frames on gets each exactly once, and only right ones.
func TestOnFrame(t *testing.T) {
	t.Parallel()
	img := newImage(t, mixed, 512, 512)
	src := newSource(img)
	src.wrongAt, src.wrongFor = int64(img.m.Frames[12].Offset)+50, 1
	var mu sync.Mutex
	got := map[int]int{}
	o := small
	o.OnFrame = func(i int, packed []byte) {
		mu.Lock()
		defer mu.Unlock()
		got[i]++
		if manifest.Sum(packed) != img.m.Frames[i].PackedSHA256 {
			t.Errorf("frame %d is passed on wrong", i)
		}
	}
	if _, err := Write(t.Context(), newDisk(int64(len(img.content)), 512), img.m, src, o); err != nil {
		t.Fatal(err)
	}
	for i, f := range img.m.Frames {
		if want := map[bool]int{true: 0, false: 1}[f.Zero]; got[i] != want {
			t.Errorf("frame %d: got %d calls, want %d", i, got[i], want)
		}
	}
}
