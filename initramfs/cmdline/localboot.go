package cmdline

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// localboot.efi is a GRUB image built beside the initramfs: on UEFI it starts a
// named loader from a named partition, which iPXE itself cannot do. Its
// configuration holds these two placeholders, each exactly once, which the
// controller replaces by values of the same width when it serves the file. They
// live here because both the builder and controller/boot need them.
const (
	// LocalbootGUID stands for the GUID of the EFI system partition (36
	// characters, lower case, UEFI 2.10 appendix A).
	LocalbootGUID = "1a60b007-0000-4000-8000-706172746964"
	// LocalbootPath stands for the loader's quoted path on that partition,
	// padded with blanks to LocalbootPathWidth characters.
	LocalbootPath = "'/INGOT-LOADER-PATH/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-0123456789'"
	// LocalbootPathWidth is the length of LocalbootPath in bytes.
	LocalbootPathWidth = 128
)

// PatchLocalboot returns a copy of localboot.efi made to start the file at path
// (slashes, from the root of the filesystem, as in /EFI/debian/shimx64.efi) on
// the partition with the GUID. It fails when the GUID or the path is
// malformed, or when image is not a localboot.efi with untouched placeholders.
func PatchLocalboot(image []byte, partitionGUID, path string) ([]byte, error) {
	guid := strings.ToLower(partitionGUID)
	if err := checkGUID(guid); err != nil {
		return nil, err
	}
	quoted, err := quotePath(path)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(image)
	for _, r := range []struct{ old, new string }{{LocalbootGUID, guid}, {LocalbootPath, quoted}} {
		if n := bytes.Count(image, []byte(r.old)); n != 1 {
			return nil, fmt.Errorf("localboot.efi holds the placeholder %.12s… %d times instead of once: build it again with make initramfs", r.old, n)
		}
		copy(out[bytes.Index(image, []byte(r.old)):], r.new)
	}
	return out, nil
}

func checkGUID(guid string) error {
	if len(guid) != len(LocalbootGUID) {
		return fmt.Errorf("partition GUID %.40q has %d characters instead of %d", guid, len(guid), len(LocalbootGUID))
	}
	for i, c := range []byte(guid) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && strings.IndexByte("0123456789abcdef", c) < 0 {
			return fmt.Errorf("partition GUID %q is malformed at position %d", guid, i+1)
		}
	}
	return nil
}

func quotePath(path string) (string, error) {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//") {
		return "", fmt.Errorf("loader path %.140q is not an absolute path of a file", path)
	}
	if strings.Contains(path+"/", "/../") {
		return "", errors.New("loader path must not hold ..")
	}
	if err := checkChars("loader path", path, 2, LocalbootPathWidth-2, alnum+"/._-+ "); err != nil {
		return "", err
	}
	quoted := "'" + path + "'"
	return quoted + strings.Repeat(" ", LocalbootPathWidth-len(quoted)), nil
}
