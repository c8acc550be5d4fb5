// Package nvram reads and edits the variable store of OVMF while its machine
// is off: the file that QEMU gives it as flash. A BMC's one-time boot override
// becomes a real BootNext variable that way, and leaves BootOrder, which the
// installed system owns, as it was.
//
// Layout (edk2, MdeModulePkg/Include/Guid/VariableFormat.h; PI specification,
// volume 3, section 3.2): a firmware volume header, a variable store header,
// then authenticated variables, each aligned to 4 bytes, up to the first that
// does not begin with 0x55AA. Changing a variable clears a bit of the old
// one's state and appends a new one, as flash demands.
package nvram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf16"
)

var le = binary.LittleEndian

// GUIDs in their byte order on flash.
var (
	// Global is EFI_GLOBAL_VARIABLE 8BE4DF61-93CA-11D2-AA0D-00E098032B8C.
	Global = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

	volumeGUID = []byte{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50}
	storeGUID  = []byte{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}
)

// Attributes of variables (UEFI, section 8.2).
const (
	NonVolatile    = 1
	BootService    = 2
	Runtime        = 4
	BootAttributes = NonVolatile | BootService | Runtime
)

const (
	storeHeader  = 28
	headerSize   = 60
	startID      = 0x55aa
	stateAdded   = 0x3f
	stateMoving  = 0x3e // being replaced; counts unless its successor was added
	bitDeleted   = 0xfd
	maxStoreFile = 64 << 20
)

// Variable is one valid variable of the store.
type Variable struct {
	Name       string
	GUID       [16]byte
	Attributes uint32
	Data       []byte

	at, end int // of header and data's end, in the file
	state   byte
}

// Store is a variable store in memory.
type Store struct {
	path       string
	raw        []byte
	begin, end int // of the variables
}

// Open reads the store at path.
func Open(path string) (*Store, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open variable store: %w", err)
	}
	if st.Size() > maxStoreFile {
		return nil, fmt.Errorf("open variable store %s: %d bytes are too many", path, st.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open variable store: %w", err)
	}
	s, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("read variable store %s: %w", path, err)
	}
	s.path = path
	return s, nil
}

func parse(raw []byte) (*Store, error) {
	if len(raw) < 72 || !bytes.Equal(raw[16:32], volumeGUID) || string(raw[40:44]) != "_FVH" {
		return nil, errors.New("no NV data firmware volume at its start")
	}
	h := int(le.Uint16(raw[48:]))
	if h < 56 || h+storeHeader > len(raw) || !bytes.Equal(raw[h:h+16], storeGUID) {
		return nil, errors.New("no authenticated variable store in the firmware volume")
	}
	size := int(le.Uint32(raw[h+16:]))
	if size < storeHeader || size > len(raw)-h {
		return nil, fmt.Errorf("variable store of %d bytes does not fit the file", size)
	}
	return &Store{raw: raw, begin: h + storeHeader, end: h + size}, nil
}

// walk calls f for each variable, valid or not, and returns where free space
// begins.
func (s *Store) walk(f func(Variable)) int {
	at := s.begin
	for at+headerSize <= s.end && le.Uint16(s.raw[at:]) == startID {
		name, data := int(le.Uint32(s.raw[at+36:])), int(le.Uint32(s.raw[at+40:]))
		room := s.end - at - headerSize
		if name < 0 || data < 0 || name > room || data > room-name {
			break // damaged; what follows is lost to the firmware too
		}
		p := at + headerSize
		v := Variable{
			Name: decode(s.raw[p : p+name]), Attributes: le.Uint32(s.raw[at+4:]),
			Data: bytes.Clone(s.raw[p+name : p+name+data]), at: at, end: p + name + data, state: s.raw[at+2],
		}
		copy(v.GUID[:], s.raw[at+44:])
		f(v)
		at = (v.end + 3) &^ 3
	}
	return min(at, s.end)
}

// Variables returns the valid ones in their order on flash.
func (s *Store) Variables() []Variable {
	var out []Variable
	added := map[string]bool{}
	s.walk(func(v Variable) {
		if v.state == stateAdded {
			added[string(v.GUID[:])+v.Name] = true
		}
	})
	s.walk(func(v Variable) {
		if v.state == stateAdded || v.state == stateMoving && !added[string(v.GUID[:])+v.Name] {
			out = append(out, v)
		}
	})
	return out
}

// Get returns a global variable's data.
func (s *Store) Get(name string) ([]byte, bool) {
	for _, v := range s.Variables() {
		if v.Name == name && v.GUID == Global {
			return v.Data, true
		}
	}
	return nil, false
}

// Delete removes a global variable; one that is not there is no error.
func (s *Store) Delete(name string) {
	s.walk(func(v Variable) {
		if v.Name == name && v.GUID == Global {
			s.raw[v.at+2] &= bitDeleted
		}
	})
}

// Set replaces or adds a global variable with BootAttributes.
func (s *Store) Set(name string, data []byte) error {
	s.Delete(name)
	free := s.walk(func(Variable) {})
	b := encode(name, data)
	if free+len(b) > s.end {
		s.compact()
		free = s.walk(func(Variable) {})
	}
	if free+len(b) > s.end {
		return fmt.Errorf("set %s: the variable store is full", name)
	}
	copy(s.raw[free:], b)
	return nil
}

// compact does what the firmware's reclaim does: only valid variables stay.
func (s *Store) compact() {
	var keep []byte
	for _, v := range s.Variables() {
		for len(keep)%4 != 0 {
			keep = append(keep, 0xff)
		}
		b := bytes.Clone(s.raw[v.at:v.end])
		b[2] = stateAdded
		keep = append(keep, b...)
	}
	rest := s.raw[s.begin:s.end]
	for i := copy(rest, keep); i < len(rest); i++ {
		rest[i] = 0xff
	}
}

// Save replaces the file as a whole.
func (s *Store) Save() error {
	tmp := filepath.Join(filepath.Dir(s.path), "."+filepath.Base(s.path)+".new")
	if err := os.WriteFile(tmp, s.raw, 0o600); err != nil {
		return fmt.Errorf("save variable store: %w", err)
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return fmt.Errorf("save variable store: %w", err)
	}
	return nil
}

// encode makes an authenticated variable with an empty time stamp.
func encode(name string, data []byte) []byte {
	n := append(utf16.Encode([]rune(name)), 0)
	b := make([]byte, headerSize, headerSize+2*len(n)+len(data))
	le.PutUint16(b, startID)
	b[2] = stateAdded
	le.PutUint32(b[4:], BootAttributes)
	le.PutUint32(b[36:], uint32(2*len(n)))
	le.PutUint32(b[40:], uint32(len(data)))
	copy(b[44:], Global[:])
	for _, u := range n {
		b = le.AppendUint16(b, u)
	}
	return append(b, data...)
}

// decode reads UTF-16 up to its NUL.
func decode(b []byte) string {
	var u []uint16
	for ; len(b) >= 2 && le.Uint16(b) != 0; b = b[2:] {
		u = append(u, le.Uint16(b))
	}
	return string(utf16.Decode(u))
}
