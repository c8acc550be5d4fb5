// Package seal keeps secrets at rest: envelope encryption with a key file that
// all controllers of one installation share.
//
// Each secret is encrypted with a data key of its own; the data key is wrapped
// with the file's key. So a new file key needs only the wrappings made again.
//
//	version 1 | key id 8 | nonce 24 | wrapped data key 48 | ciphertext + tag 16
//
// Both layers are XChaCha20-Poly1305 and bound to a context, the table, column
// and row that the secret lives in: a sealed value moved elsewhere does not open.
package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	version    = 1
	keyIDSize  = 8
	wrapped    = KeySize + chacha20poly1305.Overhead
	headerSize = 1 + keyIDSize + chacha20poly1305.NonceSizeX + wrapped
)

// KeySize is the size of a key in bytes.
const KeySize = 32

// ErrUnknownKey says that a value was sealed with a key that is not in the
// keyring: most likely the controller has another key file than its peers.
var ErrUnknownKey = errors.New("sealed with a key that is not in the key file; give every controller the same --key-file")

// ErrDamaged says that a sealed value was changed, cut, or moved.
var ErrDamaged = errors.New("sealed value is damaged or belongs elsewhere")

// Keyring seals with its first key and opens with any. The zero Keyring cannot
// be used. Safe for parallel use; a copy is the same keyring.
type Keyring struct{ keys []key }

type key struct {
	id     [keyIDSize]byte
	secret [KeySize]byte
}

// New makes a keyring of keys of KeySize bytes, the one to seal with first.
func New(keys ...[]byte) (Keyring, error) {
	if len(keys) == 0 {
		return Keyring{}, errors.New("a keyring needs at least one key")
	}
	var ring Keyring
	for i, k := range keys {
		if len(k) != KeySize {
			return Keyring{}, fmt.Errorf("key %d has %d bytes, want %d", i+1, len(k), KeySize)
		}
		var one key
		copy(one.secret[:], k)
		sum := sha256.Sum256(append([]byte("ingot key id\x00"), k...))
		copy(one.id[:], sum[:])
		ring.keys = append(ring.keys, one)
	}
	return ring, nil
}

// Valid reports whether the keyring can be used.
func (r Keyring) Valid() bool { return len(r.keys) > 0 }

// String never shows a key.
func (r Keyring) String() string { return fmt.Sprintf("keyring of %d keys", len(r.keys)) }

// GoString never shows a key either (%#v).
func (r Keyring) GoString() string { return r.String() }

// Seal encrypts plain for one place, such as "bmc.password/k3f9qa".
func (r Keyring) Seal(plain []byte, place string) ([]byte, error) {
	if !r.Valid() {
		return nil, errors.New("seal a secret: the keyring is empty")
	}
	var random [chacha20poly1305.NonceSizeX + KeySize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	nonce, dataKey := random[:chacha20poly1305.NonceSizeX], random[chacha20poly1305.NonceSizeX:]
	k := r.keys[0]
	out := append([]byte{version}, k.id[:]...)
	out = append(out, nonce...)
	out = encrypt(out, k.secret[:], nonce, dataKey, "key:"+place)
	// The data key is used once, so its nonce may be constant.
	return encrypt(out, dataKey, make([]byte, chacha20poly1305.NonceSizeX), plain, "data:"+place), nil
}

// Open decrypts what Seal made for the same place. Errors: ErrUnknownKey,
// ErrDamaged.
func (r Keyring) Open(sealed []byte, place string) ([]byte, error) {
	k, nonce, wrappedKey, data, err := r.parse(sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	dataKey, err := decrypt(k.secret[:], nonce, wrappedKey, "key:"+place)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	plain, err := decrypt(dataKey, make([]byte, chacha20poly1305.NonceSizeX), data, "data:"+place)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place, err)
	}
	return plain, nil
}

// Digest is a keyed hash of parts for one purpose, 32 bytes. It is made with the
// first key, so it changes when the key does.
func (r Keyring) Digest(purpose string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, r.keys[0].secret[:])
	for _, p := range append([][]byte{[]byte("ingot digest"), []byte(purpose)}, parts...) {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return h.Sum(nil)
}

func (r Keyring) parse(sealed []byte) (k key, nonce, wrappedKey, data []byte, err error) {
	if len(sealed) < headerSize+chacha20poly1305.Overhead || sealed[0] != version {
		return k, nil, nil, nil, ErrDamaged
	}
	id, rest := sealed[1:1+keyIDSize], sealed[1+keyIDSize:]
	for _, k := range r.keys {
		if bytes.Equal(k.id[:], id) {
			n := chacha20poly1305.NonceSizeX
			return k, rest[:n], rest[n : n+wrapped], rest[n+wrapped:], nil
		}
	}
	return k, nil, nil, nil, ErrUnknownKey
}

func encrypt(dst, key, nonce, plain []byte, place string) []byte {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // the size of key is ours
	}
	return aead.Seal(dst, nonce, plain, []byte(place))
}

func decrypt(key, nonce, data []byte, place string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // the size of key is ours
	}
	plain, err := aead.Open(nil, nonce, data, []byte(place))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}
