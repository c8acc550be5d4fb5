package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"
)

// LoadOption is the content of a Boot#### variable (UEFI 2.10 section 3.1.3).
type LoadOption struct {
	// Active says that the boot manager may start it by itself.
	Active bool
	// Description is what a person sees in the boot menu.
	Description string
	// DevicePath in its binary form, with the end node.
	DevicePath []byte
	// Optional data is handed to the loader.
	Optional []byte
}

const (
	optionActive = 1
	// maxOption bounds a Boot#### variable, in bytes.
	maxOption = 32 << 10
)

// Marshal returns the binary form. Characters outside Unicode's basic plane in
// the description become surrogate pairs.
func (o LoadOption) Marshal() ([]byte, error) {
	if strings.ContainsRune(o.Description, 0) || len(o.DevicePath) > 0xffff {
		return nil, fmt.Errorf("boot entry %q: description holds a zero or device path is too long", o.Description)
	}
	var attributes uint32
	if o.Active {
		attributes = optionActive
	}
	out := binary.LittleEndian.AppendUint32(nil, attributes)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(o.DevicePath)))
	out = appendUTF16(out, o.Description)
	out = append(out, o.DevicePath...)
	out = append(out, o.Optional...)
	if len(out) > maxOption {
		return nil, fmt.Errorf("boot entry %q has %d bytes, more than %d", o.Description, len(out), maxOption)
	}
	return out, nil
}

var errOption = errors.New("malformed boot entry")

// ParseLoadOption reads the binary form. The device path is taken as it is.
func ParseLoadOption(data []byte) (LoadOption, error) {
	if len(data) < 8 || len(data) > maxOption {
		return LoadOption{}, fmt.Errorf("%w: %d bytes", errOption, len(data))
	}
	attributes := binary.LittleEndian.Uint32(data)
	pathLen := int(binary.LittleEndian.Uint16(data[4:]))
	description, rest, found := cutUTF16(data[6:])
	if !found {
		return LoadOption{}, fmt.Errorf("%w: description has no end", errOption)
	}
	if pathLen > len(rest) {
		return LoadOption{}, fmt.Errorf("%w: device path of %d bytes in %d", errOption, pathLen, len(rest))
	}
	return LoadOption{
		Active: attributes&optionActive != 0, Description: description,
		DevicePath: rest[:pathLen], Optional: rest[pathLen:],
	}, nil
}

// Partition is a GPT partition as a hard drive device path names it.
type Partition struct {
	// GUID of the partition (not of its type), in its usual text form.
	GUID string
	// Number counts from 1.
	Number uint32
	// StartLBA and SizeLBA are in the disk's own logical sectors.
	StartLBA, SizeLBA uint64
}

// devicePath returns the short form HD(…)/File(…) (UEFI 2.10 sections 3.1.2,
// 10.3.5.1 and 10.3.5.4): the firmware finds the disk by the partition's GUID,
// wherever it is plugged in. file uses slashes.
func devicePath(p Partition, file string) ([]byte, error) {
	guid, err := uuid.Parse(p.GUID)
	if err != nil || len(p.GUID) != 36 {
		return nil, fmt.Errorf("partition GUID %.40q is malformed", p.GUID)
	}
	if p.Number == 0 || p.StartLBA == 0 || p.SizeLBA == 0 {
		return nil, fmt.Errorf("partition %s lacks its number, start or size", p.GUID)
	}
	if !strings.HasPrefix(file, "/") || strings.ContainsAny(file, "\\\x00") || len(file) > 512 {
		return nil, fmt.Errorf("loader path %.80q is not an absolute path with slashes", file)
	}
	hd := binary.LittleEndian.AppendUint32(nil, p.Number)
	hd = binary.LittleEndian.AppendUint64(hd, p.StartLBA)
	hd = binary.LittleEndian.AppendUint64(hd, p.SizeLBA)
	hd = append(hd, mixedEndian(guid)...)
	hd = append(hd, 2, 2) // GPT, and the signature is a GUID
	const media, hardDrive, filePath, end, entire = 4, 1, 4, 0x7f, 0xff
	out := appendNode(nil, media, hardDrive, hd)
	out = appendNode(out, media, filePath, appendUTF16(nil, strings.ReplaceAll(file, "/", `\`)))
	return appendNode(out, end, entire, nil), nil
}

func appendNode(out []byte, kind, subkind byte, body []byte) []byte {
	out = append(out, kind, subkind)
	out = binary.LittleEndian.AppendUint16(out, uint16(4+len(body)))
	return append(out, body...)
}

// mixedEndian is the form of a GUID in firmware: its first three fields are
// little-endian (UEFI 2.10 appendix A).
func mixedEndian(g uuid.UUID) []byte {
	return []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

func appendUTF16(out []byte, s string) []byte {
	for _, unit := range append(utf16.Encode([]rune(s)), 0) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return out
}

// cutUTF16 reads a string up to its zero.
func cutUTF16(data []byte) (s string, rest []byte, found bool) {
	var units []uint16
	for i := 0; i+1 < len(data); i += 2 {
		unit := binary.LittleEndian.Uint16(data[i:])
		if unit == 0 {
			return string(utf16.Decode(units)), data[i+2:], true
		}
		units = append(units, unit)
	}
	return "", nil, false
}
