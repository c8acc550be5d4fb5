// Package image keeps the controller's copies of images on its disk: imports
// them, checks them, serves their manifests and frames by range.
//
//	<dir>/<64 hex digits of the digest>/manifest.json, frames.zst
//	<dir>/.partial-*   being imported or deleted; removed when the store opens
//
// An image is in service when its directory stands there under its digest, and
// it is renamed to that name only once it is complete, synced, and every frame
// was read back and matched. Which images exist for whom, under what name, is
// rows in the database and no business of this package; a row says which
// controllers have a copy, and Store.Get tells whether this one does.
//
// Frames travel as plain HTTP under signed links (Signer), which are made for
// one machine and a short time. The link decides who may ask; that the bytes
// are right the machine knows by their hashes.
package image
