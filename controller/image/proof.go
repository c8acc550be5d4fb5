package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/imaging/sign"
)

// ErrSourceProof: the source is not what its hash or its signature promises, or
// the promise itself cannot be read.
var ErrSourceProof = errors.New("the source is not the one that was promised")

// Proof is what a source is compared with; empty members are not.
type Proof struct {
	SHA256 string // 64 hexadecimal digits, of the source as it comes
	// PublicKey is minisign's: the line that begins with RW, or the file that
	// holds it. With it the source must bear a signature by this key: the text
	// of Signature, what SignatureURL gives, or of a URL what lies beside it
	// under the name with .minisig at its end.
	PublicKey    string
	Signature    string
	SignatureURL string
}

// proof is a Proof that was read.
type proof struct {
	sum       []byte // nil: none
	key       *minisign.PublicKey
	signature sign.Signature
}

func (p *proof) empty() bool { return p.sum == nil && p.key == nil }

// proof reads what was promised, and fetches the signature: before the source,
// which may be large.
func (i *importing) proof(ctx context.Context) (*proof, error) {
	want := i.src.Proof
	p := &proof{}
	if want.SHA256 != "" {
		sum, err := hex.DecodeString(want.SHA256)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("%w: SHA-256 %.80q: want 64 hexadecimal digits", ErrSourceProof, want.SHA256)
		}
		p.sum = sum
	}
	if want.PublicKey == "" {
		if want.Signature != "" || want.SignatureURL != "" {
			return nil, fmt.Errorf("%w: a signature without a public key proves nothing: state the key", ErrSourceProof)
		}
		return p, nil
	}
	key, err := sign.ParseKey(want.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSourceProof, err)
	}
	p.key = new(minisign.PublicKey)
	if err := p.key.UnmarshalText([]byte(key.String())); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSourceProof, err)
	}
	text, err := i.signatureText(ctx)
	if err != nil {
		return nil, err
	}
	if p.signature, err = sign.ParseSignature(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSourceProof, err)
	}
	if p.signature.KeyID() != key.ID() {
		return nil, fmt.Errorf("%w: its signature is by the key %s, stated is %s", ErrSourceProof, p.signature.KeyID(), key.ID())
	}
	return p, nil
}

func (i *importing) signatureText(ctx context.Context) ([]byte, error) {
	want := i.src.Proof
	if want.Signature != "" {
		return []byte(want.Signature), nil
	}
	from := want.SignatureURL
	if from == "" {
		u, err := url.Parse(i.src.URL)
		if i.src.URL == "" || err != nil {
			return nil, fmt.Errorf("%w: there is a public key and no signature", ErrSourceProof)
		}
		u.Path, u.RawPath = u.Path+".minisig", ""
		from = u.String()
	}
	var text small
	if _, err := i.s.downloads.Fetch(ctx, download.Request{URL: from, Hashed: true}, &text); err != nil {
		return nil, fmt.Errorf("signature of the source: %w", err)
	}
	return text.Bytes(), nil
}

// small is a download.File in memory, for a signature.
type small struct{ bytes.Buffer }

func (s *small) WriteAt(p []byte, _ int64) (int, error) {
	if s.Len()+len(p) > sign.MaxSignatureBytes {
		return 0, fmt.Errorf("%w: its signature has more than %d bytes", ErrSourceProof, sign.MaxSignatureBytes)
	}
	return s.Write(p)
}

func (s *small) Truncate(size int64) error { s.Buffer.Truncate(int(size)); return nil }

// check reads the whole source and compares it.
func (i *importing) check(ctx context.Context, f *os.File, size int64, p *proof) error {
	sum := sha256.New()
	signed := minisign.NewReader(io.NewSectionReader(f, 0, size))
	buf := make([]byte, 1<<20)
	var done int64
	var told time.Time
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := signed.Read(buf)
		sum.Write(buf[:n]) // a hash never fails
		done += int64(n)
		if now := time.Now(); now.Sub(told) >= 100*time.Millisecond {
			told = now
			i.tell(pack.Progress{Phase: "check", InputBytes: done, InputTotal: size})
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("check source: %w", err)
		}
	}
	if got := sum.Sum(nil); p.sum != nil && !bytes.Equal(got, p.sum) {
		return fmt.Errorf("%w: its SHA-256 is %x, promised is %s", ErrSourceProof, got, strings.ToLower(i.src.Proof.SHA256))
	}
	if p.key != nil && !signed.Verify(*p.key, p.signature.Text()) {
		return fmt.Errorf("%w: the signature is not one of these bytes by the stated key (one made without hashing first is not taken: sign with minisign 0.10 or newer)", ErrSourceProof)
	}
	return nil
}
