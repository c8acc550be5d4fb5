package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

// Bounds of what Verify looks at.
const (
	// MaxSignatureBytes is the length of one signature with its comments.
	MaxSignatureBytes = 1 << 10
	// MaxSignatures of one image.
	MaxSignatures = 16
	// MaxKeys that are trusted.
	MaxKeys = 64
	// maxKeyBytes is the length of a public key's file.
	maxKeyBytes = 1 << 10
)

// Errors of Verify, by which callers decide. Every refusal is one of them.
var (
	// ErrMissing: there is no signature at all.
	ErrMissing = errors.New("the image is not signed")
	// ErrUntrusted: no signature bears the id of a trusted key.
	ErrUntrusted = errors.New("no signature is by a trusted key")
	// ErrWrong: one bears the id of a trusted key and is not that key's, or is of
	// another manifest.
	ErrWrong = errors.New("the signature is not one of this image")
	// ErrMalformed: something is no signature or no key, or too large.
	ErrMalformed = errors.New("malformed")
)

// KeyID names a key pair.
type KeyID uint64

// String is the id as minisign prints it: 16 digits, upper case.
func (k KeyID) String() string { return fmt.Sprintf("%016X", uint64(k)) }

// ParseKeyID reads up to 16 hexadecimal digits.
func ParseKeyID(s string) (KeyID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) > 16 {
		return 0, fmt.Errorf("key id %.40q: want at most 16 hexadecimal digits", s)
	}
	return KeyID(n), nil
}

// Key is a public key.
type Key struct{ key minisign.PublicKey }

// ParseKey reads a public key: its one line of base64, or the whole of a .pub
// file. An error wraps ErrMalformed.
func ParseKey(text string) (Key, error) {
	if len(text) > maxKeyBytes {
		return Key{}, fmt.Errorf("public key: %w: %d bytes, at most %d are read", ErrMalformed, len(text), maxKeyBytes)
	}
	body := strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n"))
	if rest, ok := strings.CutPrefix(body, "untrusted comment: "); ok {
		_, body, _ = strings.Cut(rest, "\n")
	}
	var k minisign.PublicKey
	if err := k.UnmarshalText([]byte(body)); err != nil {
		return Key{}, fmt.Errorf("public key: %w: want a line of base64 that begins with RW, or the file that holds it", ErrMalformed)
	}
	if k.String() != body {
		return Key{}, fmt.Errorf("public key: %w: it is not written in the one way that there is", ErrMalformed)
	}
	return Key{k}, nil
}

// ID names the key.
func (k Key) ID() KeyID { return KeyID(k.key.ID()) }

// String is the key's one line of base64.
func (k Key) String() string { return k.key.String() }

// Signature is one that was read and not checked.
type Signature struct {
	text []byte
	read minisign.Signature
}

// ParseSignature reads a signature as minisign writes it. An error wraps
// ErrMalformed.
func ParseSignature(text []byte) (Signature, error) {
	if len(text) > MaxSignatureBytes {
		return Signature{}, fmt.Errorf("signature: %w: %d bytes, at most %d are taken", ErrMalformed, len(text), MaxSignatureBytes)
	}
	s := Signature{text: append(bytes.TrimRight(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), "\n"), '\n')}
	if err := s.read.UnmarshalText(s.text); err != nil {
		return Signature{}, fmt.Errorf("signature: %w: want the four lines of a minisign signature file", ErrMalformed)
	}
	if canonical, err := s.read.MarshalText(); err != nil || !bytes.Equal(canonical, s.text) {
		return Signature{}, fmt.Errorf("signature: %w: it is not written in the one way that there is", ErrMalformed)
	}
	return s, nil
}

// KeyID is the id of the key that the signature claims to be by.
func (s Signature) KeyID() KeyID { return KeyID(s.read.KeyID) }

// Text is the signature as a file holds it. Do not change it.
func (s Signature) Text() []byte { return s.text }

// By reports whether the signature is one of these bytes by this key, and gives
// the comment that it covers; there is none of a signature that is not.
func (s Signature) By(k Key, message []byte) (comment string, ok bool) {
	if s.KeyID() != k.ID() || !minisign.Verify(k.key, message, s.text) {
		return "", false
	}
	return s.read.TrustedComment, true
}

// Verify reports the key, one of keys (as ParseKey reads them), whose signature
// of the canonical manifest is among signatures. All keys must be readable, and
// one good signature is enough: others may be by people that are unknown here.
// Every error wraps one of this package's.
func Verify(canonical []byte, signatures [][]byte, keys []string) (KeyID, error) {
	if len(signatures) > MaxSignatures || len(keys) > MaxKeys {
		return 0, fmt.Errorf("%w: %d signatures and %d keys, at most %d and %d are looked at", ErrMalformed, len(signatures), len(keys), MaxSignatures, MaxKeys)
	}
	trusted := make([]Key, len(keys))
	for i, text := range keys {
		var err error
		if trusted[i], err = ParseKey(text); err != nil {
			return 0, fmt.Errorf("trusted key %d: %w", i+1, err)
		}
	}
	if len(signatures) == 0 {
		return 0, ErrMissing
	}
	verdict := ErrUntrusted
	for i, text := range signatures {
		s, err := ParseSignature(text)
		if err != nil {
			verdict = worse(verdict, fmt.Errorf("signature %d: %w", i+1, err))
			continue
		}
		for _, k := range trusted {
			if s.KeyID() != k.ID() {
				continue
			}
			if _, ok := s.By(k, canonical); ok {
				return k.ID(), nil
			}
			verdict = fmt.Errorf("key %s: %w", k.ID(), ErrWrong)
		}
	}
	return 0, verdict
}

// worse keeps the verdict that tells most: a wrong signature by a trusted key is
// no slip of the pen.
func worse(had, now error) error {
	if errors.Is(had, ErrWrong) {
		return had
	}
	return now
}

// ParseKeys reads a list of public keys: one a line, or .pub files one after the
// other; lines that begin with # are for people. It gives the keys as Verify
// takes them. A list without a key is ErrMalformed: who wants none has no list.
func ParseKeys(list string) ([]string, error) {
	var keys []string
	for _, line := range strings.Split(strings.ReplaceAll(list, "\r\n", "\n"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("list of trusted keys: %w", err)
		}
		if keys = append(keys, k.String()); len(keys) > MaxKeys {
			return nil, fmt.Errorf("list of trusted keys: %w: more than %d", ErrMalformed, MaxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("list of trusted keys: %w: there is no key in it", ErrMalformed)
	}
	return keys, nil
}

// OfStream is By for what does not fit into memory. A signature of the older
// kind, which is made without hashing first, is ErrMalformed here.
func (s Signature) OfStream(k Key, r io.Reader) (comment string, ok bool, err error) {
	if s.read.Algorithm != minisign.HashEdDSA {
		return "", false, fmt.Errorf("signature: %w: it is of the older kind; sign with minisign 0.10 or newer, which hashes first", ErrMalformed)
	}
	hashed := minisign.NewReader(r)
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return "", false, err
	}
	if s.KeyID() != k.ID() || !hashed.Verify(k.key, s.text) {
		return "", false, nil
	}
	return s.read.TrustedComment, true, nil
}
