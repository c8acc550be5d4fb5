package nvram

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a boot option boots from.
type Kind string

// The kinds, told by the nodes of the device path (UEFI, chapter 10).
const (
	PXE4  Kind = "pxe4"  // MAC, IPv4
	PXE6  Kind = "pxe6"  // MAC, IPv6
	HTTP4 Kind = "http4" // MAC, IPv4, URI
	HTTP6 Kind = "http6"
	Disk  Kind = "disk" // a file on a disk, or a whole disk
	App   Kind = "app"  // in the firmware's own volume: setup, shell
)

// Option is one Boot#### variable.
type Option struct {
	Number      uint16
	Description string
	Active      bool
	Kind        Kind
	MAC         net.HardwareAddr // of network options
}

// Options returns the boot options in BootOrder's order, those that it does
// not name last.
func (s *Store) Options() []Option {
	order := s.Order()
	var out []Option
	for _, v := range s.Variables() {
		hex, ok := strings.CutPrefix(v.Name, "Boot")
		if !ok || len(hex) != 4 || v.GUID != Global {
			continue
		}
		n, err := strconv.ParseUint(hex, 16, 16)
		if err != nil {
			continue
		}
		if o, ok := parseOption(v.Data); ok {
			o.Number = uint16(n)
			out = append(out, o)
		}
	}
	rank := func(o Option) int {
		if i := slices.Index(order, o.Number); i >= 0 {
			return i
		}
		return len(order) + int(o.Number)
	}
	slices.SortStableFunc(out, func(a, b Option) int { return rank(a) - rank(b) })
	return out
}

// Order returns BootOrder.
func (s *Store) Order() []uint16 {
	data, _ := s.Get("BootOrder")
	var out []uint16
	for ; len(data) >= 2; data = data[2:] {
		out = append(out, le.Uint16(data))
	}
	return out
}

// SetOrder writes BootOrder.
func (s *Store) SetOrder(order []uint16) error {
	var b []byte
	for _, n := range order {
		b = le.AppendUint16(b, n)
	}
	return s.Set("BootOrder", b)
}

// SetNext writes BootNext: the firmware boots this option once and deletes
// the variable before it does (UEFI, section 3.3).
func (s *Store) SetNext(n uint16) error {
	return s.Set("BootNext", le.AppendUint16(nil, n))
}

// Find returns the options of a kind, of the given MAC if it is not nil.
func Find(options []Option, kind Kind, mac net.HardwareAddr) []Option {
	var out []Option
	for _, o := range options {
		if o.Kind == kind && (mac == nil || bytes.Equal(o.MAC, mac)) {
			out = append(out, o)
		}
	}
	return out
}

// parseOption reads an EFI_LOAD_OPTION (UEFI, section 3.1.3).
func parseOption(b []byte) (Option, bool) {
	if len(b) < 8 {
		return Option{}, false
	}
	o := Option{Active: le.Uint32(b)&1 != 0}
	pathLen := int(le.Uint16(b[4:]))
	o.Description = decode(b[6:])
	end := 6
	for ; end+2 <= len(b) && le.Uint16(b[end:]) != 0; end += 2 {
	}
	end += 2
	if end > len(b) || pathLen > len(b)-end {
		return Option{}, false
	}
	o.Kind, o.MAC = classify(b[end : end+pathLen])
	return o, true
}

// classify walks the nodes of a device path.
func classify(path []byte) (kind Kind, mac net.HardwareAddr) {
	var v4, v6, uri bool
	kind = Disk
	for len(path) >= 4 {
		n := int(le.Uint16(path[2:]))
		if n < 4 || n > len(path) || path[0] == 0x7f {
			break
		}
		switch [2]byte{path[0], path[1]} {
		case [2]byte{3, 11}: // MAC
			if n >= 10 {
				mac = bytes.Clone(path[4:10])
			}
		case [2]byte{3, 12}:
			v4 = true
		case [2]byte{3, 13}:
			v6 = true
		case [2]byte{3, 24}:
			uri = true
		case [2]byte{4, 6}, [2]byte{4, 7}: // file in, or, a firmware volume
			kind = App
		}
		path = path[n:]
	}
	switch {
	case mac == nil:
		return kind, nil
	case uri && v6:
		return HTTP6, mac
	case uri:
		return HTTP4, mac
	case v6:
		return PXE6, mac
	case v4:
		return PXE4, mac
	}
	return kind, mac
}

// String is for logs: "Boot0003 pxe4 UEFI PXEv4 (MAC:...)".
func (o Option) String() string {
	return fmt.Sprintf("Boot%04X %s %s", o.Number, o.Kind, o.Description)
}
