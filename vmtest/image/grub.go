package image

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

const (
	grubBIOSDir    = "/usr/lib/grub/i386-pc"
	grubEFIPath    = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
	shimPath       = "/usr/lib/shim/shimx64.efi.signed"
	mokManagerPath = "/usr/lib/shim/mmx64.efi.signed"
)

// console is where kernel and init print: the screen, and the first serial
// port, which is /dev/console because it stands last.
const console = "console=tty0 console=ttyS0,115200"

// entry is the one system that an image starts.
type entry struct {
	// Title as the menu shows it.
	Title string
	// Kernel and Initrd are absolute paths on the root filesystem.
	Kernel, Initrd string
	// Args is the rest of the kernel command line.
	Args string
}

// grubConfig is /boot/grub/grub.cfg. Only commands that every reader of such
// files knows: no variables, no conditions, no modules.
func grubConfig(e entry) string {
	return fmt.Sprintf(`set default=0
set timeout=0

menuentry "%s" {
	linux %s %s
	initrd %s
}
`, e.Title, e.Kernel, e.Args, e.Initrd)
}

// findRoot is the configuration that leads a GRUB, wherever it was loaded from,
// to the root filesystem and its grub.cfg.
func findRoot(rootUUID string) string {
	return fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/grub\n", rootUUID)
}

// biosModules are linked into GRUB's core image, so that it needs no module
// from a disk.
var biosModules = []string{
	"biosdisk", "part_gpt", "ext2", "normal", "linux", "search", "search_fs_uuid",
	"configfile", "serial", "terminal", "minicmd", "echo", "test",
}

// makeBIOSCore builds GRUB's core image for BIOS.
func makeBIOSCore(ctx context.Context, r runner, workDir, rootUUID string) ([]byte, error) {
	early := filepath.Join(workDir, "early.cfg")
	text := "serial --unit=0 --speed=115200\nterminal_output serial console\n" + findRoot(rootUUID)
	if err := os.WriteFile(early, []byte(text), 0o644); err != nil {
		return nil, err
	}
	core := filepath.Join(workDir, "core.img")
	args := append([]string{"-O", "i386-pc", "-d", grubBIOSDir, "-p", "/boot/grub", "-c", early, "-o", core}, biosModules...)
	if err := r.run(ctx, "", "grub-mkimage", args...); err != nil {
		return nil, err
	}
	return os.ReadFile(core)
}

// Places in GRUB's boot code (grub-core/boot/i386/pc/boot.S and diskboot.S).
const (
	bootCodeSize    = 440  // up to the disk signature of the MBR
	bootCoreLBA     = 0x5c // u64, where the core image starts
	bootDriveCheck  = 0x66 // a jump that trusts DL only on some BIOSes; two NOPs trust it always
	coreBlocklist   = 0x1f4
	coreLoadSegment = 0x820
)

// linkBIOS fits the boot code and the core image to the place where the core
// image will stand: partitionLBA, in sectors of 512 bytes. It returns the boot
// code (440 bytes) and the core image padded to whole sectors.
func linkBIOS(bootImage, core []byte, partitionLBA uint64, partitionSectors int) (code, linked []byte, err error) {
	sectors := (len(core) + sectorSize - 1) / sectorSize
	if len(bootImage) < sectorSize || sectors < 2 {
		return nil, nil, fmt.Errorf("GRUB's boot code has %d bytes, its core image %d: too short", len(bootImage), len(core))
	}
	if sectors > partitionSectors {
		return nil, nil, fmt.Errorf("GRUB's core image needs %d sectors, its partition has %d", sectors, partitionSectors)
	}
	code = append([]byte(nil), bootImage[:bootCodeSize]...)
	binary.LittleEndian.PutUint64(code[bootCoreLBA:], partitionLBA)
	code[bootDriveCheck], code[bootDriveCheck+1] = 0x90, 0x90

	linked = make([]byte, sectors*sectorSize)
	copy(linked, core)
	binary.LittleEndian.PutUint64(linked[coreBlocklist:], partitionLBA+1)
	binary.LittleEndian.PutUint16(linked[coreBlocklist+8:], uint16(sectors-1))
	binary.LittleEndian.PutUint16(linked[coreBlocklist+10:], coreLoadSegment)
	return code, linked, nil
}

// makeESP makes the EFI system partition as a file of its own: the removable
// path, and the place where Debian's signed GRUB looks for its configuration.
func makeESP(ctx context.Context, r runner, path, workDir, rootUUID string, size, sector int64) error {
	if err := createSparse(path, size); err != nil {
		return err
	}
	fat := "16"
	if size >= 40*mib && sector == sectorSize { // FAT32 needs 65,525 clusters
		fat = "32"
	}
	args := []string{"-F", fat, "-S", fmt.Sprint(sector), "-n", "EFI", path}
	if sector != sectorSize {
		args = append(args, "-s", "1") // more would be too few clusters
	}
	if err := r.run(ctx, "", "mkfs.vfat", args...); err != nil {
		return err
	}
	config := filepath.Join(workDir, "esp.cfg")
	text := findRoot(rootUUID) + "configfile /boot/grub/grub.cfg\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	if err := r.run(ctx, "", "mmd", "-i", path, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"); err != nil {
		return err
	}
	for _, f := range [][2]string{
		{shimPath, "EFI/BOOT/BOOTX64.EFI"}, {grubEFIPath, "EFI/BOOT/grubx64.efi"},
		{mokManagerPath, "EFI/BOOT/mmx64.efi"}, {config, "EFI/debian/grub.cfg"},
	} {
		if err := r.run(ctx, "", "mcopy", "-i", path, f[0], "::/"+f[1]); err != nil {
			return fmt.Errorf("put %s on the EFI system partition: %w", f[1], err)
		}
	}
	return nil
}
