package pack

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecognise(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20, 512)
	dir := t.TempDir()
	raw, q := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
	if err := os.WriteFile(raw, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, q)
	qcow, err := os.ReadFile(q)
	if err != nil {
		t.Fatal(err)
	}
	iso := make([]byte, 40<<10)
	copy(iso[32769:], "CD001")
	fat := make([]byte, 4096) // a boot sector, where code stands instead of a table
	for i := range 510 {
		fat[i] = byte(i)
	}
	fat[510], fat[511] = 0x55, 0xaa
	disguised := bytes.Clone(disk)
	copy(disguised, qcow[:512])
	for name, tc := range map[string]struct {
		data     []byte
		format   Format
		evidence string
		err      error
	}{
		"GPT":                 {disk, Raw, "GPT for sectors of 512", nil},
		"GPT of 4096":         {gptDisk(t, 8<<20, 4096), Raw, "GPT for sectors of 4096", nil},
		"MBR":                 {sfdisk(t, 4<<20, "label: dos\nstart=2048, type=83\n"), Raw, "MBR", nil},
		"gzip":                {run(t, disk, "gzip", "-c"), RawGzip, "magic number of gzip; the disk in it: a GPT", nil},
		"xz":                  {run(t, disk, "xz", "-1c"), RawXZ, "magic number of xz", nil},
		"zstd":                {run(t, disk, "zstd", "-c"), RawZstd, "magic number of zstd", nil},
		"lz4":                 {run(t, disk, "lz4", "-c", "-"), RawLZ4, "magic number of lz4", nil},
		"gzip, 10 bytes":      {run(t, disk, "gzip", "-c")[:10], RawGzip, "magic number of gzip", nil},
		"qcow2":               {qcow, QCOW2, "qcow2's magic", ErrUncertain},
		"a disk like qcow2":   {disguised, QCOW2, "qcow2's magic", ErrUncertain},
		"qcow2 in gzip":       {run(t, qcow, "gzip", "-c"), "", "gzip", ErrUnsupported},
		"zstd in xz":          {run(t, run(t, disk, "zstd", "-c"), "xz", "-1c"), "", "xz", ErrUnsupported},
		"VMDK":                {[]byte("KDMV, and so on"), "", "", ErrUnsupported},
		"ISO 9660":            {iso, Raw, "ISO 9660", ErrUncertain},
		"a filesystem":        {fat, Raw, "no partition table", ErrUncertain},
		"zeros":               {make([]byte, 1<<16), Raw, "no magic", ErrUncertain},
		"nothing":             {nil, Raw, "no magic", ErrUncertain},
		"an MBR of no entry":  {append(make([]byte, 510), 0x55, 0xaa), Raw, "no magic", ErrUncertain},
		"an MBR of odd flags": {append(bytes.Repeat([]byte{1}, 510), 0x55, 0xaa), Raw, "no magic", ErrUncertain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, evidence, err := Recognise(tc.data[:min(len(tc.data), RecogniseBytes)])
			if f != tc.format || !strings.Contains(evidence, tc.evidence) || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %q, %v; want %q, %q, %v", f, evidence, err, tc.format, tc.evidence, tc.err)
			}
			// Auto takes what is certain, from a file and from a stream, as if it
			// had been stated; and nothing else.
			o := rawOptions
			o.Format = Auto
			for _, in := range []Input{input(tc.data), {Reader: iotestSlow{bytes.NewReader(tc.data)}}} {
				got, err := Pack(t.Context(), in, filepath.Join(t.TempDir(), "image"), o)
				if tc.err != nil && !errors.Is(err, tc.err) {
					t.Errorf("auto: got %v, want %v", err, tc.err)
				}
				if tc.err == nil && err == nil && (got.Format != tc.format || got.Evidence != evidence) {
					t.Errorf("auto: taken as %q (%s), want %q", got.Format, got.Evidence, tc.format)
				}
				if tc.err == nil && err != nil && len(tc.data) > 10 {
					t.Errorf("auto: %v", err)
				}
			}
		})
	}
}

// iotestSlow gives few bytes at a time, as a network does.
type iotestSlow struct{ r io.Reader }

func (s iotestSlow) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 1000)]) }

// A raw disk whose first sector looks like qcow2 is refused, however it is
// stated and when it is not: never is another disk read from it.
func TestDisguisedDiskIsNeverReadAsAnother(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20, 512)
	copy(disk, "QFI\xfb\x00\x00\x00\x03")
	for format, want := range map[Format]error{Raw: ErrFormat, Auto: ErrUncertain, RawGzip: ErrFormat} {
		o := rawOptions
		o.Format = format
		if _, err := Pack(t.Context(), input(disk), filepath.Join(t.TempDir(), "x"), o); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", format, err, want)
		}
	}
}
