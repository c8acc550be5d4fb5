// Package image keeps the controller's copies of images on its disk: imports
// them, checks them, gets those that other controllers have, and serves their
// manifests and frames by range.
//
//	<dir>/<64 hex digits of the digest>/manifest.json, frames.zst
//	<dir>/.partial-*   being imported or deleted; removed when the store opens
//	<dir>/.pull-*      being got from another controller; gone on with
//
// An image is in service when its directory stands there under its digest, and
// it is renamed to that name only once it is complete, synced, and every frame
// has matched its hash. Which images exist for whom, under what name, is rows
// in the database and no business of this package; a row says which controllers
// have a copy, and Store.Get tells whether this one does.
//
// How a range gets out:
//
//	link (Signer): who is it for, until when
//	 └─ a place is free (slots) ─ or 503 with Retry-After
//	     └─ the order is still open (Access) ─ or 403
//	         └─ private: TLS and the machine's own certificate ─ or 403
//	             └─ here, or arriving (Puller)
//	                 └─ pieces: order still open? rate (egress)? peer alive? ─► sendfile
//
// Frames of public images travel as plain HTTP: the link decides who may ask,
// and that the bytes are right the machine knows by their hashes.
//
// A Puller makes any process with a Store an edge cache: what it needs of the
// others is the small interface Copies.
package image
