package writer

import (
	"runtime"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Options for Write; the zero value is what a deploy wants.
type Options struct {
	// Resume is for a target that an earlier Write may have written in part:
	// what it holds is read first, and only what is not right is fetched and
	// written, of holes too. When everything is right nothing is changed.
	Resume bool
	// Reuse is for a target that holds an older system, maybe of the same image.
	// It is Resume, except that holes are zeroed without a look at them, which
	// costs nothing on most disks. Both give up when hardly anything is right.
	Reuse bool
	// Proof is the hash that is demanded when reading back.
	Proof Proof
	// ReadBackPercent is the share of the frames to read back; 0 and 100 mean
	// all. With less, Report.Sampled stands in the place of Verified. The first
	// and the last frame are always among them.
	ReadBackPercent int
	// MemoryBytes bounds what a write takes (default 128 MiB). With less, fewer
	// frames are in the air; one buffer of each kind there always is. The manifest
	// itself, about 100 bytes a frame, is not counted.
	MemoryBytes int64
	// Workers decode and write, or read back, in parallel (default: one a CPU,
	// from 2 to 16, and one more to work while another waits for the disk).
	// Connections is how many ranges are open at once (default 2).
	Workers     int
	Connections int
	// RunBytes is the most that one range request asks for (default 8 MiB).
	RunBytes int64
	// Progress, if not nil, is called about ten times a second and at each
	// change of phase, never from two goroutines at once. It must be quick.
	Progress func(Progress)
	// OnFrame, if not nil, is called once for every packed frame that was
	// fetched, right after its packed SHA-256 was found right, so that somebody
	// may pass it on. packed is good only until OnFrame returns. It must be
	// quick, and is called from several goroutines at once, in no strict order.
	OnFrame func(index int, packed []byte)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Proof is how reading back is compared.
type Proof int

const (
	// ProofXXH3 compares XXH3, which costs nearly nothing. Nobody chooses what
	// is compared: the packed frame's SHA-256 has bound its bytes to the
	// manifest, and from there on it is about accidents of memory, bus and
	// medium, of which 64 bits miss one in 10^19.
	ProofXXH3 Proof = iota
	// ProofSHA256 compares SHA-256 as well, 1 to 2 GB/s a core: for a site
	// whose rules ask for it, or that suspects its disks of malice.
	ProofSHA256
)

// Phase of a write, in order; PhaseCheck only with Resume or Reuse, where
// the frames themselves are read within PhaseWrite.
type Phase string

const (
	PhaseCheck  Phase = "check"
	PhaseWrite  Phase = "write"
	PhaseFlush  Phase = "flush"
	PhaseVerify Phase = "verify"
	PhaseDone   Phase = "done"
)

// Progress is a snapshot. DoneBytes of TotalBytes are content bytes, holes
// included, handled in this phase.
type Progress struct {
	Phase        Phase
	DoneBytes    int64
	TotalBytes   int64
	BytesWritten int64 // content bytes written so far, zeros for holes not included
	BytesFetched int64 // packed bytes received so far
}

// Report is what was done; with an error, what was done before it.
type Report struct {
	FramesWritten   int   // with data
	FramesKept      int   // with Resume or Reuse: frames and holes that were right already
	HolesZeroed     int   // zero frames made zero
	HolesRewritten  int   // of these, read back as not zero and written by hand
	FramesRefetched int   // delivered wrong at first
	BytesWritten    int64 // content; of a Mirror, to the first target
	BytesKept       int64 // content that was right already: frames kept, and parts of frames written
	BytesZeroed     int64
	BytesFetched    int64 // packed
	BytesVerified   int64 // read back and compared, holes and frames kept included
	// CheckTime is for the first look of Resume and Reuse. WriteTime covers
	// reading what is there, fetching and writing; FlushTime includes the writing
	// of both ends.
	CheckTime, WriteTime, FlushTime, VerifyTime time.Duration
	// Flushed is set once everything is on the medium. Verified is set once
	// everything was read back and matched; Sampled once a part was, as
	// Options.ReadBackPercent asked. Without an error one of the two is set.
	Flushed  bool
	Verified bool
	Sampled  bool
}

// BlockedThreads is how much larger than the number of CPUs a program that
// writes to disks should make its GOMAXPROCS: a thread in a direct read or write
// keeps its place among them for a while, though it needs no CPU (dense image on
// two cores: flushed in 3.7 s with two more, 4.5 s without).
const BlockedThreads = 2

// plan is Options with every default filled in and cut to the memory allowed.
type plan struct {
	Options
	packedBuffers int
	runs          manifest.RunLimits
	earlyBytes    int64
}

// maxRunFrames bounds what is remembered of a stretch of frames that pack to next
// to nothing.
const maxRunFrames = 64

// decoderBytes is what a zstd decoder needs beside its output.
const decoderBytes = 1 << 20

func (o Options) plan(m *manifest.Manifest) plan {
	p := plan{Options: o, earlyBytes: earlyBytes}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.MemoryBytes <= 0 {
		p.MemoryBytes = 128 << 20
	}
	if p.Workers <= 0 {
		p.Workers = min(max(runtime.NumCPU(), 2), 16) + 1
	}
	if p.ReadBackPercent <= 0 || p.ReadBackPercent > 100 {
		p.ReadBackPercent = 100
	}
	if p.Connections <= 0 {
		p.Connections = 2
	}
	if p.RunBytes <= 0 {
		p.RunBytes = 8 << 20
	}
	p.runs = manifest.RunLimits{Bytes: p.RunBytes, Gap: 32 << 10, Frames: maxRunFrames}
	frame := int64(m.FrameSizeBytes)
	packed := int64(manifest.MaxPacked(m.FrameSizeBytes))
	// An eighth is for all that is no frame: connections, zeros, ends, the program.
	third := (p.MemoryBytes - p.MemoryBytes/8) / 3
	p.Workers = int(min(int64(p.Workers), max(2*third/(2*frame+decoderBytes), 1)))
	p.Connections = int(min(int64(p.Connections), max(third/packed, 1)))
	p.packedBuffers = int(min(max(third/packed, 1), int64(2*p.Workers+2*p.Connections)))
	return p
}
