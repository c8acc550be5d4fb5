// Command mk builds the files that machines boot: the kernel, the initramfs with
// the agent, the loaders, and manifest.json about them.
//
//	go run ./initramfs/mk -o build/boot
//
// It needs no root. The kernel comes from Debian's archive, whatever the host
// is; it is downloaded once a day at most and kept in the cache. Process 1 and
// the agent are compiled from this module, unless -init and -agent name binaries.
// Firmware blobs are not in Debian's main archive: unpack the firmware-*
// packages you need and give their lib/firmware as -firmware-dir. What is
// missing is listed at the end.
//
// Needed on the host: go, apt, dpkg, zstd, and the packages ipxe,
// grub-common, grub-efi-amd64-bin and pci.ids.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-metal/ingot/initramfs/build"
)

func main() {
	o := build.Options{}
	flag.StringVar(&o.Out, "o", "build/boot", "directory for the results")
	cache := flag.String("cache", "build/cache", "directory kept between builds; boot/ below it is used")
	flag.StringVar(&o.Init, "init", "", "binary of process 1 (static); empty compiles ./initramfs/init")
	flag.StringVar(&o.Agent, "agent", "", "agent binary (static); empty compiles ./agent")
	flag.StringVar(&o.TrustedKeys, "trusted-keys", "", "file with minisign public keys, one a line: machines then take only images that one of them has signed")
	flag.StringVar(&o.FirmwareDir, "firmware-dir", "", "directory laid out like /lib/firmware")
	flag.StringVar(&o.PCINames, "pci-ids", "/usr/share/misc/pci.ids", "names of PCI devices")
	flag.StringVar(&o.IPXEDir, "ipxe-dir", "/usr/lib/ipxe", "iPXE's files")
	flag.StringVar(&o.GRUBDir, "grub-dir", "/usr/lib/grub/x86_64-efi", "GRUB's modules")
	flag.StringVar(&o.Kernel.Package, "kernel", "linux-image-amd64", "kernel package or meta-package")
	flag.DurationVar(&o.Kernel.MaxAge, "max-age", 24*time.Hour, "how old the cached kernel's version check may be")
	sources := flag.String("sources", "", "file with apt sources (deb822) instead of Debian's archive")
	flag.Parse()
	dir, err := filepath.Abs(*cache) // dpkg-deb runs elsewhere
	if err != nil {
		fmt.Fprintln(os.Stderr, "mk:", err)
		os.Exit(1)
	}
	o.CacheDir = filepath.Join(dir, "boot")

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, o, *sources, log); err != nil {
		fmt.Fprintln(os.Stderr, "mk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o build.Options, sources string, log *slog.Logger) error {
	if sources != "" {
		data, err := os.ReadFile(sources)
		if err != nil {
			return fmt.Errorf("read apt sources: %w", err)
		}
		o.Kernel.Sources = string(data)
	}
	var err error
	if o.Init == "" {
		if o.Init, err = compile(ctx, o.CacheDir, "init", "./initramfs/init"); err != nil {
			return err
		}
	}
	if o.Agent == "" {
		if o.Agent, err = compile(ctx, o.CacheDir, "ingot-agent", "./agent"); err != nil {
			return err
		}
	}
	began := time.Now()
	m, err := build.Build(ctx, o, began, log)
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		fmt.Printf("%-16s %10d bytes  %s\n", f.Name, f.Bytes, f.SHA256[:16])
	}
	fmt.Printf("kernel %s, %d modules, %d firmware files\n", m.Kernel.Release, m.Modules, m.Firmware)
	fmt.Printf("kernel and initramfs: %.1f of %.0f MiB, %.1f s\n", mib(m.TotalBytes), mib(m.LimitBytes), time.Since(began).Seconds())
	list("modules that this kernel does not have", m.AbsentModules)
	list("firmware that some drivers may ask for and that is not packed (see -firmware-dir)", m.MissingFirmware)
	return nil
}

// compile builds a static binary whose bytes depend on the sources only.
func compile(ctx context.Context, dir, name, pkg string) (string, error) {
	out, err := filepath.Abs(filepath.Join(dir, "bin", name))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("compile %s: %w", pkg, err)
	}
	return out, nil
}

func list(title string, names []string) {
	if len(names) > 0 {
		fmt.Printf("%d %s:\n  %s\n", len(names), title, strings.Join(names, " "))
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
