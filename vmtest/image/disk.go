package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

const (
	sectorSize = 512
	mib        = 1 << 20
	// rootLabel names the root filesystem and its partition.
	rootLabel = "root"
)

// Types of partitions: GRUB's manual (BIOS installation), UEFI section 5.3.3,
// and the Discoverable Partitions Specification (root, x86-64).
const (
	typeBIOSBoot = "21686148-6449-6E6F-744E-656564454649"
	typeESP      = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeRoot     = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
)

// disk is what a raw image is made of.
type disk struct {
	// sizeMiB of the whole disk, espMiB of its EFI system partition.
	sizeMiB, espMiB int64
	// sector is the logical sector of the disks it is for, in bytes; 0 means 512.
	// With 4096 it starts by UEFI only: no BIOS reads such a disk.
	sector int64
	// tree is the directory whose content becomes the root filesystem.
	tree string
	// entry to start; build adds root= to its arguments.
	entry entry
	// fstabOptions of the root filesystem; "" writes no fstab.
	fstabOptions string
	// inodes of the root filesystem; 0 leaves the number to mke2fs.
	inodes int
}

// partition is a run of sectors of 512 bytes.
type partition struct{ first, sectors int64 }

func (p partition) offset() int64 { return p.first * sectorSize }

// partitions returns the three partitions. The disk's first and last MiB are
// left to the partition tables, which keeps every partition aligned to 1 MiB.
func (d disk) partitions() (bios, esp, root partition) {
	const perMiB = mib / sectorSize
	bios = partition{perMiB, perMiB}
	esp = partition{2 * perMiB, d.espMiB * perMiB}
	start := 2 + d.espMiB
	root = partition{start * perMiB, (d.sizeMiB - 1 - start) * perMiB}
	return bios, esp, root
}

// build writes the disk into the file path, which must not exist; the file is
// sparse. It adds grub.cfg and fstab to the tree. workDir is for intermediate
// files.
func (d disk) build(ctx context.Context, r runner, workDir, path string) error {
	rootUUID := uuid.NewString()
	d.entry.Args = "root=UUID=" + rootUUID + " " + d.entry.Args
	if err := d.writeConfig(rootUUID); err != nil {
		return fmt.Errorf("write boot configuration: %w", err)
	}
	if err := createSparse(path, d.sizeMiB*mib); err != nil {
		return err
	}
	if err := d.writeTable(ctx, r, path); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	bios, esp, root := d.partitions()
	if err := d.makeRoot(ctx, r, path, rootUUID, root); err != nil {
		return fmt.Errorf("make root filesystem: %w", err)
	}
	espFile := filepath.Join(workDir, "esp.img")
	if err := makeESP(ctx, r, espFile, workDir, rootUUID, esp.sectors*sectorSize, d.sectorBytes()); err != nil {
		return fmt.Errorf("make EFI system partition: %w", err)
	}
	if err := copyInto(path, esp.offset(), espFile); err != nil {
		return fmt.Errorf("put EFI system partition into place: %w", err)
	}
	if d.sectorBytes() != sectorSize {
		return nil
	}
	core, err := makeBIOSCore(ctx, r, workDir, rootUUID)
	if err != nil {
		return fmt.Errorf("make GRUB for BIOS: %w", err)
	}
	return installBIOS(path, core, bios)
}

func (d disk) writeConfig(rootUUID string) error {
	files := map[string]string{"boot/grub/grub.cfg": grubConfig(d.entry)}
	if d.fstabOptions != "" {
		files["etc/fstab"] = fmt.Sprintf("UUID=%s / ext4 %s 0 0\n", rootUUID, d.fstabOptions)
	}
	for name, text := range files {
		path := filepath.Join(d.tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeRoot has mke2fs copy the tree. Inode tables and journal are zeroed now
// (holes in the file), so that the kernel does not do it in the first minutes
// of every new machine; features that GRUB 2.06 cannot read stay off.
func (d disk) makeRoot(ctx context.Context, r runner, path, rootUUID string, p partition) error {
	args := []string{
		"-q", "-F", "-t", "ext4", "-L", rootLabel, "-U", rootUUID, "-b", "4096", "-m", "1",
		"-O", "^metadata_csum_seed,^orphan_file",
		"-E", fmt.Sprintf("offset=%d,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", p.offset()),
		"-d", d.tree,
	}
	if d.inodes != 0 {
		args = append(args, "-N", fmt.Sprint(d.inodes))
	}
	return r.runOwned(ctx, "mke2fs", append(args, path, fmt.Sprintf("%dk", p.sectors/2))...)
}

// installBIOS writes boot code and core image; the partition table in sector 0
// stays as it is.
func installBIOS(path string, core []byte, p partition) error {
	bootImage, err := os.ReadFile(grubBIOSDir + "/boot.img")
	if err != nil {
		return fmt.Errorf("read GRUB's boot code: %w", err)
	}
	code, linked, err := linkBIOS(bootImage, core, uint64(p.first), int(p.sectors))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(code, 0); err != nil {
		return fmt.Errorf("write boot code: %w", err)
	}
	if _, err := f.WriteAt(linked, p.offset()); err != nil {
		return fmt.Errorf("write GRUB's core image: %w", err)
	}
	return f.Close()
}

func createSparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make %s %d bytes long: %w", path, size, err)
	}
	return f.Close()
}

// copyInto writes the file from into the file path at offset, leaving out
// blocks of zeros so that holes stay holes; the place must be a hole before.
func copyInto(path string, offset int64, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(in, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := out.WriteAt(block[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return out.Close()
		case err != nil:
			return err
		}
	}
}
