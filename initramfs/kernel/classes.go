// Package kernel gets a Linux kernel from Debian's archive and chooses the
// modules and firmware that the agent's initramfs carries.
//
// Fetch resolves the real package behind linux-image-amd64, downloads it with
// apt (which checks it against Debian's keyring) and unpacks it; Scan reads the
// .modinfo section of every module in it, since an unpacked package has no
// modules.dep; Tree.Select closes a list of modules over dependencies and soft
// dependencies; Selection writes the tables that process 1 reads at run time.
//
// None of it needs root, and nothing is installed on the host.
package kernel

import "slices"

// Class is a list of modules that serve one kind of hardware or need.
type Class struct {
	// Name in the words of an operator.
	Name string
	// Modules by name; - and _ mean the same, as for modprobe.
	Modules []string
}

// Classes returns the modules of the product's initramfs by class. One list
// serves real machines and virtual ones: the cost of the virtio modules is
// small, and what is tested is what is shipped.
func Classes() []Class {
	return []Class{
		{"virtual machines", []string{"virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_console", "virtio_rng", "qemu_fw_cfg", "vmw_pvscsi", "vmxnet3", "hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils", "ena"}},
		{"disks", []string{"nvme", "vmd", "ahci", "ata_piix", "sd_mod", "sr_mod", "sg", "ses", "mmc_block", "sdhci_pci", "sdhci_acpi"}},
		{"SAS and RAID HBAs", []string{"megaraid_sas", "mpt3sas", "mpi3mr", "smartpqi", "hpsa", "aacraid", "arcmsr", "mvsas", "isci", "pm80xx"}},
		{"NICs to 1 Gb/s", []string{"e1000", "e1000e", "igb", "igc", "tg3", "bnx2", "r8169", "r8152", "cdc_ether", "rndis_host", "realtek", "broadcom"}},
		{"NICs from 10 Gb/s", []string{"ixgbe", "i40e", "ice", "iavf", "mlx4_core", "mlx4_en", "mlx5_core", "bnx2x", "bnxt_en", "qede", "sfc", "be2net", "cxgb4", "atlantic", "enic", "nfp"}},
		{"BMC and watchdog", []string{"ipmi_si", "ipmi_devintf", "ipmi_ssif", "ipmi_watchdog", "iTCO_wdt", "sp5100_tco"}},
		{"sensors and memory errors", []string{"i2c_i801", "i2c_piix4", "ee1004", "coretemp", "k10temp", "skx_edac", "i10nm_edac", "sb_edac", "ie31200_edac", "amd64_edac"}},
		{"USB and consoles", []string{"xhci_pci", "ehci_pci", "uhci_hcd", "ohci_pci", "usb_storage", "uas", "usbhid", "hid_generic", "mgag200", "ast"}},
		{"firmware interfaces", []string{"efivarfs", "edd", "tpm_tis_spi", "button", "evdev"}},
		{"filesystems", []string{"vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8", "ext4", "xfs", "btrfs", "isofs", "overlay", "squashfs", "loop"}},
		{"volumes", []string{"raid0", "raid1", "raid10", "raid456", "dm_mod", "dm_crypt", "dm_thin_pool", "dm_snapshot", "dm_mirror"}},
		{"networking", []string{"bonding", "8021q"}},
		{"crypto", []string{"crc32c_intel", "crc32c_generic", "crct10dif_pclmul", "aesni_intel", "xts", "sha256_ssse3"}},
	}
}

// ByName lists the modules that process 1 loads by name because no device
// announces them (they have no modalias): access to the BMC, raw SCSI, EFI
// variables, BIOS disk data, loop devices.
func ByName() []string {
	return []string{"efivarfs", "ipmi_devintf", "sg", "edd", "loop"}
}

// Modules returns the names of all classes, sorted, each once.
func Modules() []string {
	var names []string
	for _, c := range Classes() {
		names = append(names, c.Modules...)
	}
	for i, n := range names {
		names[i] = normal(n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
