// Package pack turns a disk image as people have it (raw, compressed raw,
// qcow2) into the two files of an Ingot image: the packed frames and the
// manifest (imaging/manifest says what they are).
//
//	input ─ frames of content ─> workers ─ packed, hashed ─> frames.zst, in order
//	                                                               └─> rows of the manifest
//	then  partition table looked at ─ everything read back and checked ─ manifest.json
//
// frames.zst is one zstd frame for each frame of content, holes included (a
// hole of 1 MiB takes some 50 bytes), and a seek table in a skippable frame at
// the end. So `zstd -d` yields the raw disk, and any reader of zstd's seekable
// format can jump. Only the manifest knows that a hole need not be fetched.
//
// The format is what the user says it is, and the first bytes must agree: a
// raw disk whose guest wrote a qcow2 header into sector 0 must not be read as
// qcow2, and the other way round. Recognise guesses for a person to confirm.
// Nothing untrusted is handed to other programs; qcow2 images with a backing
// file, an external data file or encryption are refused, since they name other
// files or need a secret.
//
// A stream is read by one goroutine. A raw or qcow2 file is read by the workers
// themselves, so that holes of a sparse file cost nothing and compressed
// clusters are unpacked on all cores.
//
// A directory is complete or absent: files are made in a temporary directory,
// synced, checked, and renamed.
package pack

// Names of the two files.
const (
	FramesFile   = "frames.zst"
	ManifestFile = "manifest.json"
)
