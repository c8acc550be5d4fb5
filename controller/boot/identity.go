package boot

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/google/uuid"
)

// ParseMAC reads a hardware address of a NIC that can boot: 6 octets, or 8 or
// 20 for InfiniBand; not a multicast address and not all zeros.
func ParseMAC(s string) (net.HardwareAddr, error) {
	if len(s) > 64 {
		return nil, errors.New("hardware address is too long")
	}
	mac, err := net.ParseMAC(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a hardware address", s)
	}
	sum := byte(0)
	for _, b := range mac {
		sum |= b
	}
	if sum == 0 || len(mac) == 6 && mac[0]&1 == 1 {
		return nil, fmt.Errorf("%s is not the address of one NIC", mac)
	}
	return mac, nil
}

// CanonicalUUID turns a SMBIOS UUID in text form into lower case. Values that
// name no machine (all zeros, all ones, empty) give "".
func CanonicalUUID(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if len(s) != 36 {
		return "", fmt.Errorf("%.40q is not a UUID", s)
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return "", fmt.Errorf("%.40q is not a UUID", s)
	}
	return usable(u), nil
}

// UUIDFromOption reads DHCP option 97 (RFC 4578 section 2.3): a type byte 0 and
// 16 bytes whose first three fields are little-endian, as SMBIOS keeps them.
// The answer is the big-endian text that iPXE and Linux print; "" when the
// option is malformed or names no machine.
func UUIDFromOption(b []byte) string {
	if len(b) != 17 || b[0] != 0 {
		return ""
	}
	g := b[1:]
	u := uuid.UUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6]}
	copy(u[8:], g[8:])
	return usable(u)
}

func usable(u uuid.UUID) string {
	s := strings.ToLower(u.String())
	if u == uuid.Nil || strings.Trim(s, "f-") == "" {
		return ""
	}
	return s
}
