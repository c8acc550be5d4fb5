// Package writer puts an image onto one disk, or onto several at once (Mirror):
// frames fetched in runs, decoded in parallel, written aligned and direct, holes
// made really zero, everything flushed and then read back from the medium before
// it says done.
//
//	               blank both ends, flush
//	Source ─ runs ─> fetchers ─ packed frames ─> workers ─> Target
//	           │                  SHA-256 checked  decode, XXH3 checked, write
//	  Target ─ checkers (Resume, Reuse): what is right is kept
//	         holes ────────────────────────────────────────> Target.ZeroRange
//	then  flush, write the end, flush, the start, flush ─ Report.WriteTime, FlushTime
//	then  read back, hash of every frame ─ Report.VerifyTime
//
// Memory is bounded by Options.MemoryBytes (128 MiB unless told otherwise),
// whatever the image: a fixed set of buffers goes round, and who finds none
// waits.
//
// # What a used disk does
//
// Nothing is assumed about old content. Holes are zeroed by the cheapest call
// of the moment that guarantees zeros, with a fallback for each call and not
// once at the start, since queues have been seen to change their mind; discard
// is never trusted. Reading back checks the holes too, and a hole that does not
// read as zero is written with zeros by hand once before that is an error.
// Bytes beyond the image are left alone; WipeSignatures is for those that
// could be mistaken for something later.
//
// # When it ends early
//
// Before anything else is changed, the first and the last 64 KiB of the image's
// range (boot code, partition table, backup table) are zeroed and flushed; they
// are written once all the rest is on the medium, the end before the start. So a
// cut at any moment leaves a disk that holds the whole image, or one that no
// firmware starts from, and never half of an old system and half of a new one. A
// disk that does not read back right has its ends zeroed again.
//
// Power cut, crash or cancelled context: call Write again with Resume. Nothing
// that was noted before the cut is believed; every frame is read and hashed,
// and those that match are kept.
//
// The first hardware error ends the write, as a *SectorError that names the
// sector. A frame with a wrong hash is fetched anew a few times, from another
// source if there is one, and is then a *HashError.
//
// # The same disk again
//
// Resume and Reuse read the disk ahead of the fetchers, so that reading,
// fetching and writing overlap. A frame that is there is kept: its SHA-256 is
// compared whatever Options.Proof says, since somebody else chose what an old
// disk holds. It was read from the medium in this very run (caches dropped, past
// the page cache) and is not written, so it is not read back again; a Flush
// follows in case it came from the drive's own cache. Of other frames only the
// runs of 4 KiB granules are written that differ, and then the whole frame is
// read back. When a sample of the disk shows that hardly anything is right, it
// becomes a plain write.
package writer
