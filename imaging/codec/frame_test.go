package codec

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestFrameRoundTripInPlace(t *testing.T) {
	t.Parallel()
	enc, err := NewFrameEncoder(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewFrameDecoder(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, size := range []int{512, 4096, 100_000, 1 << 20} {
		want := sample(size)
		packed := enc.Encode(want, nil)
		got := make([]byte, size)
		if err := dec.Decode(packed, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: err %v, equal %t", size, err, bytes.Equal(got, want))
		}
	}
}

func TestFrameOfAnotherSizeIsRefused(t *testing.T) {
	t.Parallel()
	big, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewFrameDecoder(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	bomb := big.EncodeAll(make([]byte, 256<<20), nil)
	for name, packed := range map[string][]byte{
		"larger": big.EncodeAll(sample(64<<10+1), nil), "smaller": big.EncodeAll(sample(100), nil),
		"bomb": bomb, "cut": bomb[:len(bomb)-1], "empty": {}, "garbage": []byte("not a frame at all"),
	} {
		if err := dec.Decode(packed, make([]byte, 64<<10)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
