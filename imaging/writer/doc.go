// Package writer puts an image onto a disk: frames fetched in runs, decoded in
// parallel, written aligned and direct, holes made really zero, everything
// flushed and then read back from the medium before it says done.
//
//	Source ─ runs ─> fetchers ─ packed frames ─> workers ─> Target
//	                             SHA-256 checked  decode, XXH3 checked, write
//	         holes ────────────────────────────────────────> Target.ZeroRange
//	then  flush  ─ Report.WriteTime, FlushTime
//	then  read back, content hash of every frame ─ Report.VerifyTime
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
// Power cut, crash or cancelled context: call Write again with Resume. Nothing
// that was noted before the cut is believed; every frame is read and hashed,
// and those that match are kept.
//
// The first hardware error ends the write, as a *SectorError that names the
// sector. A frame with a wrong hash is fetched anew a few times, from another
// source if there is one, and is then a *HashError.
package writer
