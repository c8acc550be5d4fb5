// Package boot makes the machine start what was installed on it: at once by
// kexec, and at every later power-on by the firmware's boot order.
//
// Kexec reads kernel, initrd and command line from the installed system's own
// boot loader configuration (GRUB, or entries of the Boot Loader Specification)
// and never guesses a path. What it cannot read is one of the errors
// ErrNoConfig, ErrNoEntry, ErrNoFile, ErrNotAllowed; the caller reboots then and
// gives the error as the reason. The configuration comes from an image, which
// is not trusted to read the agent's own files: paths never lead out of the
// filesystems that the caller names.
//
// OrderDiskFirst writes a boot entry for the disk's loader into the firmware's
// variables (UEFI 2.10 sections 3.1 and 3.3) and reads everything back. On BIOS
// there is no such order to write; the BMC's persistent override does it.
package boot
