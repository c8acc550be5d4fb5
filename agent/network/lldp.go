package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Neighbour is what a switch says of the port at the other end of a cable
// (IEEE 802.1AB-2016 clause 8). Texts are cut to 255 bytes and hold printable
// characters only.
type Neighbour struct {
	// Chassis and Port identify the switch and its port, as hardware
	// addresses, network addresses or names, whatever the switch sends.
	Chassis, Port                      string
	PortDescription, Name, Description string
	// VLAN is the port's own (untagged) VLAN; nil when not told.
	VLAN *uint16
	// Management address of the switch; empty when not told.
	Management string
	// TTL is how long this is good for; zero means that the switch takes
	// it back.
	TTL time.Duration
}

// The types of the pieces of a frame (table 8-1), and of those of IEEE 802.1
// (annex D).
const (
	tlvEnd, tlvChassis, tlvPort, tlvTTL             = 0, 1, 2, 3
	tlvPortDescription, tlvName, tlvDescription     = 4, 5, 6
	tlvManagement, tlvOrganization                  = 8, 127
	subtypeMACOfChassis, subtypeMACOfPort           = 4, 3
	subtypeAddressOfChassis, subtypeAddressOfPort   = 5, 4
	familyIPv4, familyIPv6                          = 1, 2
	oui8021, subtypePortVLAN, maxTLVs, maxTextBytes = "\x00\x80\xc2", 1, 256, 255
)

var errLLDP = errors.New("malformed LLDP frame")

// parseLLDP reads the payload of an LLDP frame: chassis, port and time to live
// in that order, then any others.
func parseLLDP(data []byte) (Neighbour, error) {
	var n Neighbour
	for count := 0; ; count++ {
		if len(data) < 2 || count == maxTLVs {
			return n, fmt.Errorf("%w: no end after %d pieces", errLLDP, count)
		}
		head := binary.BigEndian.Uint16(data)
		kind, size := int(head>>9), int(head&0x1ff)
		if len(data) < 2+size {
			return n, fmt.Errorf("%w: piece of %d bytes in %d", errLLDP, size, len(data)-2)
		}
		value := data[2 : 2+size]
		data = data[2+size:]
		if count < 3 && kind != count+1 {
			return n, fmt.Errorf("%w: piece %d has type %d", errLLDP, count+1, kind)
		}
		if kind == tlvEnd {
			return n, nil
		}
		if err := n.add(kind, value); err != nil {
			return n, err
		}
	}
}

func (n *Neighbour) add(kind int, v []byte) error {
	switch kind {
	case tlvChassis, tlvPort:
		if len(v) < 2 {
			return fmt.Errorf("%w: empty id", errLLDP)
		}
		if kind == tlvChassis {
			n.Chassis = idText(v, subtypeMACOfChassis, subtypeAddressOfChassis)
		} else {
			n.Port = idText(v, subtypeMACOfPort, subtypeAddressOfPort)
		}
	case tlvTTL:
		if len(v) < 2 {
			return fmt.Errorf("%w: short time to live", errLLDP)
		}
		n.TTL = time.Duration(binary.BigEndian.Uint16(v)) * time.Second
	case tlvPortDescription:
		n.PortDescription = text(v)
	case tlvName:
		n.Name = text(v)
	case tlvDescription:
		n.Description = text(v)
	case tlvManagement:
		// One byte of length, then family and address; the first one counts.
		if n.Management == "" && len(v) > 1 && int(v[0]) < len(v) {
			n.Management = address(v[1 : 1+int(v[0])])
		}
	case tlvOrganization:
		if len(v) == 6 && string(v[:3]) == oui8021 && v[3] == subtypePortVLAN {
			if vlan := binary.BigEndian.Uint16(v[4:]); vlan > 0 && vlan < 4095 {
				n.VLAN = &vlan
			}
		}
	}
	return nil
}

// idText shows an id by its subtype, which is the first byte.
func idText(v []byte, macSubtype, addressSubtype byte) string {
	switch {
	case v[0] == macSubtype && len(v) == 7:
		return net.HardwareAddr(v[1:]).String()
	case v[0] == addressSubtype:
		if a := address(v[1:]); a != "" {
			return a
		}
	}
	return text(v[1:])
}

// address reads a family number of IANA and an address.
func address(v []byte) string {
	if len(v) == 5 && v[0] == familyIPv4 || len(v) == 17 && v[0] == familyIPv6 {
		a, _ := netip.AddrFromSlice(v[1:])
		return a.String()
	}
	return ""
}

// text keeps what can be shown.
func text(v []byte) string {
	if len(v) > maxTextBytes {
		v = v[:maxTextBytes]
	}
	clean := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			if unicode.IsSpace(r) {
				return ' '
			}
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(v), ""))
	return strings.TrimSpace(clean)
}
