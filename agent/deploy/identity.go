package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/imaging/gpt"
)

// marks are the ids by which a boot loader or an fstab finds a filesystem:
// "partition GUID …", "filesystem UUID …", "filesystem label …".
type marks []string

// marksOf reads the ids of a disk or an image: of its partition table, and of
// what lies at the start of the whole and of each partition. The seed's are left
// out; every disk that we wrote has one.
func marksOf(r io.ReaderAt, size int64) (marks, error) {
	var found marks
	add := func(r io.ReaderAt, size int64) error {
		signatures, err := disk.Probe(r, size)
		for _, s := range signatures {
			if strings.EqualFold(s.Label, seedName) {
				continue
			}
			if s.UUID != "" {
				found = append(found, "filesystem UUID "+s.UUID)
			}
			if s.Label != "" {
				found = append(found, "filesystem label "+s.Label)
			}
		}
		return err
	}
	if err := add(r, size); err != nil {
		return nil, err
	}
	table, err := gpt.Detect(r, size)
	if err != nil {
		return found, ignoreNoTable(err)
	}
	if !table.DiskGUID.IsZero() {
		found = append(found, "disk GUID "+table.DiskGUID.String())
	}
	for _, p := range table.Partitions {
		if p.Name == seedName {
			continue
		}
		found = append(found, "partition GUID "+p.ID.String())
		length := min(table.Size(p), size-table.Offset(p))
		if length <= 0 {
			continue
		}
		if err := add(io.NewSectionReader(r, table.Offset(p), length), length); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// ignoreNoTable keeps only errors of reading; a disk without a good table is
// usual.
func ignoreNoTable(err error) error {
	for _, usual := range []error{gpt.ErrNoTable, gpt.ErrMBR, gpt.ErrCorrupt, gpt.ErrTruncated} {
		if errors.Is(err, usual) {
			return nil
		}
	}
	return err
}

// conflict names the ids that another disk shares with the image.
func (m marks) conflict(d disk.Disk) (string, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", d.Name(), err)
	}
	defer f.Close()
	others, err := marksOf(f, int64(d.Info.SizeBytes))
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", d.Name(), err)
	}
	var shared []string
	for _, mark := range others {
		if slices.Contains(m, mark) && !slices.Contains(shared, mark) {
			shared = append(shared, mark)
		}
	}
	return strings.Join(shared, ", "), nil
}
