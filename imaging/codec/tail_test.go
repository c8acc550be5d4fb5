package codec

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// Tapes and mirrors pad files with zeros. What stands behind the data is taken
// or refused as the stock tool does it.
func TestWhatFollowsTheData(t *testing.T) {
	t.Parallel()
	data := sample(100_000)
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
	for _, tc := range []struct {
		name    string
		command []string
		tail    []byte
		taken   bool
	}{
		{"gzip, zeros", []string{"gzip", "-c"}, make([]byte, 512), true},
		{"gzip, a zero", []string{"gzip", "-c"}, make([]byte, 1), true},
		{"gzip, many zeros", []string{"gzip", "-c"}, make([]byte, 1<<20), true},
		{"gzip, garbage", []string{"gzip", "-c"}, []byte("garbage, garbage"), false},
		{"gzip, zeros and garbage", []string{"gzip", "-c"}, append(make([]byte, 100), 1), false},
		{"xz, padding", []string{"xz", "-c"}, make([]byte, 512), true},
		{"xz, crooked padding", []string{"xz", "-c"}, make([]byte, 3), false},
		{"xz, garbage", []string{"xz", "-c"}, []byte("garbage, garbage"), false},
		{"zstd, skippable", []string{"zstd", "-c"}, skippable, true},
		{"zstd, zeros", []string{"zstd", "-c"}, make([]byte, 512), false},
		{"zstd, garbage", []string{"zstd", "-c"}, []byte("garbage, garbage"), false},
		{"lz4, skippable", []string{"lz4", "-c", "-"}, skippable, true},
		{"lz4, garbage", []string{"lz4", "-c", "-"}, []byte("garbage, garbage"), false},
	} {
		r, _, err := Open(bytes.NewReader(append(pack(t, data, tc.command...), tc.tail...)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %v, want %v or %v", tc.name, err, ErrDamaged, io.ErrUnexpectedEOF)
		}
		if taken := err == nil; taken != tc.taken || taken && !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, error %v; want it taken: %t", tc.name, len(got), err, tc.taken)
		}
	}
}

// A flipped bit is damage of the stream; a failing network is not.
func TestDamageIsToldFromReading(t *testing.T) {
	t.Parallel()
	data := sample(300_000)
	for _, tool := range tools {
		if tool.format == Plain {
			continue
		}
		packed := pack(t, data, tool.command...)
		broken := errors.New("connection reset")
		r, _, err := Open(io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken)))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", tool.name, err, broken)
		}
		packed[len(packed)/2] ^= 0x40
		if r, _, err = Open(bytes.NewReader(packed)); err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, io.ErrUnexpectedEOF) && tool.name != "zstd without size and checksum" {
			t.Errorf("%s, a flipped bit: got %v, want %v", tool.name, err, ErrDamaged)
		}
	}
}
