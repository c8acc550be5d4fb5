package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Hash is a SHA-256 value.
type Hash [sha256.Size]byte

// Sum is the SHA-256 of data.
func Sum(data []byte) Hash { return sha256.Sum256(data) }

// String gives 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Digest names an image: "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

const digestPrefix = "sha256:"

// ErrDigest is what ParseDigest wraps.
var ErrDigest = errors.New("not an image digest (want sha256: and 64 lower-case hexadecimal digits)")

// DigestOf is the digest of the canonical bytes of a manifest.
func DigestOf(canonical []byte) Digest {
	return Digest(digestPrefix + Sum(canonical).String())
}

// ParseDigest accepts a digest with its "sha256:" or without, and nothing
// else, so that the result is safe as a file name or as a part of a URL.
func ParseDigest(s string) (Digest, error) {
	hexPart := strings.TrimPrefix(s, digestPrefix)
	if len(hexPart) != 2*sha256.Size || !isLowerHex(hexPart) {
		return "", fmt.Errorf("%.80q: %w", s, ErrDigest)
	}
	return Digest(digestPrefix + hexPart), nil
}

// Hex is the digest without its "sha256:".
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

func isLowerHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
