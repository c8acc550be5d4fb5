package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"aead.dev/minisign"
)

// ErrPassword: the secret key is not opened by this password.
var ErrPassword = errors.New("the password does not open the secret key, or the file is damaged")

// maxSecretBytes is the length of a secret key's file.
const maxSecretBytes = 4 << 10

// Secret is a secret key, opened.
type Secret struct{ key minisign.PrivateKey }

// OpenSecret reads the file of a minisign secret key. password is asked only if
// the file is encrypted; that takes a second and a GiB of memory (scrypt with
// the parameters that the file names, up to minisign's own).
func OpenSecret(file []byte, password func() (string, error)) (Secret, error) {
	if len(file) > maxSecretBytes {
		return Secret{}, fmt.Errorf("secret key: %w: %d bytes, at most %d are read", ErrMalformed, len(file), maxSecretBytes)
	}
	file = bytes.TrimSpace(bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n")))
	if !minisign.IsEncrypted(file) {
		var k minisign.PrivateKey
		if err := k.UnmarshalText(file); err != nil {
			return Secret{}, fmt.Errorf("secret key: %w: want a file that minisign -G made", ErrMalformed)
		}
		return Secret{k}, nil
	}
	word, err := password()
	if err != nil {
		return Secret{}, err
	}
	k, err := minisign.DecryptKey(word, file)
	if err != nil {
		return Secret{}, ErrPassword
	}
	return Secret{k}, nil
}

// Public is the key that checks what the secret one signs.
func (s Secret) Public() Key { return Key{s.key.Public().(minisign.PublicKey)} }

// Sign makes a signature of the message with a comment that it covers, a line of
// text of at most 512 bytes.
func (s Secret) Sign(message []byte, comment string) ([]byte, error) {
	if len(comment) > 512 || bytes.ContainsAny([]byte(comment), "\r\n\x00") {
		return nil, fmt.Errorf("comment of a signature: want one line of at most 512 bytes")
	}
	r := minisign.NewReader(bytes.NewReader(message))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	public := s.Public()
	text := r.SignWithComments(s.key, comment, "signature by minisign key "+public.ID().String())
	made, err := ParseSignature(text)
	if err != nil {
		return nil, err
	}
	// A damaged secret key signs as well, and gives itself away by it.
	if _, ok := made.By(public, message); !ok {
		return nil, fmt.Errorf("sign: the secret key is damaged: its signature is not that of its own public key %s", public.ID())
	}
	return text, nil
}

// NewSecret makes a key pair.
func NewSecret() (Secret, error) {
	_, k, err := minisign.GenerateKey(nil)
	return Secret{k}, err
}

// File is the secret key as a file for minisign, encrypted if there is a
// password.
func (s Secret) File(password string) ([]byte, error) {
	if password == "" {
		return s.key.MarshalText()
	}
	return minisign.EncryptKey(password, s.key)
}

// File is the public key as a file for minisign.
func (k Key) File() []byte {
	return []byte("untrusted comment: minisign public key " + k.ID().String() + "\n" + k.String() + "\n")
}
