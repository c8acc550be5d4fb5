package image

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Errors of Signer.Check.
var (
	ErrSignature = errors.New("the link is not signed by this site")
	ErrExpired   = errors.New("the link has expired")
)

// names of the query parameters of a signed link
const (
	paramMachine   = "machine"
	paramExpires   = "expires"
	paramSignature = "signature"
)

// Signer makes and checks links that let one machine read one path for a short
// time: HMAC-SHA256 over path, machine id and expiry, the same for GET and
// HEAD. Controllers that share a key accept each other's links.
type Signer struct {
	keys [][]byte
	now  func() time.Time
}

// NewSigner signs with the first key and accepts all of them, so that a key can
// be replaced. Each has at least 32 bytes. now is the clock; nil: time.Now.
func NewSigner(now func() time.Time, keys ...[]byte) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("sign image links: there is no key")
	}
	for _, key := range keys {
		if len(key) < 32 {
			return nil, fmt.Errorf("sign image links: a key has %d bytes, want 32 or more", len(key))
		}
	}
	if now == nil {
		now = time.Now
	}
	return &Signer{keys: keys, now: now}, nil
}

// ManifestPath and FramesPath are what to sign for an image.
func ManifestPath(d manifest.Digest) string { return "/images/" + d.Hex() + "/manifest" }

// FramesPath is the path of the packed file.
func FramesPath(d manifest.Digest) string { return "/images/" + d.Hex() + "/frames" }

// Sign gives the path with the query that Check wants, to be appended to a
// controller's base URL. expires is rounded down to seconds.
func (s *Signer) Sign(path, machineID string, expires time.Time) string {
	stamp := strconv.FormatInt(expires.Unix(), 10)
	query := url.Values{
		paramMachine: {machineID}, paramExpires: {stamp},
		paramSignature: {base64.RawURLEncoding.EncodeToString(mac(s.keys[0], path, machineID, stamp))},
	}
	return path + "?" + query.Encode()
}

// Check gives the machine id of a link that is ours and still good, or
// ErrSignature or ErrExpired. The signature is compared in constant time and
// before anything else is said.
func (s *Signer) Check(path string, query url.Values) (machineID string, err error) {
	machineID, stamp := query.Get(paramMachine), query.Get(paramExpires)
	got, err := base64.RawURLEncoding.DecodeString(query.Get(paramSignature))
	if err != nil {
		return "", ErrSignature
	}
	ok := false
	for _, key := range s.keys {
		ok = hmac.Equal(got, mac(key, path, machineID, stamp)) || ok
	}
	if !ok {
		return "", ErrSignature
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", ErrSignature
	}
	if !s.now().Before(time.Unix(seconds, 0)) {
		return "", ErrExpired
	}
	return machineID, nil
}

// mac puts the length before each part, so that no two triples look alike.
func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("ingot image link 1"))
	for _, part := range parts {
		fmt.Fprintf(h, "\n%d:%s", len(part), part)
	}
	return h.Sum(nil)
}
