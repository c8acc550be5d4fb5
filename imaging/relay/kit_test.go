package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = []byte("a key of at least sixteen bytes")

// image is a packed file and its manifest; what the frames unpack to does not
// matter here.
type image struct {
	packed []byte
	m      *manifest.Manifest
	digest manifest.Digest
}

// newImage makes frames of 20,000 to 60,000 bytes, and a hole after each fifth.
func newImage(frames int) image {
	rng := rand.New(rand.NewPCG(uint64(frames), 7))
	img := image{m: &manifest.Manifest{Version: 1, Kind: manifest.KindDisk, FrameSizeBytes: manifest.MinFrameSize}}
	for i := range frames {
		if i%6 == 5 {
			img.packed = append(img.packed, "the packed bytes of a hole"...)
			img.m.Frames = append(img.m.Frames, manifest.Frame{Zero: true, Size: manifest.MinFrameSize})
			continue
		}
		data := make([]byte, 20000+rng.IntN(40000))
		for k := range data {
			data[k] = byte(rng.Uint32())
		}
		img.m.Frames = append(img.m.Frames, manifest.Frame{Size: manifest.MinFrameSize, Offset: uint64(len(img.packed)),
			PackedSize: uint32(len(data)), PackedSHA256: manifest.Sum(data)})
		img.packed = append(img.packed, data...)
	}
	img.packed = append(img.packed, "a seek table"...)
	img.m.PackedSizeBytes = uint64(len(img.packed))
	img.digest = manifest.DigestOf(img.packed)
	return img
}

// floor is a fetch.Source that counts what is taken from it.
type floor struct {
	packed []byte
	bytes  atomic.Int64
	gate   func(ctx context.Context, offset int64) error // nil: open
}

func (f *floor) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	return io.NopCloser(&floorReader{f: f, ctx: ctx, at: offset, end: offset + length}), nil
}

type floorReader struct {
	f       *floor
	ctx     context.Context
	at, end int64
}

func (r *floorReader) Read(p []byte) (int, error) {
	if r.at == r.end {
		return 0, io.EOF
	}
	if r.f.gate != nil {
		if err := r.f.gate(r.ctx, r.at); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(len(p), 10000)], r.f.packed[r.at:r.end])
	r.at += int64(n)
	r.f.bytes.Add(int64(n))
	return n, r.ctx.Err()
}

// member is a node that serves, with a writer of its own.
type member struct {
	*Node
	t       *testing.T
	img     image
	floor   *floor
	url     string
	onFrame func(frame int) // before Put; nil: nothing
	refetch atomic.Int32

	mu  sync.Mutex
	got map[int][]byte
}

func newMember(t *testing.T, img image, id string, change ...func(*Options)) *member {
	t.Helper()
	opts := Options{MachineID: id, Key: testKey, Stall: time.Second}
	for _, c := range change {
		c(&opts)
	}
	m := &member{t: t, img: img, floor: &floor{packed: img.packed}, got: map[int][]byte{}}
	var err error
	if m.Node, err = NewNode(img.m, img.digest, m.floor, opts); err != nil {
		t.Fatal(err)
	}
	m.url = listen(t, m.Node, opts.TLS != nil)
	return m
}

// listen serves a node on loopback until the test ends.
func listen(t *testing.T, n *Node, overTLS bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	if overTLS {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

func (m *member) peer() Peer { return Peer{MachineID: m.opts.MachineID, URLs: []string{m.url}} }

// write does what imaging/writer does: two connections, runs in order, each
// frame verified, and fetched anew when it is wrong.
func (m *member) write(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	runs := make(chan manifest.Run)
	group.Go(func() error {
		defer close(runs)
		for _, run := range m.img.m.Runs(m.img.m.DataFrames(), manifest.RunLimits{Bytes: 200000, Gap: 1000}) {
			select {
			case runs <- run:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range 2 {
		group.Go(func() error {
			for run := range runs {
				if err := m.fetch(ctx, run); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil {
		m.Finish()
	}
	return err
}

func (m *member) fetch(ctx context.Context, run manifest.Run) error {
	body, err := m.Range(ctx, run.Offset, run.Length)
	if err != nil {
		return err
	}
	defer body.Close()
	at := run.Offset
	for _, i := range run.Frames {
		f := m.img.m.Frames[i]
		if _, err := io.CopyN(io.Discard, body, int64(f.Offset)-at); err != nil {
			return fmt.Errorf("gap before frame %d: %w", i, err)
		}
		packed := make([]byte, f.PackedSize)
		if _, err := io.ReadFull(body, packed); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		at = int64(f.Offset) + int64(f.PackedSize)
		for try := 0; manifest.Sum(packed) != f.PackedSHA256; try++ {
			if try == 2 {
				return fmt.Errorf("frame %d: wrong again", i)
			}
			m.refetch.Add(1)
			m.Suspect(int64(f.Offset), int64(f.PackedSize))
			again, err := m.Range(ctx, int64(f.Offset), int64(f.PackedSize))
			if err != nil {
				return err
			}
			_, err = io.ReadFull(again, packed)
			again.Close()
			if err != nil {
				return err
			}
		}
		if m.onFrame != nil {
			m.onFrame(i)
		}
		m.mu.Lock()
		m.got[i] = bytes.Clone(packed)
		m.mu.Unlock()
		m.Put(i, packed)
	}
	return nil
}

// check tells whether the member has the whole image.
func (m *member) check() {
	m.t.Helper()
	for i, f := range m.img.m.Frames {
		if want := m.img.packed[f.Offset:][:f.PackedSize]; !f.Zero && !bytes.Equal(m.got[i], want) {
			m.t.Errorf("%s: frame %d: got %d bytes that are not the %d of the image", m.opts.MachineID, i, len(m.got[i]), len(want))
		}
	}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func digestOf(hex string) manifest.Digest {
	d, err := manifest.ParseDigest(hex)
	if err != nil {
		panic(err)
	}
	return d
}
