package pack

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is wrong with an input, nothing is left behind.
func TestBadInputsAreNamedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	disk := gptDisk(t, 8<<20, 512)
	xz := run(t, disk, "xz", "-1c")
	qcow := func(args ...string) []byte {
		path := filepath.Join(t.TempDir(), "q")
		run(t, nil, append(append([]string{"qemu-img", "create", "-q", "-f", "qcow2"}, args...), path, "8M")...)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	plain := qcow()
	patched := func(offset int, bytes ...byte) []byte {
		data := append([]byte(nil), plain...)
		copy(data[offset:], bytes)
		return data
	}
	bomb := run(t, make([]byte, 64<<20), "zstd", "-c")
	for name, tc := range map[string]struct {
		data   []byte
		format Format
		want   error
	}{
		"empty":                  {nil, Raw, ErrDamaged},
		"odd size":               {make([]byte, 100_001), Raw, ErrDamaged},
		"cut by half":            {disk[:4<<20], Raw, ErrDamaged},
		"cut xz":                 {xz[:len(xz)/2], RawXZ, ErrDamaged},
		"flipped bit in xz":      {flipped(xz), RawXZ, ErrDamaged},
		"xz of a large window":   {run(t, disk, "xz", "-c", "--lzma2=dict=1536MiB"), RawXZ, ErrUnsupported},
		"xz stated as raw":       {xz, Raw, ErrFormat},
		"xz stated as gzip":      {xz, RawGzip, ErrFormat},
		"raw stated as xz":       {disk, RawXZ, ErrFormat},
		"raw stated as qcow2":    {disk, QCOW2, ErrFormat},
		"qcow2 stated as raw":    {plain, Raw, ErrFormat},
		"qcow2 in xz":            {run(t, plain, "xz", "-1c"), RawXZ, ErrFormat},
		"zstd in zstd":           {run(t, run(t, disk, "zstd", "-c"), "zstd", "-c"), RawZstd, ErrFormat},
		"bomb":                   {bomb, RawZstd, ErrTooLarge},
		"qcow2 too short":        {plain[:50], QCOW2, ErrDamaged},
		"qcow2 header cut":       {plain[:90], QCOW2, ErrDamaged},
		"qcow2 backing file":     {qcow("-b", base, "-F", "raw"), QCOW2, ErrUnsupported},
		"qcow2 external data":    {patched(79, 4), QCOW2, ErrUnsupported},
		"qcow2 extended L2":      {qcow("-o", "extended_l2=on"), QCOW2, ErrUnsupported},
		"qcow2 encrypted":        {patched(35, 2), QCOW2, ErrUnsupported},
		"qcow2 corrupt bit":      {patched(79, 2), QCOW2, ErrDamaged},
		"qcow2 of an exabyte":    {patched(24, 0x10), QCOW2, ErrTooLarge},
		"qcow2 huge first table": {patched(36, 0x10), QCOW2, ErrDamaged},
		"qcow2 table elsewhere":  {patched(40, 0x10), QCOW2, ErrDamaged},
		"qcow2 clusters of 2^63": {patched(23, 63), QCOW2, ErrDamaged},
		"unknown format":         {disk, "vmdk", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			o := rawOptions
			o.Format, o.MaxSizeBytes = tc.format, 32<<20
			_, err := Pack(t.Context(), input(tc.data), filepath.Join(parent, "image"), o)
			if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			for _, words := range []string{"not supported", "cut off", "allowed", "start like"} {
				if strings.Count(err.Error(), words) > 1 {
					t.Errorf("it says %q twice: %v", words, err)
				}
			}
			left, _ := os.ReadDir(parent)
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func flipped(data []byte) []byte {
	data = bytes.Clone(data)
	data[len(data)/2] ^= 0x40
	return data
}

func TestCancelledPackLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	parent := t.TempDir()
	endless := readerFunc(func(p []byte) (int, error) {
		cancel()
		clear(p)
		return len(p), nil
	})
	_, err := Pack(ctx, Input{Reader: endless}, filepath.Join(parent, "image"), rawOptions)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
