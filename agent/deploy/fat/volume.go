package fat

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// volume is a filesystem that is being filled.
type volume struct {
	layout
	bytes   []byte
	next    int // first free cluster; clusters count from 2
	entries int // of the root directory in use
}

const (
	attrLabel   = 0x08
	attrArchive = 0x20
	attrLong    = 0x0f
	longChars   = 13 // a long-name entry
)

func (v *volume) fat(n int) []byte {
	size := v.fatSectors * v.sectorSize
	start := reserved*v.sectorSize + n*size
	return v.bytes[start : start+size]
}

func (v *volume) cluster(n int) []byte {
	start := (reserved+fats*v.fatSectors+v.rootSectors)*v.sectorSize + (n-2)*v.clusterBytes()
	return v.bytes[start : start+v.clusterBytes()]
}

// setFAT writes one entry of the first FAT; value is cut to 12 bits in FAT12,
// where entries share bytes (section "FAT Data Structure").
func (v *volume) setFAT(n int, value uint16) {
	f := v.fat(0)
	if v.fat16 {
		binary.LittleEndian.PutUint16(f[2*n:], value)
		return
	}
	at := n + n/2
	if n%2 == 0 {
		f[at] = byte(value)
		f[at+1] = f[at+1]&0xf0 | byte(value>>8)&0x0f
	} else {
		f[at] = f[at]&0x0f | byte(value<<4)
		f[at+1] = byte(value >> 4)
	}
}

// entry gives the next free directory entry.
func (v *volume) entry() ([]byte, error) {
	if v.entries == rootEntries {
		return nil, fmt.Errorf("root directory is full: %w", ErrNoRoom)
	}
	start := (reserved+fats*v.fatSectors)*v.sectorSize + v.entries*entryBytes
	v.entries++
	return v.bytes[start : start+entryBytes], nil
}

func (v *volume) addLabel(o Options) error {
	if o.Label == "" || len(o.Label) > 11 || strings.Trim(o.Label, labelChars) != "" {
		return fmt.Errorf("label %q is not 1 to 11 letters, digits, - or _", o.Label)
	}
	e, err := v.entry()
	if err != nil {
		return err
	}
	copy(e, padded(o.Label, 11))
	e[11] = attrLabel
	stamp(e, o.Time)
	return nil
}

const labelChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// addFile puts data and directory entries of one file; number makes its short
// name unique.
func (v *volume) addFile(f File, number int, at time.Time) error {
	if f.Name == "" || len(f.Name) > 255 || strings.Trim(f.Name, labelChars+".") != "" || strings.Trim(f.Name, ".") == "" {
		return fmt.Errorf("name is not 1 to 255 letters, digits, . - or _")
	}
	first, err := v.store(f.Data)
	if err != nil {
		return err
	}
	short := shortName(f.Name, number)
	if err := v.longEntries(f.Name, short); err != nil {
		return err
	}
	e, err := v.entry()
	if err != nil {
		return err
	}
	copy(e, short)
	e[11] = attrArchive
	stamp(e, at)
	binary.LittleEndian.PutUint16(e[26:], uint16(first))
	binary.LittleEndian.PutUint32(e[28:], uint32(len(f.Data)))
	return nil
}

// store writes data into a run of clusters and gives the first, 0 for no data.
func (v *volume) store(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	count := (len(data)-1)/v.clusterBytes() + 1
	if count > v.clusters+2-v.next {
		return 0, fmt.Errorf("%d bytes: %w", len(data), ErrNoRoom)
	}
	first := v.next
	for i := range count {
		n := first + i
		copy(v.cluster(n), data[i*v.clusterBytes():])
		v.setFAT(n, uint16(n+1))
	}
	v.next += count
	v.setFAT(v.next-1, 0xffff)
	return first, nil
}

// longEntries writes the VFAT entries, last part first (fatgen103, "Long
// Directory Entries").
func (v *volume) longEntries(name, short string) error {
	units := utf16.Encode([]rune(name))
	parts := (len(units)-1)/longChars + 1
	for part := parts; part >= 1; part-- {
		e, err := v.entry()
		if err != nil {
			return err
		}
		e[0] = byte(part)
		if part == parts {
			e[0] |= 0x40
		}
		e[11] = attrLong
		e[13] = checksum(short)
		for i := range longChars {
			unit := uint16(0xffff) // filler behind the end
			switch at := (part-1)*longChars + i; {
			case at < len(units):
				unit = units[at]
			case at == len(units):
				unit = 0
			}
			binary.LittleEndian.PutUint16(e[longPlace(i):], unit)
		}
	}
	return nil
}

// longPlace is where character i of a long-name entry stands.
func longPlace(i int) int {
	switch {
	case i < 5:
		return 1 + 2*i
	case i < 11:
		return 14 + 2*(i-5)
	}
	return 28 + 2*(i-11)
}

// shortName makes the 8.3 name that only tools without VFAT show: up to five
// characters of the name and the number.
func shortName(name string, number int) string {
	base := strings.Map(func(r rune) rune {
		if r == '.' {
			return -1
		}
		return r
	}, strings.ToUpper(name))
	tail := fmt.Sprintf("~%d", number)
	return padded(base[:min(len(base), 8-len(tail))]+tail, 11)
}

// checksum binds long entries to their short name.
func checksum(short string) byte {
	var sum byte
	for i := range 11 {
		sum = sum>>1 | sum<<7
		sum += short[i]
	}
	return sum
}

// stamp writes creation, access and modification time; FAT begins in 1980 and
// ends in 2107.
func stamp(e []byte, at time.Time) {
	at = at.UTC()
	if at.Year() < 1980 || at.Year() > 2107 {
		at = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	date := uint16((at.Year()-1980)<<9 | int(at.Month())<<5 | at.Day())
	clock := uint16(at.Hour()<<11 | at.Minute()<<5 | at.Second()/2)
	le := binary.LittleEndian
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], date)
	if e[11] != attrLabel {
		le.PutUint16(e[14:], clock)
		le.PutUint16(e[16:], date)
		le.PutUint16(e[18:], date)
	}
}
