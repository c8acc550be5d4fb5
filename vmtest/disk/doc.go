// Package disk is a disk for a virtual machine that can lose power like a real
// one: an NBD server (the protocol's public description, doc/proto.md of the
// NBD project) on a Unix socket over a sparse file, with a volatile write
// cache in between.
//
//	guest write ──> cache (RAM, bounded) ──> file (stable)
//	                  │      flush, FUA, or forced out when full
//	                  └──> PlugPull: lost, kept or torn, sector by sector
//
// QEMU's own page cache never loses anything when QEMU is killed, so without
// this an image writer that forgets to flush would pass every test.
//
// What makes writes stable: NBD FLUSH, a write with FUA, eviction when the
// cache is full (chosen at random), and Close. A connection that ends does
// not: the disk keeps power when a guest is reset, and the cache with it. (QEMU
// itself flushes when it quits in good order, so an orderly shutdown loses
// nothing.)
package disk
