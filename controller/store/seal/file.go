package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile bounds what is read as a key file: some dozens of keys.
const maxFile = 8 << 10

// ReadFile reads a key file: one key a line, 64 hexadecimal digits; empty lines
// and lines that begin with # do not count. The first key seals. The file must
// not be readable by others.
func ReadFile(path string) (Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return Keyring{}, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Keyring{}, fmt.Errorf("read key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Keyring{}, fmt.Errorf("key file %s is readable by others (mode %#o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if info.Size() > maxFile {
		return Keyring{}, fmt.Errorf("key file %s has %d bytes, at most %d are read", path, info.Size(), maxFile)
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		return Keyring{}, fmt.Errorf("read key file: %w", err)
	}
	return parseFile(path, text)
}

func parseFile(path string, text []byte) (Keyring, error) {
	var keys [][]byte
	for n, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		k := make([]byte, hex.DecodedLen(len(line)))
		if _, err := hex.Decode(k, line); err != nil || len(k) != KeySize {
			// The line itself is never shown: it may be a key with a typing error.
			return Keyring{}, fmt.Errorf("key file %s, line %d: want %d hexadecimal digits", path, n+1, 2*KeySize)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return Keyring{}, fmt.Errorf("key file %s holds no key", path)
	}
	return New(keys...)
}

// EnsureFile reads the key file, making one with a random key (mode 0600) when
// there is none. When two processes race, both get the same key.
func EnsureFile(path string) (Keyring, error) {
	ring, err := ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	if err := createFile(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return Keyring{}, fmt.Errorf("make key file %s: %w", path, err)
	}
	return ReadFile(path)
}

// createFile writes beside and links into place, so that a reader never sees
// half a key and a crash leaves none.
func createFile(path string) error {
	var k [KeySize]byte
	if _, err := rand.Read(k[:]); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# Ingot: opens the secrets in the database. Losing it loses them.\n%x\n", k)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
