package build

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

// loaders are the files of Debian's package ipxe that bring the boot script to a
// machine, by firmware: BIOS PXE, UEFI PXE (over the firmware's own driver),
// UEFI HTTP boot.
var loaders = []string{"undionly.kpxe", "snponly.efi", "ipxe.efi"}

func addLoaders(ctx context.Context, o Options, out map[string][]byte) error {
	for _, name := range loaders {
		data, err := os.ReadFile(filepath.Join(o.IPXEDir, name))
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("collect loaders: %w: install the package ipxe", err)
		}
		if err != nil {
			return fmt.Errorf("collect loaders: %w", err)
		}
		out[name] = data
	}
	image, err := localboot(ctx, o.GRUBDir)
	if err != nil {
		return err
	}
	out["localboot.efi"] = image
	return nil
}

// localbootConfig is run by GRUB; its two placeholders are replaced by
// cmdline.PatchLocalboot.
//
//go:embed localboot.cfg
var localbootConfig string

// grubModules are built into localboot.efi: it must load nothing from disk.
var grubModules = []string{"part_gpt", "part_msdos", "fat", "iso9660", "memdisk", "tar", "normal", "configfile", "regexp", "test", "probe", "echo", "sleep", "minicmd", "chain", "boot"}

// localboot makes localboot.efi. The configuration lies in a memory disk, since
// one embedded directly is read by GRUB's rescue parser, which knows no loops;
// memory disks are not compressed on EFI.
func localboot(ctx context.Context, grubDir string) ([]byte, error) {
	work, err := os.MkdirTemp("", "localboot-")
	if err != nil {
		return nil, fmt.Errorf("make localboot.efi: %w", err)
	}
	defer os.RemoveAll(work)
	disk, err := memoryDisk()
	if err != nil {
		return nil, fmt.Errorf("make localboot.efi: %w", err)
	}
	if err := os.WriteFile(filepath.Join(work, "disk.tar"), disk, 0o644); err != nil {
		return nil, fmt.Errorf("make localboot.efi: %w", err)
	}
	args := append([]string{"-O", "x86_64-efi", "-d", grubDir, "-m", "disk.tar", "-p", "(memdisk)/grub", "-o", "out.efi"}, grubModules...)
	cmd := exec.CommandContext(ctx, "grub-mkimage", args...)
	cmd.Dir = work
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make localboot.efi (needs the packages grub-common and grub-efi-amd64-bin): grub-mkimage: %w: %s", err, strings.TrimSpace(string(msg)))
	}
	image, err := os.ReadFile(filepath.Join(work, "out.efi"))
	if err != nil {
		return nil, fmt.Errorf("make localboot.efi: %w", err)
	}
	// What the controller will do when it serves the file must work.
	if _, err := cmdline.PatchLocalboot(image, cmdline.LocalbootGUID, "/x"); err != nil {
		return nil, fmt.Errorf("check localboot.efi: %w", err)
	}
	return image, nil
}

func memoryDisk() ([]byte, error) {
	config := strings.NewReplacer("@GUID@", cmdline.LocalbootGUID, "@LOADER@", cmdline.LocalbootPath).Replace(localbootConfig)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "grub/grub.cfg", Size: int64(len(config)), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write([]byte(config)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
