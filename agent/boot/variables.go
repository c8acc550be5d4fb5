package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
)

const (
	varsDir = "/sys/firmware/efi/efivars"
	// globalGUID is EFI_GLOBAL_VARIABLE (UEFI 2.10 section 3.3).
	globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// attributes: non-volatile, and visible at boot and at run time.
	attributes = 7
	// immutable is FS_IMMUTABLE_FL (linux/fs.h).
	immutable = 0x10
)

// variables reads and writes the firmware's global variables through efivarfs:
// one file a variable, four bytes of attributes before the value
// (Documentation/filesystems/efivarfs.rst).
type variables struct{ host host.Host }

func (v variables) path(name string) string { return varsDir + "/" + name + "-" + globalGUID }

func (v variables) read(name string) ([]byte, error) {
	data, err := v.host.ReadFileMax(v.path(name), maxOption+4)
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("firmware variable %s has %d bytes, at least 4 are needed", name, len(data))
	}
	return data[4:], nil
}

// write sets a variable in the one write that efivarfs asks for, and reads it
// back.
func (v variables) write(name string, value []byte) error {
	if got, err := v.read(name); err == nil && string(got) == string(value) {
		return nil // the store is flash: spare it a write
	}
	path := v.host.Path(v.path(name))
	if err := clearImmutable(path); err != nil {
		return fmt.Errorf("write firmware variable %s: %w", name, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write firmware variable %s: %w", name, err)
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), value...))
	// efivarfs sets the length itself and ignores this; plain files need it.
	err = errors.Join(err, ignoreUnsupported(f.Truncate(int64(4+len(value)))), f.Close())
	if err != nil {
		return fmt.Errorf("write firmware variable %s: %w", name, explain(err))
	}
	got, err := v.read(name)
	if err != nil {
		return fmt.Errorf("read firmware variable %s back: %w", name, err)
	}
	if string(got) != string(value) {
		return fmt.Errorf("firmware variable %s reads back as %d other bytes than the %d written: the firmware did not keep it", name, len(got), len(value))
	}
	return nil
}

func (v variables) remove(name string) error {
	path := v.host.Path(v.path(name))
	if err := clearImmutable(path); err != nil {
		return fmt.Errorf("remove firmware variable %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove firmware variable %s: %w", name, err)
	}
	return nil
}

// readNumbers reads a variable that is a list of 16-bit numbers.
func (v variables) readNumbers(name string) ([]uint16, error) {
	data, err := v.read(name)
	if err != nil {
		return nil, err
	}
	if len(data)%2 != 0 {
		return nil, fmt.Errorf("firmware variable %s has %d bytes, an odd number", name, len(data))
	}
	var out []uint16
	for i := 0; i < len(data); i += 2 {
		out = append(out, binary.LittleEndian.Uint16(data[i:]))
	}
	return out, nil
}

func (v variables) writeNumbers(name string, numbers []uint16) error {
	var data []byte
	for _, n := range numbers {
		data = binary.LittleEndian.AppendUint16(data, n)
	}
	return v.write(name, data)
}

// entries returns all boot entries that can be read, by number.
func (v variables) entries() (map[uint16]LoadOption, map[uint16]bool, error) {
	names, err := v.host.ReadDir(varsDir)
	if err != nil {
		return nil, nil, fmt.Errorf("list firmware variables: %w", err)
	}
	good, taken := map[uint16]LoadOption{}, map[uint16]bool{}
	for _, name := range names {
		number, ok := entryNumber(name)
		if !ok {
			continue
		}
		taken[number] = true
		if data, err := v.read(entryName(number)); err == nil {
			if o, err := ParseLoadOption(data); err == nil {
				good[number] = o
			}
		}
	}
	return good, taken, nil
}

func entryName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// entryNumber reads the number from a file name such as Boot001F-GUID.
func entryNumber(file string) (uint16, bool) {
	digits, ok := strings.CutSuffix(file, "-"+globalGUID)
	digits, isBoot := strings.CutPrefix(digits, "Boot")
	if !ok || !isBoot || len(digits) != 4 || strings.ToUpper(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 16)
	return uint16(n), err == nil
}

// clearImmutable takes away the flag by which efivarfs protects variables from
// rm -rf. A file that is not there, or on a filesystem without flags, is fine.
func clearImmutable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return ignoreUnsupported(err)
	}
	if flags&immutable == 0 {
		return nil
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^immutable))
}

func ignoreUnsupported(err error) error {
	for _, e := range []error{unix.ENOTTY, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// explain adds what a person can do to errors that firmware gives.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("the firmware's variable store is full: reset it in the setup menu: %w", err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("the firmware's variables are read-only: %w", err)
	}
	return err
}
