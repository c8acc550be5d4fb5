package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// FrameDecoder unpacks single zstd frames of bounded size into memory of the
// caller's. It is for one goroutine at a time.
type FrameDecoder struct {
	dec *zstd.Decoder
}

// Headroom is how many bytes of capacity behind its destination make Decode
// quicker: with them it copies in whole blocks up to the very end.
const Headroom = 64

// NewFrameDecoder makes a decoder for frames of up to frameSize bytes of
// content; a frame that declares or yields more is an error before memory is
// taken. zstd's own checksum is not computed: the caller knows a better hash.
func NewFrameDecoder(frameSize int) (*FrameDecoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(frameSize)+Headroom), zstd.WithDecoderMaxWindow(uint64(max(frameSize, 1<<20))),
		zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(true))
	if err != nil {
		return nil, fmt.Errorf("frame decoder for %d bytes: %w", frameSize, err)
	}
	return &FrameDecoder{dec: dec}, nil
}

// Decode fills dst exactly and in place; content of any other length is an
// error. Up to Headroom bytes of dst's capacity behind its length may be
// overwritten, so none of them may belong to somebody else.
func (d *FrameDecoder) Decode(packed, dst []byte) error {
	out, err := d.dec.DecodeAll(packed, dst[:0:min(cap(dst), len(dst)+Headroom)])
	if err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	if len(out) != len(dst) || (len(out) > 0 && &out[0] != &dst[0]) {
		return fmt.Errorf("decode frame: it has %d bytes, want %d", len(out), len(dst))
	}
	return nil
}

// Close frees what the decoder holds.
func (d *FrameDecoder) Close() { d.dec.Close() }

// FrameEncoder packs content into single zstd frames that say their size and
// carry zstd's checksum, so that stock tools check them. The same content gives
// the same bytes. It is for one goroutine at a time.
type FrameEncoder struct {
	enc *zstd.Encoder
}

// NewFrameEncoder makes an encoder for frames of up to frameSize bytes, a
// power of two.
func NewFrameEncoder(frameSize int) (*FrameEncoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithWindowSize(frameSize), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("frame encoder for %d bytes: %w", frameSize, err)
	}
	return &FrameEncoder{enc: enc}, nil
}

// Encode appends the packed content to dst.
func (e *FrameEncoder) Encode(content, dst []byte) []byte { return e.enc.EncodeAll(content, dst) }
