// Package image builds the two operating systems that the lab, the demo and the
// scenarios deploy, as raw disk images.
//
//   - Tiny is Debian's cloud kernel and one Go program (tinyinit) on an ext4
//     root: it reads the seed, takes its address by DHCP, reports its first boot
//     and stays up. Seconds under emulation.
//   - Debian is a lean Debian 12 with cloud-init and an SSH server, made from
//     Debian's packages by debian.sh.
//
// Both have the same disk, sectors of 512 bytes and a GPT:
//
//	1  BIOS boot partition  GRUB's core image, started by the boot code in sector 0
//	2  EFI system partition EFI/BOOT/BOOTX64.EFI (Debian's signed shim and GRUB)
//	3  root, the last one   ext4, label "root", /boot/grub/grub.cfg
//
// grub.cfg has one entry of plain linux and initrd lines, so GRUB on either
// firmware and an agent that parses it for kexec start the same system. Every
// build has its own filesystem and partition UUIDs: two builds on the disks of
// one machine can be told apart.
//
// Packages come from Debian's archive and are checked with its keyring. Nothing
// needs root, loop devices or a mount: without root mmdebstrap unpacks in a user
// namespace, and fakeroot remembers the owners of files until mke2fs has read
// them. Results stay in a cache directory under a key made from everything that
// goes into them.
package image
