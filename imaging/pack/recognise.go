package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ingot-metal/ingot/imaging/codec"
	"github.com/ingot-metal/ingot/imaging/qcow2"
)

// RecogniseBytes is how many of an image's first bytes Recognise likes to see;
// fewer may leave it uncertain.
const RecogniseBytes = 64 << 10

// ErrUncertain: the first bytes do not settle the format, so a person has to.
var ErrUncertain = errors.New("the format is not certain")

// Recognise tells an image's format by its first bytes, for a person to
// confirm, and the evidence for it in words. With ErrUncertain the format is a
// guess, or empty where there is none: Pack with Auto refuses such an image.
//
// What starts like qcow2 is never certain. Whoever has written to a raw disk
// could have put a qcow2 header into its first sector, and reading it as that
// would show another disk, one of their making. ErrUnsupported names formats
// that are known and not read.
func Recognise(first []byte) (f Format, evidence string, err error) {
	switch c := codec.Detect(first); {
	case c != codec.Plain:
		return recogniseInside(c, first)
	case bytes.HasPrefix(first, []byte(qcow2.Magic)):
		return QCOW2, "it starts with qcow2's magic number", fmt.Errorf("%w: it starts like qcow2, and so can a raw disk: "+
			"state qcow2 if that is what you were given", ErrUncertain)
	case foreign(first) != "":
		return "", "", fmt.Errorf("%s: %w: convert it first (qemu-img convert -O qcow2 OLD NEW)", foreign(first), ErrUnsupported)
	}
	evidence, err = recogniseRaw(first)
	return Raw, evidence, err
}

// recogniseInside also looks at what unpacks from the bytes that are there.
func recogniseInside(c codec.Format, first []byte) (Format, string, error) {
	f := Format("")
	for _, known := range Formats() {
		if known.codec() == c {
			f = known
		}
	}
	evidence := fmt.Sprintf("it starts with the magic number of %s", c)
	body, _, err := codec.Open(bytes.NewReader(first))
	if err != nil {
		return f, evidence, nil // the bytes here may be too few; Pack will tell
	}
	defer body.Close()
	inner := make([]byte, 16<<10)
	n, _ := io.ReadFull(body, inner)
	if name := foreign(inner[:n]); name != "" {
		return "", evidence, fmt.Errorf("%s inside %s: %w: unpack it first", name, c, ErrUnsupported)
	}
	if more, err := recogniseRaw(inner[:n]); err == nil {
		evidence += "; the disk in it: " + more
	}
	return f, evidence, nil
}

// recogniseRaw looks for a partition table: a raw disk has no magic number of
// its own.
func recogniseRaw(first []byte) (evidence string, err error) {
	for _, sector := range []int{512, 4096} {
		if len(first) >= sector+8 && string(first[sector:sector+8]) == "EFI PART" {
			return fmt.Sprintf("a GPT for sectors of %d bytes", sector), nil
		}
	}
	if len(first) > 32769+5 && string(first[32769:32769+5]) == "CD001" {
		return "an ISO 9660 filesystem", fmt.Errorf("%w: it looks like an installation medium, which is no disk image", ErrUncertain)
	}
	if hasMBR(first) {
		return "an MBR partition table", nil
	}
	return "no magic number and no partition table", fmt.Errorf("%w: it has neither a magic number nor a partition table: state its format", ErrUncertain)
}

// hasMBR wants the signature and at least one entry that can be one: a boot
// sector of a filesystem has the signature too.
func hasMBR(first []byte) bool {
	if len(first) < 512 || first[510] != 0x55 || first[511] != 0xaa {
		return false
	}
	used := 0
	for at := 446; at < 510; at += 16 {
		e := first[at : at+16]
		start, count := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		switch {
		case e[0]&0x7f != 0:
			return false
		case e[4] != 0 && start != 0 && count != 0:
			used++
		case e[4] != 0 || start != 0 || count != 0:
			return false
		}
	}
	return used > 0
}

// recogniseInput is Recognise for an input, which can be read from its start
// afterwards.
func recogniseInput(in Input) (Input, Format, string, error) {
	first := make([]byte, RecogniseBytes)
	var n int
	var err error
	if in.ReaderAt != nil {
		n, err = in.ReaderAt.ReadAt(first[:min(int64(len(first)), max(in.Size, 0))], 0)
	} else {
		n, err = io.ReadFull(in.Reader, first)
		in.Reader = io.MultiReader(bytes.NewReader(first[:n]), in.Reader)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return in, "", "", fmt.Errorf("read image: %w", err)
	}
	f, evidence, err := Recognise(first[:n])
	if err != nil {
		return in, "", "", err
	}
	return in, f, evidence, nil
}
