package codec

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// pack runs a real tool, since what people have was made by those.
func pack(t testing.TB, data []byte, command ...string) []byte {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, errOut.String())
	}
	return out
}

func sample(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		if i/4096%3 != 0 {
			b[i] = byte(rng.UintN(40))
		}
	}
	return b
}

var tools = []struct {
	name    string
	format  Format
	command []string
}{
	{"gzip", Gzip, []string{"gzip", "-c"}},
	{"xz", XZ, []string{"xz", "-c"}},
	{"xz sha256", XZ, []string{"xz", "-c", "--check=sha256"}},
	{"xz blocks", XZ, []string{"xz", "-c", "-T2", "--block-size=65536"}},
	{"zstd", Zstd, []string{"zstd", "-c"}},
	{"zstd without size and checksum", Zstd, []string{"zstd", "-c", "--no-check", "--no-content-size"}},
	{"lz4", LZ4, []string{"lz4", "-c", "-"}},
	{"cat", Plain, []string{"cat"}},
}

func TestOpenReadsWhatToolsMade(t *testing.T) {
	t.Parallel()
	data := sample(700_000)
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			t.Parallel()
			packed := pack(t, data, tool.command...)
			r, format, err := Open(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || format != tool.format || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, format %s, err %v; want %d, %s", len(got), format, err, len(data), tool.format)
			}
		})
	}
}

func TestOpenReadsSeveralStreamsAsOne(t *testing.T) {
	t.Parallel()
	a, b := sample(100_000), sample(50_000)
	for _, tool := range tools {
		packed := append(pack(t, a, tool.command...), pack(t, b, tool.command...)...)
		r, _, err := Open(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if want := append(bytes.Clone(a), b...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes, err %v; want %d", tool.name, len(got), err, len(want))
		}
	}
}

// A stream that is cut anywhere must not end as if it were whole.
func TestCutStreamsAreErrors(t *testing.T) {
	t.Parallel()
	data := sample(300_000)
	for _, tool := range tools {
		if tool.format == Plain {
			continue
		}
		t.Run(tool.name, func(t *testing.T) {
			t.Parallel()
			packed := pack(t, data, tool.command...)
			for _, cut := range []int{7, 20, len(packed) / 3, len(packed) / 2, len(packed) - 9, len(packed) - 1} {
				r, _, err := Open(bytes.NewReader(packed[:cut]))
				var n int64
				if err == nil {
					n, err = io.Copy(io.Discard, r)
					r.Close()
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut to %d of %d: got %d bytes and error %v, want %v", cut, len(packed), n, err, io.ErrUnexpectedEOF)
				}
			}
		})
	}
}

func TestLargeWindowsAreRefused(t *testing.T) {
	t.Parallel()
	// A zstd frame that only declares a window of 1 GiB, and an xz block that
	// declares a dictionary of 1.5 GiB.
	zst := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00}
	xzBomb := pack(t, sample(5000), "xz", "-c", "--lzma2=dict=1536MiB")
	for name, packed := range map[string][]byte{"zstd": zst, "xz": xzBomb} {
		r, _, err := Open(bytes.NewReader(packed))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if !errors.Is(err, ErrTooMuchMemory) {
			t.Errorf("%s: got %v, want %v", name, err, ErrTooMuchMemory)
		}
	}
}

func TestZstdWithLongestAllowedWindow(t *testing.T) {
	t.Parallel()
	data := sample(300_000)
	packed := pack(t, data, "zstd", "-c", "--long=27", "--no-content-size")
	r, _, err := Open(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, err %v", len(got), err)
	}
}

func TestDetectSkippableFrame(t *testing.T) {
	t.Parallel()
	if got := Detect([]byte{0x5e, 0x2a, 0x4d, 0x18, 0, 0}); got != Zstd {
		t.Errorf("got %s, want %s", got, Zstd)
	}
	if got := Detect([]byte{0x1f}); got != Plain {
		t.Errorf("got %s, want %s", got, Plain)
	}
}

func FuzzOpen(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.EncodeAll(sample(5000), nil))
	for _, tool := range tools {
		f.Add(pack(f, sample(3000), tool.command...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		io.Copy(io.Discard, io.LimitReader(r, 4<<20))
	})
}
