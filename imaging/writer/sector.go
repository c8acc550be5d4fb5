package writer

import (
	"errors"
	"io"
)

// sectorError finds the first sector at fault after a call for all of buf
// failed once done bytes had gone through. It repeats the call in halves, on
// the same bytes, which is what the caller wanted done anyway; if no repetition
// fails, the error stands with the first sector that was not confirmed.
func sectorError(t Target, op string, buf []byte, offset int64, done int, err error) error {
	size := t.SectorSize()
	done = min(max(done, 0)/size*size, len(buf)-size)
	call := t.WriteAt
	if op == "read" {
		call = t.ReadAt
	}
	at := offset + int64(done)
	rest := buf[done:]
	for len(rest) > size {
		half := rest[:(len(rest)/size+1)/2*size]
		n, halfErr := call(half, at)
		if failed(n, len(half), halfErr) {
			rest, err = half, firstErr(halfErr, err)
			continue
		}
		at, rest = at+int64(len(half)), rest[len(half):]
		// Trying the second half tells whether it fails at all.
		if n, restErr := call(rest, at); !failed(n, len(rest), restErr) {
			at = offset + int64(done)
			break
		} else {
			err = firstErr(restErr, err)
		}
	}
	return &SectorError{Op: op, LBA: at / int64(size), SectorSize: size, Err: err}
}

func failed(n, want int, err error) bool {
	return n < want || (err != nil && !errors.Is(err, io.EOF))
}

func firstErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// readFull reads all of buf at offset, or gives a *SectorError.
func readFull(t Target, buf []byte, offset int64) error {
	n, err := t.ReadAt(buf, offset)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return sectorError(t, "read", buf, offset, n, err)
}

// writeFull writes all of buf at offset, or gives a *SectorError.
func writeFull(t Target, buf []byte, offset int64) error {
	n, err := t.WriteAt(buf, offset)
	if n == len(buf) && err == nil {
		return nil
	}
	if err == nil {
		err = io.ErrShortWrite
	}
	return sectorError(t, "write", buf, offset, n, err)
}
