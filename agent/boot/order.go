package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-metal/ingot/agent/host"
)

// labelPrefix starts the description of every entry that we write, so that later
// deploys find and remove it.
const labelPrefix = "Ingot"

// ErrNotUEFI means that the machine was started by BIOS, which has no boot order
// that an operating system could write.
var ErrNotUEFI = errors.New("machine was not started by UEFI")

// Evidence is what was read back from the firmware after a change of its boot
// order.
type Evidence struct {
	// Entry that starts the disk, such as Boot0003, and its description.
	Entry, Description string
	// Partition and Loader that it names.
	Partition Partition
	Loader    string
	// Order is BootOrder as read back; the entry stands first.
	Order []string
	// Removed are older entries of ours.
	Removed []string
	// Next is the entry of a one-time override (BootNext) that goes before the
	// order at the next boot; empty when there is none.
	Next string
}

// OrderDiskFirst makes the firmware start loader (an absolute path with slashes,
// such as /EFI/debian/shimx64.efi) from the EFI system partition at every
// boot. label, such as the image's name, becomes part of the entry's
// description. Other systems' entries keep their places behind it; our older
// ones are removed. An entry that says the same already is used again, so that
// the call may be repeated. The file itself is not looked at.
//
// All is read back: without an error, Evidence is what the firmware holds now.
// On BIOS the error wraps ErrNotUEFI.
func OrderDiskFirst(ctx context.Context, h host.Host, esp Partition, loader, label string) (Evidence, error) {
	if err := ctx.Err(); err != nil {
		return Evidence{}, fmt.Errorf("set boot order: %w", err)
	}
	if DetectMode(h) != UEFI {
		return Evidence{}, fmt.Errorf("set boot order: %w", ErrNotUEFI)
	}
	path, err := devicePath(esp, loader)
	if err != nil {
		return Evidence{}, fmt.Errorf("set boot order: %w", err)
	}
	wanted := LoadOption{Active: true, Description: describe(label), DevicePath: path}
	e := Evidence{Description: wanted.Description, Partition: esp, Loader: loader}
	if err := orderFirst(variables{h}, wanted, &e); err != nil {
		return Evidence{}, fmt.Errorf("set boot order: %w", err)
	}
	return e, nil
}

func describe(label string) string {
	const most = 64
	if r := []rune(label); len(r) > most {
		label = string(r[:most])
	}
	if label == "" {
		return labelPrefix
	}
	return labelPrefix + " " + label
}

func orderFirst(vars variables, wanted LoadOption, e *Evidence) error {
	data, err := wanted.Marshal()
	if err != nil {
		return err
	}
	entries, taken, err := vars.entries()
	if err != nil {
		return err
	}
	number, old, err := place(entries, taken, data)
	if err != nil {
		return err
	}
	e.Entry = entryName(number)
	if err := vars.write(e.Entry, data); err != nil {
		return err
	}
	order, err := vars.readNumbers("BootOrder")
	if err != nil && !host.IsAbsent(err) {
		return fmt.Errorf("read BootOrder: %w", err)
	}
	if err := vars.writeNumbers("BootOrder", reorder(order, number, old)); err != nil {
		return err
	}
	// Only now, so that the machine has a way to boot at every moment.
	for _, n := range old {
		if err := vars.remove(entryName(n)); err != nil {
			return err
		}
		e.Removed = append(e.Removed, entryName(n))
	}
	return readBack(vars, number, data, e)
}

// place chooses the number of the entry with that content, and lists those older
// ones of ours that are to go.
func place(entries map[uint16]LoadOption, taken map[uint16]bool, data []byte) (number uint16, old []uint16, err error) {
	found := false
	for n, o := range entries {
		if !isOurs(o.Description) {
			continue
		}
		same, err := o.Marshal()
		if err == nil && !found && string(same) == string(data) {
			number, found = n, true
			continue
		}
		old = append(old, n)
	}
	slices.Sort(old)
	if found {
		return number, old, nil
	}
	for n := range 0x10000 {
		if !taken[uint16(n)] {
			return uint16(n), old, nil
		}
	}
	return 0, nil, errors.New("all 65536 boot entries are taken")
}

// reorder puts first at the front and drops the removed and repeated numbers.
func reorder(order []uint16, first uint16, removed []uint16) []uint16 {
	out := []uint16{first}
	for _, n := range order {
		if !slices.Contains(out, n) && !slices.Contains(removed, n) {
			out = append(out, n)
		}
	}
	return out
}

func readBack(vars variables, number uint16, data []byte, e *Evidence) error {
	got, err := vars.read(entryName(number))
	if err != nil || string(got) != string(data) {
		return errors.Join(fmt.Errorf("entry %s did not stay as written", entryName(number)), err)
	}
	order, err := vars.readNumbers("BootOrder")
	if err != nil || len(order) == 0 || order[0] != number {
		return errors.Join(fmt.Errorf("BootOrder did not stay as written: %s is not first", entryName(number)), err)
	}
	for _, n := range order {
		e.Order = append(e.Order, entryName(n))
	}
	if next, err := vars.readNumbers("BootNext"); err == nil && len(next) == 1 {
		e.Next = entryName(next[0])
	}
	return nil
}
