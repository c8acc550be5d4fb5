package sign_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"

	"github.com/ingot-metal/ingot/imaging/sign"
)

var message = []byte(`{"version":1,"kind":"disk"}`)

func newSecret(t testing.TB) sign.Secret {
	t.Helper()
	s, err := sign.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signed(t testing.TB, s sign.Secret, what []byte) []byte {
	t.Helper()
	text, err := s.Sign(what, "timestamp:1 file:manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestVerify(t *testing.T) {
	t.Parallel()
	mine, other := newSecret(t), newSecret(t)
	good, foreign := signed(t, mine, message), signed(t, other, message)
	elsewhere := signed(t, mine, []byte("another manifest"))
	_, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	legacy := minisign.Sign(private, message)
	legacyKey := private.Public().(minisign.PublicKey).String()
	// A signature of mine that another key claims as its own.
	var claim minisign.Signature
	if err := claim.UnmarshalText(good); err != nil {
		t.Fatal(err)
	}
	claim.KeyID = uint64(other.Public().ID())
	stolen := []byte(claim.String())

	me, them := mine.Public().String(), other.Public().String()
	for name, c := range map[string]struct {
		signatures [][]byte
		keys       []string
		want       error
	}{
		"good":               {[][]byte{good}, []string{me}, nil},
		"key file":           {[][]byte{good}, []string{string(mine.Public().File())}, nil},
		"CRLF":               {[][]byte{bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n"))}, []string{me}, nil},
		"legacy":             {[][]byte{legacy}, []string{legacyKey}, nil},
		"one of two":         {[][]byte{foreign, good}, []string{me}, nil},
		"behind a wrong one": {[][]byte{elsewhere, good}, []string{me}, nil},
		"behind garbage":     {[][]byte{[]byte("garbage"), good}, []string{me}, nil},
		"missing":            {nil, []string{me}, sign.ErrMissing},
		"no keys":            {[][]byte{good}, nil, sign.ErrUntrusted},
		"untrusted":          {[][]byte{foreign}, []string{me}, sign.ErrUntrusted},
		"another manifest":   {[][]byte{elsewhere}, []string{me}, sign.ErrWrong},
		"stolen":             {[][]byte{stolen}, []string{them}, sign.ErrWrong},
		"garbage":            {[][]byte{[]byte("garbage")}, []string{me}, sign.ErrMalformed},
		"wrong and garbage":  {[][]byte{elsewhere, []byte("garbage")}, []string{me}, sign.ErrWrong},
		"bad key":            {[][]byte{good}, []string{me, "RWxyz"}, sign.ErrMalformed},
		"empty key":          {[][]byte{good}, []string{""}, sign.ErrMalformed},
		"too many":           {make([][]byte, sign.MaxSignatures+1), []string{me}, sign.ErrMalformed},
		"too many keys":      {[][]byte{good}, make([]string, sign.MaxKeys+1), sign.ErrMalformed},
		"too long":           {[][]byte{append([]byte("untrusted comment: "+strings.Repeat("x", sign.MaxSignatureBytes)), good...)}, []string{me}, sign.ErrMalformed},
		"a line too many":    {[][]byte{append(bytes.Clone(good), "more\n"...)}, []string{me}, sign.ErrMalformed},
	} {
		id, err := sign.Verify(message, c.signatures, c.keys)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if err == nil && name != "legacy" && id != mine.Public().ID() {
			t.Errorf("%s: got key %s, want %s", name, id, mine.Public().ID())
		}
	}
}

func line(text []byte, n int) string { return strings.Split(string(text), "\n")[n] }

// TestEveryBit: no bit of signature, key or message may be another. What no
// signature covers is the text of the untrusted comment.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	secret := newSecret(t)
	_, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	legacyKey := private.Public().(minisign.PublicKey).String()
	for name, c := range map[string]struct {
		text []byte
		key  string
	}{
		"hashed": {signed(t, secret, message), secret.Public().String()},
		"legacy": {minisign.Sign(private, message), legacyKey},
	} {
		accepts := func(message, text []byte, key string) bool {
			_, err := sign.Verify(message, [][]byte{text}, []string{key})
			return err == nil
		}
		if !accepts(message, c.text, c.key) {
			t.Fatalf("%s: not accepted as it is", name)
		}
		comment := len("untrusted comment: ")
		end := bytes.IndexByte(c.text, '\n')
		each(c.text[:len(c.text)-1], func(at int, changed []byte) {
			if at >= comment && at < end {
				return
			}
			if accepts(message, append(bytes.Clone(changed), '\n'), c.key) {
				t.Errorf("%s: accepted with a changed bit at byte %d of the signature: %q", name, at, changed)
			}
		})
		each(message, func(at int, changed []byte) {
			if accepts(changed, c.text, c.key) {
				t.Errorf("%s: accepted with a changed bit at byte %d of the message", name, at)
			}
		})
		each([]byte(c.key), func(at int, changed []byte) {
			if accepts(message, c.text, string(changed)) {
				t.Errorf("%s: accepted with a changed bit at byte %d of the key: %q", name, at, changed)
			}
		})
	}
}

// each calls f with every text that differs in one bit.
func each(text []byte, f func(at int, changed []byte)) {
	for bit := range 8 * len(text) {
		changed := bytes.Clone(text)
		changed[bit/8] ^= 1 << (bit % 8)
		f(bit/8, changed)
	}
}

func TestCommentIsOfVerifiedOnly(t *testing.T) {
	t.Parallel()
	mine, other := newSecret(t), newSecret(t)
	s, err := sign.ParseSignature(signed(t, mine, message))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := s.By(mine.Public(), message); !ok || got != "timestamp:1 file:manifest.json" {
		t.Errorf("got %q %v", got, ok)
	}
	for _, c := range []struct {
		key     sign.Key
		message []byte
	}{{other.Public(), message}, {mine.Public(), []byte("x")}} {
		if got, ok := s.By(c.key, c.message); ok || got != "" {
			t.Errorf("got %q %v, want nothing", got, ok)
		}
	}
	for _, comment := range []string{"a\nb", strings.Repeat("x", 513)} {
		if _, err := mine.Sign(message, comment); err == nil {
			t.Errorf("comment %.10q was taken", comment)
		}
	}
}

// TestStock goes both ways with the program that the format is named after.
func TestStock(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("minisign")
	if err != nil {
		t.Fatal("this test needs minisign: apt install minisign (tools/deps.sh does)")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name string, data []byte) {
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) []byte {
		data, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	stock := func(stdin string, args ...string) error {
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("minisign %v: %w\n%s", args, err, out)
		}
		return nil
	}
	put("manifest.json", message)
	if err := stock("", "-G", "-W", "-p", "their.pub", "-s", "their.key"); err != nil {
		t.Fatal(err)
	}
	their, err := sign.OpenSecret(get("their.key"), func() (string, error) { return "", errors.New("asked for a password of a bare key") })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := their.Public().String(), line(get("their.pub"), 1); got != want {
		t.Errorf("public key: got %s, want %s", got, want)
	}
	for name, args := range map[string][]string{"hashed": {"-S"}, "legacy": {"-S", "-l"}} {
		if err := stock("", append(args, "-s", "their.key", "-m", "manifest.json", "-x", name)...); err != nil {
			t.Fatal(err)
		}
		if _, err := sign.Verify(message, [][]byte{get(name)}, []string{string(get("their.pub"))}); err != nil {
			t.Errorf("stock signature, %s: %v", name, err)
		}
	}
	put("ours", signed(t, their, message))
	if err := stock("", "-V", "-p", "their.pub", "-m", "manifest.json", "-x", "ours"); err != nil {
		t.Error(err)
	}
	mine := newSecret(t)
	put("my.pub", mine.Public().File())
	put("mine", signed(t, mine, message))
	if err := stock("", "-V", "-p", "my.pub", "-m", "manifest.json", "-x", "mine"); err != nil {
		t.Error(err)
	}
}

// TestPassword uses a file that stock minisign 0.11 made with a password.
func TestPassword(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/encrypted.key")
	if err != nil {
		t.Fatal(err)
	}
	say := func(word string) func() (string, error) { return func() (string, error) { return word, nil } }
	if _, err := sign.OpenSecret(file, say("wrong")); !errors.Is(err, sign.ErrPassword) {
		t.Errorf("wrong password: got %v, want %v", err, sign.ErrPassword)
	}
	s, err := sign.OpenSecret(file, say("only for this test"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("testdata/encrypted.pub")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign.Verify(message, [][]byte{signed(t, s, message)}, []string{string(public)}); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	secret := newSecret(f)
	f.Add(signed(f, secret, message))
	f.Add(secret.Public().File())
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := sign.ParseSignature(data); err == nil {
			if again, err := sign.ParseSignature(s.Text()); err != nil || !bytes.Equal(again.Text(), s.Text()) {
				t.Errorf("%q is read in two ways", data)
			}
		} else if !errors.Is(err, sign.ErrMalformed) {
			t.Errorf("got %v, want %v", err, sign.ErrMalformed)
		}
		if k, err := sign.ParseKey(string(data)); err == nil {
			if again, err := sign.ParseKey(k.String()); err != nil || again.String() != k.String() {
				t.Errorf("%q is read in two ways", data)
			}
		}
		_, _ = sign.OpenSecret(data, func() (string, error) { return "", sign.ErrPassword })
	})
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	a, b := newSecret(t).Public(), newSecret(t).Public()
	got, err := sign.ParseKeys("# ours\r\n" + string(a.File()) + "\n\n" + b.String())
	if err != nil || len(got) != 2 || got[0] != a.String() || got[1] != b.String() {
		t.Errorf("got %v %v, want both keys", got, err)
	}
	for _, list := range []string{"", "# none\n", "untrusted comment: x\n", a.String() + "\nRWx", strings.Repeat(a.String()+"\n", sign.MaxKeys+1)} {
		if got, err := sign.ParseKeys(list); !errors.Is(err, sign.ErrMalformed) {
			t.Errorf("%.60q: got %v %v, want %v", list, got, err, sign.ErrMalformed)
		}
	}
}

func TestOfStream(t *testing.T) {
	t.Parallel()
	mine, other := newSecret(t), newSecret(t)
	s, err := sign.ParseSignature(signed(t, mine, message))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  sign.Key
		text []byte
		want bool
	}{{mine.Public(), message, true}, {other.Public(), message, false}, {mine.Public(), message[1:], false}} {
		comment, ok, err := s.OfStream(c.key, bytes.NewReader(c.text))
		if err != nil || ok != c.want || (comment != "") != c.want {
			t.Errorf("got %q %v %v, want %v", comment, ok, err, c.want)
		}
	}
	_, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ParseKey(private.Public().(minisign.PublicKey).String())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = sign.ParseSignature(minisign.Sign(private, message)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.OfStream(key, bytes.NewReader(message)); ok || !errors.Is(err, sign.ErrMalformed) {
		t.Errorf("legacy: got %v %v, want %v", ok, err, sign.ErrMalformed)
	}
}
