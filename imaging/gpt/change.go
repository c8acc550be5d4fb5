package gpt

import (
	"fmt"
	"slices"
	"unicode/utf16"
)

const alignBytes = 1 << 20 // partitions start on MiB boundaries

// Relocate makes the table one for a disk of diskBytes: the backup goes into
// its last sector. ErrNoRoom when a partition would not fit any more.
func (t *Table) Relocate(diskBytes int64) error {
	sectors := uint64(max(diskBytes, 0)) / uint64(t.SectorSize)
	need := t.FirstUsableLBA + t.entrySectors() + 2
	if sectors < need {
		return fmt.Errorf("move backup of partition table: disk of %d bytes: %w", diskBytes, ErrNoRoom)
	}
	lastUsable := sectors - 1 - t.entrySectors() - 1
	if last, ok := t.Last(); ok && last.LastLBA > lastUsable {
		return fmt.Errorf("move backup of partition table: partition %d ends at LBA %d, the disk can use up to %d: %w",
			last.Number, last.LastLBA, lastUsable, ErrNoRoom)
	}
	t.DiskSectors, t.BackupLBA, t.LastUsableLBA = sectors, sectors-1, lastUsable
	return nil
}

// Delete removes every partition of that name and tells whether there was one.
// The bytes of the partition stay.
func (t *Table) Delete(name string) bool {
	before := len(t.Partitions)
	t.Partitions = slices.DeleteFunc(t.Partitions, func(p Partition) bool { return p.Name == name })
	return len(t.Partitions) < before
}

// Grow extends partition number to lastLBA. ErrNoRoom when that is beyond the
// usable range or inside another partition, or would shrink it.
func (t *Table) Grow(number int, lastLBA uint64) error {
	i := slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.Number == number })
	if i < 0 {
		return fmt.Errorf("grow partition %d: no such partition", number)
	}
	grown := t.Partitions[i]
	if lastLBA < grown.LastLBA {
		return fmt.Errorf("grow partition %d: it ends at LBA %d, more than %d: %w", number, grown.LastLBA, lastLBA, ErrNoRoom)
	}
	grown.LastLBA = lastLBA
	if err := t.checkFree(grown); err != nil {
		return fmt.Errorf("grow partition %d: %w", number, err)
	}
	t.Partitions[i] = grown
	return nil
}

// Add puts p into the first free slot and returns it with its Number, and with
// a random ID if it had none. ErrNoRoom when its range is taken or all slots are.
func (t *Table) Add(p Partition) (Partition, error) {
	if len(utf16.Encode([]rune(p.Name))) > nameUnits {
		return p, fmt.Errorf("add partition: name %.80q is longer than %d characters", p.Name, nameUnits)
	}
	if p.Type.IsZero() {
		return p, fmt.Errorf("add partition %q: it has no type", p.Name)
	}
	p.Number = 0
	if err := t.checkFree(p); err != nil {
		return p, fmt.Errorf("add partition %q: %w", p.Name, err)
	}
	for number := 1; number <= t.entryCount; number++ {
		if !slices.ContainsFunc(t.Partitions, func(q Partition) bool { return q.Number == number }) {
			p.Number = number
			break
		}
	}
	if p.Number == 0 {
		return p, fmt.Errorf("add partition %q: all %d slots are taken: %w", p.Name, t.entryCount, ErrNoRoom)
	}
	if p.ID.IsZero() {
		p.ID = NewGUID()
	}
	t.Partitions = append(t.Partitions, p)
	return p, nil
}

// checkFree ignores the entry with p's own number.
func (t *Table) checkFree(p Partition) error {
	if p.FirstLBA > p.LastLBA || p.FirstLBA < t.FirstUsableLBA || p.LastLBA > t.LastUsableLBA {
		return fmt.Errorf("LBA %d to %d, usable are %d to %d: %w", p.FirstLBA, p.LastLBA, t.FirstUsableLBA, t.LastUsableLBA, ErrNoRoom)
	}
	for _, q := range t.Partitions {
		if q.Number != p.Number && p.FirstLBA <= q.LastLBA && q.FirstLBA <= p.LastLBA {
			return fmt.Errorf("LBA %d to %d, partition %d has %d to %d: %w", p.FirstLBA, p.LastLBA, q.Number, q.FirstLBA, q.LastLBA, ErrNoRoom)
		}
	}
	return nil
}

// Seed is the small partition with the first-boot data, right before the
// backup of the table.
type Seed struct {
	Name      string // of the partition, for example "cidata"
	SizeBytes int64  // usually 8 MiB
}

// Fit makes an image's table one for the disk it was written to: backup at the
// end, an old seed of that name replaced, the new one before the backup, and
// with growRoot the root partition grown up to it. It returns root and seed.
// ErrNoRoot and ErrRootNotLast (only with growRoot; the table is then
// unchanged, and Fit without growRoot may still do), ErrNoRoom.
func (t *Table) Fit(diskBytes int64, seed Seed, growRoot bool) (root, placed Partition, err error) {
	next := *t
	next.Partitions = slices.Clone(t.Partitions)
	next.Delete(seed.Name)
	if root, err = next.rootFor(growRoot); err != nil {
		return root, placed, err
	}
	if err = next.Relocate(diskBytes); err != nil {
		return root, placed, err
	}
	if placed, err = next.addSeed(seed); err != nil {
		return root, placed, err
	}
	if growRoot && placed.FirstLBA-1 > root.LastLBA {
		root.LastLBA = placed.FirstLBA - 1
		if err = next.Grow(root.Number, root.LastLBA); err != nil {
			return root, placed, err
		}
	}
	*t = next
	return root, placed, nil
}

func (t *Table) rootFor(grow bool) (Partition, error) {
	root, ok := t.Root()
	if !ok {
		if grow {
			return root, fmt.Errorf("grow root partition: %w", ErrNoRoot)
		}
		return root, nil
	}
	if last, _ := t.Last(); grow && last.Number != root.Number {
		return root, fmt.Errorf("grow root partition %d: partition %d lies behind it: %w", root.Number, last.Number, ErrRootNotLast)
	}
	return root, nil
}

func (t *Table) addSeed(seed Seed) (Partition, error) {
	align := uint64(alignBytes / t.SectorSize)
	sectors := (uint64(max(seed.SizeBytes, 1)) + uint64(t.SectorSize) - 1) / uint64(t.SectorSize)
	if t.LastUsableLBA+1 < sectors {
		return Partition{}, fmt.Errorf("add partition %q: %w", seed.Name, ErrNoRoom)
	}
	first := (t.LastUsableLBA + 1 - sectors) / align * align
	return t.Add(Partition{Type: TypeBasicData, Name: seed.Name, FirstLBA: first, LastLBA: first + sectors - 1})
}

// DiskBytesFor is the size of disk that surely takes an image of imageBytes
// and a seed of seedBytes: what to check before anything is written.
func DiskBytesFor(imageBytes, seedBytes int64) int64 {
	return (imageBytes+seedBytes+alignBytes-1)/alignBytes*alignBytes + 2*alignBytes
}
