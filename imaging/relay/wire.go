package relay

import (
	"encoding/binary"
	"errors"
	"time"
)

// recordBytes is the length of a record without what follows it.
const recordBytes = 16

// Kinds of records, and the reasons of an end.
const (
	kindFrame byte = 'F'
	kindWait  byte = 'W'
	kindEnd   byte = 'E'

	endGone    byte = 'G'
	endLate    byte = 'L'
	endLeaving byte = 'B'
)

// waitEvery is how often a peer that waits is told that this machine lives.
const waitEvery = 300 * time.Millisecond

// record is what stands before a frame, or in place of one.
type record struct {
	kind, reason byte
	frame        int
	position     uint64 // of the one who serves, see State
}

func (r record) append(to []byte) []byte {
	to = append(to, r.kind, r.reason, 0, 0)
	to = binary.BigEndian.AppendUint32(to, uint32(r.frame))
	return binary.BigEndian.AppendUint64(to, r.position)
}

var errRecord = errors.New("not a record of a relay")

// parseRecord reads the first recordBytes of b. It takes no record of a frame
// other than the one that is due.
func parseRecord(b []byte, due int) (record, error) {
	if len(b) < recordBytes || b[2] != 0 || b[3] != 0 {
		return record{}, errRecord
	}
	r := record{kind: b[0], reason: b[1], frame: int(binary.BigEndian.Uint32(b[4:])), position: binary.BigEndian.Uint64(b[8:])}
	switch {
	case r.frame != due:
		return record{}, errRecord
	case (r.kind == kindFrame || r.kind == kindWait) && r.reason == 0:
		return r, nil
	case r.kind == kindEnd && (r.reason == endGone || r.reason == endLate || r.reason == endLeaving):
		return r, nil
	}
	return record{}, errRecord
}
