// Package qcow2 reads and writes QEMU's disk image format, versions 2 and 3
// (QEMU, docs/interop/qcow2.rst), as far as an image stands for itself: no
// backing file, no external data file, no encryption. Each of these is refused
// by name, and so is every incompatible feature that is not known here.
//
//	header ─> L1 table ─> L2 tables ─> clusters: plain, zlib, zstd, or zero
//
// What it reads is hostile. The header is judged before anything is allocated:
// the first table takes at most 32 MiB, a second one and a cluster at most 2
// MiB each, whatever the file says. A place outside the file, a place that is
// not where a cluster can begin and a reserved bit are damage, never zeros: a
// file that was cut off must not become a disk with holes. Refcounts and
// snapshots are not looked at; they do not change what the disk reads as.
//
// Reading happens through cursors, one for each goroutine, so that clusters
// are unpacked on all cores.
package qcow2
