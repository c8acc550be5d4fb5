package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Manifest describes the files of one build, as manifest.json beside them.
type Manifest struct {
	// Kernel is where vmlinuz and the modules come from.
	Kernel KernelFacts `json:"kernel"`
	// TotalBytes is what a machine fetches: kernel and initramfs.
	TotalBytes int64 `json:"total_bytes"`
	// LimitBytes is what TotalBytes may be at most.
	LimitBytes int64 `json:"limit_bytes"`
	// UnpackedBytes is the initramfs in memory.
	UnpackedBytes int64 `json:"unpacked_bytes"`
	// Modules counts kernel modules; AbsentModules are wanted ones that this
	// kernel does not have.
	Modules       int      `json:"modules"`
	AbsentModules []string `json:"absent_modules"`
	// Firmware counts blobs packed; MissingFirmware are those that some driver
	// may ask for and that no firmware directory held.
	Firmware        int      `json:"firmware"`
	MissingFirmware []string `json:"missing_firmware"`
	// Files by name.
	Files []FileFact `json:"files"`
}

// KernelFacts names a kernel.
type KernelFacts struct {
	Package string `json:"package"`
	Version string `json:"version"`
	// Release is what uname -r prints.
	Release string `json:"release"`
}

// FileFact is one file that machines may fetch.
type FileFact struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func fact(name string, data []byte) FileFact {
	sum := sha256.Sum256(data)
	return FileFact{Name: name, Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// weigh notes the sizes and refuses what is over the limit.
func (m *Manifest) weigh(vmlinuz, archive []byte, limit int64) error {
	m.TotalBytes, m.LimitBytes = int64(len(vmlinuz)+len(archive)), limit
	if m.TotalBytes > limit {
		return fmt.Errorf("kernel (%d bytes) and initramfs (%d bytes, %d modules, %d firmware files) are over the limit of %d bytes: leave out modules in initramfs/kernel/classes.go or firmware",
			len(vmlinuz), len(archive), m.Modules, m.Firmware, limit)
	}
	return nil
}
