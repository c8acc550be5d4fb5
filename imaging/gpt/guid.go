package gpt

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// GUID in the byte order of the disk: the first three groups little-endian
// (UEFI 2.10, appendix A).
type GUID [16]byte

// Partition types that this package looks for. Roots by architecture come from
// the Discoverable Partitions Specification.
var (
	TypeESP       = MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	TypeBIOSBoot  = MustGUID("21686148-6449-6e6f-744e-656564454649")
	TypeLinuxData = MustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
	TypeBasicData = MustGUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
	TypeRootAMD64 = MustGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	TypeRootARM64 = MustGUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
	TypeRootRISCV = MustGUID("72ec70a6-cf74-40e6-bd49-4bda08e8f224")
	TypeRootPPC64 = MustGUID("c31c45e6-3f39-412e-80fb-4809c4980599")
	TypeRootS390X = MustGUID("5eead9a9-fe09-4a1e-a1d7-520d00531306")
)

// indexes of the bytes of a GUID in the order in which text shows them
var guidTextOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// String gives the usual form in lower case, 8-4-4-4-12 hexadecimal digits.
func (g GUID) String() string {
	var b [16]byte
	for i, from := range guidTextOrder {
		b[i] = g[from]
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// IsZero tells whether g is all zero, which as a type means "no partition".
func (g GUID) IsZero() bool { return g == GUID{} }

// ParseGUID reads the form that String writes, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	digits := strings.ReplaceAll(s, "-", "")
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 || len(s) != 36 {
		return g, errors.Join(fmt.Errorf("%.60q is no GUID", s), err)
	}
	for i, to := range guidTextOrder {
		g[to] = b[i]
	}
	return g, nil
}

// MustGUID is ParseGUID for constants; it panics on a programmer's mistake.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// NewGUID gives a random GUID (RFC 9562, version 4).
func NewGUID() GUID {
	var g GUID
	rand.Read(g[:]) // never fails since Go 1.24
	g[7] = g[7]&0x0f | 0x40
	g[8] = g[8]&0x3f | 0x80
	return g
}
