package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ProbeKVM says whether a guest really boots under KVM here, by booting
// firmware under it for at most ten seconds: /dev/kvm may open and still only
// run special guests, or none. The answer is kept in cache (a file, "" for
// none) until the host reboots.
func ProbeKVM(ctx context.Context, cache string) (bool, error) {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return false, nil
	} else {
		f.Close()
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.TrimSpace(string(boot))
	if old, err := os.ReadFile(cache); err == nil && id != "" {
		if got, ok := strings.CutPrefix(strings.TrimSpace(string(old)), id+" "); ok {
			return got == "yes", nil
		}
	}
	works, err := tryKVM(ctx)
	if err != nil {
		return false, err
	}
	if cache != "" {
		word := map[bool]string{true: "yes", false: "no"}[works]
		if err := os.MkdirAll(filepath.Dir(cache), 0o755); err == nil {
			_ = os.WriteFile(cache, []byte(id+" "+word+"\n"), 0o644) // only a cache
		}
	}
	return works, nil
}

// firmwareSpeaks matches OVMF's boot manager, which is far into 64-bit code.
var firmwareSpeaks = regexp.MustCompile(`BdsDxe`)

func tryKVM(ctx context.Context) (bool, error) {
	dir, err := os.MkdirTemp("", "kvmprobe")
	if err != nil {
		return false, fmt.Errorf("probe KVM: %w", err)
	}
	defer os.RemoveAll(dir)
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	vm, err := Start(limit, Config{Name: "kvmprobe", UUID: uuid.New(), Firmware: UEFI, MemoryMiB: 256, Dir: dir, KVM: true}, Boot{})
	if err != nil {
		return false, ctx.Err() // QEMU refuses KVM: an answer, not an error
	}
	defer vm.console.Close()
	defer vm.Kill()
	_, err = vm.WaitConsole(limit, firmwareSpeaks)
	if err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("probe KVM: %w", errors.Join(ctx.Err(), err))
	}
	return false, nil
}
