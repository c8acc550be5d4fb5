package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func ring(t *testing.T, fill ...byte) Keyring {
	t.Helper()
	var keys [][]byte
	for _, f := range fill {
		keys = append(keys, bytes.Repeat([]byte{f}, KeySize))
	}
	r, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	r := ring(t, 1)
	for _, plain := range []string{"", "secret", strings.Repeat("x", 1<<20)} {
		sealed, err := r.Seal([]byte(plain), "bmc.password/abc123")
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Open(sealed, "bmc.password/abc123")
		if err != nil || string(got) != plain {
			t.Errorf("%d bytes: got %d bytes, %v", len(plain), len(got), err)
		}
		if plain != "" && bytes.Contains(sealed, []byte(plain)) {
			t.Error("the secret can be read in what was sealed")
		}
		if again, _ := r.Seal([]byte(plain), "bmc.password/abc123"); bytes.Equal(again, sealed) {
			t.Error("sealing twice gives the same bytes")
		}
		if _, err := r.Open(sealed, "bmc.password/other1"); !errors.Is(err, ErrDamaged) {
			t.Errorf("moved to another row: got %v", err)
		}
		if _, err := ring(t, 2).Open(sealed, "bmc.password/abc123"); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("another key file: got %v", err)
		}
		if got, err := ring(t, 2, 1).Open(sealed, "bmc.password/abc123"); err != nil || string(got) != plain {
			t.Errorf("after a new key: got %v", err)
		}
	}
}

func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	r := ring(t, 1)
	sealed, err := r.Seal([]byte("secret"), "x")
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := r.Open(bad, "x"); err == nil {
			t.Errorf("byte %d changed: it still opens", i)
		}
		if _, err := r.Open(sealed[:i], "x"); err == nil {
			t.Errorf("cut to %d bytes: it still opens", i)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r, _ := New(make([]byte, KeySize))
	good, _ := r.Seal([]byte("secret"), "x")
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := r.Open(data, "x"); err == nil && string(plain) != "secret" {
			t.Errorf("opened %q", plain)
		}
	})
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	var wg sync.WaitGroup
	digests := make([]string, 8)
	for i := range digests { // controllers that start together
		wg.Go(func() {
			r, err := EnsureFile(path)
			if err != nil {
				t.Error(err)
				return
			}
			digests[i] = string(r.Digest("x"))
		})
	}
	wg.Wait()
	for _, d := range digests {
		if d != digests[0] {
			t.Fatal("two controllers made two keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: got %v", err)
	}
	for name, text := range map[string]string{"empty": "", "short": "abcd", "no hex": strings.Repeat("z", 64)} {
		if _, err := parseFile("key", []byte(text)); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	secret := Secret("hunter2")
	r := ring(t, 7)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret, "in", struct{ S Secret }{secret}, "ring", r)
	text, err := json.Marshal(map[string]any{"s": secret, "in": struct{ S Secret }{secret}})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(text) + fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v", secret, secret, secret, secret, secret, r, r, r)
	if strings.Contains(all, "hunter2") || strings.Contains(all, strings.Repeat("7, ", 4)) || strings.Contains(all, "0x7, 0x7") {
		t.Errorf("a secret shows: %s", all)
	}
	if secret.Reveal() != "hunter2" {
		t.Error("Reveal does not")
	}
}
