// Package sign makes and checks detached signatures of manifests, in the format
// of the program minisign (https://jedisct1.github.io/minisign, ed25519), so that
// nothing of ours is needed to make, keep or check one:
//
//	minisign -S -s me.key -m manifest.json -x image.minisig
//	minisign -V -p me.pub -m manifest.json -x image.minisig
//
// What is signed is the canonical manifest, byte for byte: it names every frame
// of the disk by its hash, so a signature of it is one of the whole image.
// Signatures are four lines,
//
//	untrusted comment: anything; covered by nothing, and never shown
//	base64 of: algorithm (2 bytes), key id (8), signature (64)
//	trusted comment: covered by the next line
//	base64 of: signature of the second line's signature and the trusted comment
//
// with algorithm "ED" (of the message's BLAKE2b-512, what minisign makes today)
// or "Ed" (of the message itself, older). There must be one way only to write
// what is signed: base64 with stray bits, or lines too many, are refused.
//
// A key id finds a key and proves nothing.
package sign
