package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/bmc"
	"github.com/ingot-metal/ingot/agent/boot"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// maxList bounds lists of small things.
const maxList = 4096

// System reads SMBIOS types 1 to 3 as the kernel shows them. A value that the
// firmware does not give has no file, which is no error.
func System(h host.Host) *hardware.System {
	k := Collector{Host: h}
	id := func(name string) string { return placeholder(k.read("/sys/class/dmi/id/" + name)) }
	return &hardware.System{
		Vendor: id("sys_vendor"), Product: id("product_name"), Version: id("product_version"),
		Serial: id("product_serial"), Uuid: strings.ToLower(id("product_uuid")),
		Sku: id("product_sku"), Family: id("product_family"),
		BoardVendor: id("board_vendor"), BoardProduct: id("board_name"), BoardSerial: id("board_serial"),
		ChassisType: id("chassis_type"), ChassisSerial: id("chassis_serial"), AssetTag: id("chassis_asset_tag"),
	}
}

// placeholder drops the texts that vendors leave where a value should be.
func placeholder(s string) string {
	switch strings.ToLower(strings.TrimRight(s, ".")) {
	case "to be filled by o.e.m", "default string", "not specified", "none", "n/a", "system serial number", "0123456789", "unknown":
		return ""
	}
	return s
}

func (k Collector) system(_ context.Context, c *hardware.Collection) error {
	c.System = System(k.Host)
	if !k.Host.Exists("/sys/class/dmi/id") {
		return errors.New("the kernel shows no SMBIOS tables")
	}
	return nil
}

func (k Collector) kernel(_ context.Context, c *hardware.Collection) error {
	c.KernelRelease = k.read("/proc/sys/kernel/osrelease")
	data, err := k.Host.ReadFile("/proc/modules")
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, " "); ok && len(c.Modules) < maxList {
			c.Modules = append(c.Modules, clean(name, 64))
		}
	}
	return nil
}

// BootMode tells how the firmware started this boot.
func BootMode(h host.Host) hardware.BootMode {
	if boot.DetectMode(h) == boot.UEFI {
		return hardware.BootMode_BOOT_MODE_UEFI
	}
	return hardware.BootMode_BOOT_MODE_BIOS
}

func (k Collector) firmware(_ context.Context, c *hardware.Collection) error {
	id := func(name string) string { return k.read("/sys/class/dmi/id/" + name) }
	c.Firmware = &hardware.Firmware{Vendor: id("bios_vendor"), Version: id("bios_version"), Date: id("bios_date"),
		BootMode: BootMode(k.Host), SecureBoot: boot.SecureBoot(k.Host)}
	if c.Firmware.BootMode != hardware.BootMode_BOOT_MODE_UEFI {
		return nil
	}
	var errs []error
	if entered, err := boot.ReadEntered(k.Host); err == nil {
		n := uint32(entered.Number)
		c.Firmware.BootCurrent = &n
	} else if !host.IsAbsent(err) {
		errs = append(errs, err)
	}
	// UEFI 2.10 section 3.1: 16-bit numbers, after the four bytes of attributes
	// that efivarfs puts before a value.
	data, err := k.Host.ReadFile("/sys/firmware/efi/efivars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("read the boot order: %w", err))...)
	}
	for data = data[min(4, len(data)):]; len(data) >= 2 && len(c.Firmware.BootOrder) < maxList; data = data[2:] {
		c.Firmware.BootOrder = append(c.Firmware.BootOrder, uint32(binary.LittleEndian.Uint16(data)))
	}
	return errors.Join(errs...)
}

func (k Collector) tpm(_ context.Context, c *hardware.Collection) error {
	version := map[string]string{"1": "1.2", "2": "2.0"}[k.read("/sys/class/tpm/tpm0/tpm_version_major")]
	if version == "" {
		if k.Host.Exists("/sys/class/tpm/tpm0") {
			return errors.New("the kernel does not tell the version of the TPM")
		}
		return nil
	}
	c.Tpm = &hardware.TPM{Version: version, Vendor: k.read("/sys/class/tpm/tpm0/device/description")}
	return nil
}

func (k Collector) bmc(_ context.Context, c *hardware.Collection) error {
	b, err := bmc.Read(k.Host)
	c.Bmc = b
	if errors.Is(err, bmc.ErrNone) {
		return nil
	}
	return err
}

func (k Collector) usb(_ context.Context, c *hardware.Collection) error {
	devices, err := k.Host.Glob("/sys/bus/usb/devices/*/idVendor")
	if err != nil {
		return err
	}
	for _, d := range devices[:min(len(devices), maxList)] {
		dir := strings.TrimSuffix(d, "/idVendor")
		c.UsbDevices = append(c.UsbDevices, &hardware.USBDevice{VendorId: k.read(d), ProductId: k.read(dir + "/idProduct"),
			Vendor: k.read(dir + "/manufacturer"), Product: k.read(dir + "/product")})
	}
	return nil
}

// missingFirmware reads the kernel's messages for blobs that drivers asked for
// in vain.
func (k Collector) missingFirmware(_ context.Context, c *hardware.Collection) error {
	fd, err := unix.Open(k.Host.Path("/dev/kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read the kernel's messages: %w", err)
	}
	defer unix.Close(fd)
	record := make([]byte, 8192)
	seen := map[string]bool{}
	for range 100_000 {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // overwritten meanwhile; the next one is there
			continue
		case errors.Is(err, unix.EAGAIN), n == 0 && err == nil:
			return nil
		case err != nil:
			return fmt.Errorf("read the kernel's messages: %w", err)
		}
		if name := blobOf(string(record[:n])); name != "" && !seen[name] && len(seen) < 256 {
			seen[name] = true
			c.MissingFirmware = append(c.MissingFirmware, name)
		}
	}
	return nil
}

// blobOf finds the file in "Direct firmware load for X failed with error -2" and
// in "firmware: failed to load X (-2)", as Debian's kernels say it.
func blobOf(message string) string {
	for _, form := range []struct{ before, after string }{
		{"Direct firmware load for ", " failed"}, {"firmware: failed to load ", " "},
	} {
		if _, rest, ok := strings.Cut(message, form.before); ok {
			if name, _, ok := strings.Cut(rest, form.after); ok {
				return clean(name, 200)
			}
		}
	}
	return ""
}
