// Package ext4 tells which blocks of an ext2, ext3 or ext4 filesystem are free,
// so that an import may leave them out: what a filesystem once held there is
// of no use to anybody, and half of many images.
//
//	superblock ─> group descriptors ─> block bitmap of each group
//
// (Linux, Documentation/filesystems/ext4: super.rst, group_descr.rst,
// bitmaps.rst.) A wrong answer here destroys data, so only what is beyond doubt
// is read: a filesystem that was cleanly unmounted, without a journal to
// replay, without errors, without orphans, with known features only; whose
// checksums are right where it has any, and whose bitmaps have as many free
// blocks as its descriptors and its superblock say. All of that is checked by
// Open, and what fails is refused by name. Groups whose bitmap was never made
// (BLOCK_UNINIT) are left alone; nothing was written to them either.
package ext4
