// Package gpt reads a GUID partition table (UEFI specification 2.10, section
// 5.3) and makes the few changes that putting an image on a larger disk takes:
//
//	image:  [MBR|GPT|..ESP..|....root....|backup]
//	disk:   [MBR|GPT|..ESP..|....root...............>|cidata 8 MiB|backup]
//
// The backup moves to the end of the disk, the seed partition goes right
// before it, and the root partition grows up to the seed. Sectors of 512 and of
// 4096 bytes are both at home; nothing here assumes one of them.
//
// What it does not do, it names: an MBR (ErrMBR), a root partition that has
// another partition behind it (ErrRootNotLast), no room (ErrNoRoom). Tables are
// hostile input: sizes are bounded, both CRCs are demanded, overlapping or
// outlying partitions are refused.
//
// Write puts the backup down and flushes before it touches the primary, so
// that a power cut leaves at least one table whose checksums hold; Read takes
// the backup when the primary is damaged.
package gpt
