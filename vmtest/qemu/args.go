package qemu

import (
	"fmt"
	"strconv"
	"strings"
)

// plan is how this POST's boot wish is carried to the firmware by QEMU's own
// means; empty when the variable store carried it.
type plan struct {
	order []Device // bootindex runs through these in turn
	noPXE bool     // hide PXE from the firmware, so that NICs boot by HTTP
}

// esc doubles commas, which QEMU's option parser takes apart.
func esc(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// args is QEMU's command line. Descriptors 3 and 4 are control and console.
func (c *Config) args(p plan) []string {
	a := []string{
		"-name", esc(c.Name), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S",
		"-m", strconv.Itoa(c.MemoryMiB), "-smp", strconv.Itoa(c.CPUs), "-uuid", c.UUID.String(),
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=con,fd=4", "-serial", "chardev:con",
		"-device", "virtio-rng-pci", // without entropy the guest's TLS waits for minutes
	}
	if c.KVM {
		a = append(a, "-accel", "kvm", "-cpu", "host")
	} else {
		a = append(a, "-accel", "tcg,thread=multi", "-cpu", "max")
	}
	a = append(a, c.smbios()...)
	a = append(a, c.firmware(p)...)
	a = append(a, c.devices(p)...)
	if c.IPMI != "" {
		a = append(a, "-chardev", "socket,id=ipmi0,reconnect=1,path="+esc(c.IPMI),
			"-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0", "-device", "isa-ipmi-kcs,bmc=bmc0")
	}
	if c.TPM != "" {
		a = append(a, "-chardev", "socket,id=tpm,path="+esc(c.TPM), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	return append(a, c.Extra...)
}

func (c *Config) smbios() []string {
	m, p, s := esc(c.Manufacturer), esc(c.Product), esc(c.Serial)
	uefi := "off"
	if c.Firmware.UEFI() {
		uefi = "on"
	}
	return []string{
		"-smbios", "type=0,vendor=" + m + ",version=1.4.2,date=05/01/2026,release=1.4,uefi=" + uefi,
		"-smbios", "type=1,manufacturer=" + m + ",product=" + p + ",version=A1,serial=" + s + ",sku=LAB-1,family=Lab,uuid=" + c.UUID.String(),
		"-smbios", "type=2,manufacturer=" + m + ",product=Lab board,version=A1,serial=" + s + "-B",
		"-smbios", "type=3,manufacturer=" + m + ",version=A1,serial=" + s + "-C,asset=" + esc(c.Name),
		"-smbios", "type=17,loc_pfx=DIMM,bank=BANK 0,manufacturer=" + m + ",serial=" + s + "-M,part=LAB-DDR4,speed=3200",
	}
}

func (c *Config) firmware(p plan) []string {
	if c.Firmware == BIOS {
		return []string{"-machine", "q35,graphics=off"} // SeaBIOS then prints on the serial port
	}
	a := []string{
		"-machine", "q35",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + esc(c.OVMFCode),
		"-drive", "if=pflash,format=raw,unit=1,file=" + esc(c.Varsfile()),
	}
	// IPv6 is off because each entry that nobody answers costs minutes.
	hide := []string{"IPv6PXESupport"}
	if p.noPXE || c.Firmware == UEFIHTTP {
		hide = append(hide, "IPv4PXESupport")
	}
	for _, name := range hide {
		a = append(a, "-fw_cfg", "name=opt/org.tianocore/"+name+",string=n")
	}
	return a
}

// devices adds NICs and disks, with a bootindex each where the plan has one.
func (c *Config) devices(p plan) []string {
	var a []string
	index := 0
	boot := map[string]string{} // id of a device: its bootindex option
	for _, dev := range p.order {
		switch dev {
		case HDD:
			for i := range c.Disks {
				boot[fmt.Sprint("disk", i)] = fmt.Sprintf(",bootindex=%d", index)
				index++
			}
		case PXE, HTTP:
			for i := range c.NICs {
				boot[fmt.Sprint("nic", i)] = fmt.Sprintf(",bootindex=%d", index)
				index++
			}
		}
	}
	for i, n := range c.NICs {
		id, model := fmt.Sprint("nic", i), n.Model
		if model == "" {
			model = VirtioNet
		}
		rom := ""
		if !n.PXEROM {
			rom = ",romfile="
		}
		a = append(a, "-netdev", "tap,script=no,downscript=no,id=n"+id+",ifname="+esc(n.Tap),
			"-device", fmt.Sprintf("%s,id=%s,netdev=n%s,mac=%s%s%s", model, id, id, n.MAC, rom, boot[id]))
	}
	for i, d := range c.Disks {
		id := fmt.Sprint("disk", i)
		a = append(a, "-blockdev", d.backend("b"+id))
		a = append(a, d.frontend(id, boot[id])...)
	}
	return a
}

func (d Disk) backend(node string) string {
	if d.NBD != "" {
		// No reconnect: when the disk's power goes, the machine's went before.
		return "driver=nbd,discard=unmap,node-name=" + node + ",server.type=unix,server.path=" + esc(d.NBD)
	}
	return "driver=raw,discard=unmap,node-name=" + node + ",file.driver=file,file.filename=" + esc(d.File)
}

func (d Disk) frontend(id, boot string) []string {
	size := d.SectorSize
	if size == 0 {
		size = 512
	}
	props := fmt.Sprintf(",id=%s,drive=b%s,serial=%s,logical_block_size=%d,physical_block_size=4096%s", id, id, esc(d.Serial), size, boot)
	switch d.Bus {
	case NVMe:
		return []string{"-device", "nvme" + props}
	case SATA:
		return []string{"-device", "ich9-ahci,id=ahci" + id, "-device", "ide-hd,bus=ahci" + id + ".0" + props}
	case SCSI:
		return []string{"-device", "virtio-scsi-pci,id=scsi" + id, "-device", "scsi-hd,bus=scsi" + id + ".0" + props}
	default:
		return []string{"-device", "virtio-blk-pci,discard=on,write-zeroes=on" + props}
	}
}
