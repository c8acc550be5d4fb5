// Package manifest says what an image is: its kind, its sizes, where each
// frame lies in the packed file and what it must hash to.
//
// An image is two files. The packed file ("frames.zst") is plain zstd in the
// seekable layout, one independent zstd frame (RFC 8878 section 3.1) for each
// FrameSizeBytes of input; the manifest tells everything else. Whoever holds
// the manifest's digest can take frames from anybody:
//
//	digest ──> manifest ──> packed SHA-256 of each frame, checked before decoding
//	                   └──> XXH3 and SHA-256 of its content, checked after
//	                        decoding and when it is read back from the disk
//	                   └──> holes: frames that must read as zero, never fetched
//
// # Canonical form
//
// The digest is SHA-256 over the canonical bytes, so there is exactly one way
// to write a manifest, and Parse refuses every other:
//
//   - one JSON object in UTF-8, without any white space and without a newline
//     at its end;
//   - members in the order of the Go struct Manifest (version, kind, name,
//     architecture, sector_size, size_bytes, frame_size_bytes,
//     packed_size_bytes, boot, holes, frames); name and boot are left out when
//     they are empty, and so is each empty member of boot; nothing else may be
//     left out, nothing may be added, nothing may stand twice;
//   - numbers are decimal integers without sign, leading zero or exponent;
//   - hashes are lower-case hexadecimal, XXH3 as 16 digits (big-endian);
//   - strings hold printable ASCII only; of these only the quotation mark and
//     the backslash are escaped, each by one backslash;
//   - holes are maximal runs of zero frames, ascending, each [first, count];
//   - frames are the rows of the frames that are no holes, ascending, each
//     [offset, packed size, packed SHA-256, XXH3, SHA-256].
//
// # Signatures
//
// A signature is detached and covers the canonical bytes. It therefore never
// changes the digest, several may stand beside one manifest, and a reader that
// knows nothing of them still reads it. A change of the format itself raises
// Version, and a reader refuses versions it does not know.
package manifest
