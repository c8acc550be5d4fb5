package boot

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/agent/host"
)

// Mode is the kind of firmware interface that the machine was started with.
type Mode string

// The modes. A machine in BIOS compatibility mode counts as BIOS.
const (
	BIOS Mode = "bios"
	UEFI Mode = "uefi"
)

// DetectMode says how the machine was started.
func DetectMode(h host.Host) Mode {
	if h.Exists("/sys/firmware/efi") {
		return UEFI
	}
	return BIOS
}

// Entered is the boot entry by which the firmware started this boot.
type Entered struct {
	// Number of the entry (BootCurrent).
	Number uint16
	// Description as the firmware or an installer wrote it, such as
	// "UEFI PXEv4 (MAC:525400123456)"; empty when the entry is gone.
	Description string
}

// ReadEntered reads BootCurrent. Firmware that sets none, and BIOS, give an
// error for which host.IsAbsent is true.
func ReadEntered(h host.Host) (Entered, error) {
	vars := variables{h}
	current, err := vars.readNumbers("BootCurrent")
	if err != nil {
		return Entered{}, fmt.Errorf("read the current boot entry: %w", err)
	}
	if len(current) != 1 {
		return Entered{}, fmt.Errorf("read the current boot entry: BootCurrent holds %d numbers", len(current))
	}
	e := Entered{Number: current[0]}
	if data, err := vars.read(entryName(e.Number)); err == nil {
		if o, err := ParseLoadOption(data); err == nil {
			e.Description = o.Description
		}
	}
	return e, nil
}

// SecureBoot says whether the firmware enforces signatures; false on BIOS.
func SecureBoot(h host.Host) bool {
	data, err := variables{h}.read("SecureBoot")
	return err == nil && len(data) == 1 && data[0] == 1
}

// isOurs says whether an entry was written by OrderDiskFirst.
func isOurs(description string) bool {
	return description == labelPrefix || strings.HasPrefix(description, labelPrefix+" ")
}
