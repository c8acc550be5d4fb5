package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// keyName is what a trusted key may be called.
var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}$`)

// verdicts remembers which signatures were checked, for manifests are long and
// lists are asked for often.
type verdicts struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]verdict
}

type verdict struct {
	good    bool
	comment string
}

// maxVerdicts bounds what is remembered.
const maxVerdicts = 4096

// of gives the verdict about a signature of an image by a key, from memory or by
// looking. What cannot be looked at is not remembered and not good.
func (v *verdicts) of(digest string, sig sign.Signature, key sign.Key, manifest func() ([]byte, error)) verdict {
	at := sha256.Sum256([]byte(digest + "\x00" + key.String() + "\x00" + string(sig.Text())))
	v.mu.Lock()
	got, ok := v.seen[at]
	v.mu.Unlock()
	if ok {
		return got
	}
	data, err := manifest()
	if err != nil {
		return verdict{}
	}
	got.comment, got.good = sig.By(key, data)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil || len(v.seen) >= maxVerdicts {
		v.seen = map[[sha256.Size]byte]verdict{}
	}
	v.seen[at] = got
	return got
}

// manifestOf gets an image's canonical manifest, once.
func (s *Server) manifestOf(ctx context.Context, digest string) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		d, err := manifest.ParseDigest(digest)
		if err != nil {
			return nil, err
		}
		return s.c.Manifest(ctx, d)
	})
}

// canonical is the manifest that an image's signatures are of.
func (s *Server) canonical(ctx context.Context, img Image) ([]byte, error) {
	data, err := s.manifestOf(ctx, img.Digest)()
	if err == nil {
		return data, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fault.Wrap(fault.Precondition, err, "no controller that can be reached gives the manifest of image %s; its copies are at: %s", img.Label(), wordsOr(img.HostedOn, "none"))
}

// showSignatures says of each signature whose it is, as checked here.
func (s *Server) showSignatures(ctx context.Context, i Image, keys []store.TrustedKey) []*operator.ImageSignature {
	var out []*operator.ImageSignature
	read := s.manifestOf(ctx, i.Digest)
	for _, kept := range i.Signatures {
		shown := &operator.ImageSignature{KeyId: kept.KeyID, Signature: kept.Text}
		sig, err := sign.ParseSignature(kept.Text)
		for _, k := range keys {
			key, keyErr := sign.ParseKey(k.PublicKey)
			if err != nil || keyErr != nil || k.KeyID != kept.KeyID {
				continue
			}
			if v := s.verdicts.of(i.Digest, sig, key, read); v.good {
				shown.TrustedBy, shown.Comment = k.Name, v.comment
			}
		}
		out = append(out, shown)
	}
	return out
}

// checkTrust refuses an image that the machine's pool would not have, with the
// reason that a later refusal would have too. The agent checks it again.
func (s *Server) checkTrust(ctx context.Context, m machine.Machine, img Image) error {
	t, err := s.c.Store.ImageTrust(ctx, m.Pool, img.Digest)
	if err != nil || !t.Required {
		return err
	}
	var keys []string
	for _, k := range t.Keys {
		keys = append(keys, k.PublicKey)
	}
	canonical, err := s.canonical(ctx, img)
	if err != nil {
		return err
	}
	_, err = sign.Verify(canonical, t.Signatures, keys)
	if err == nil {
		return nil
	}
	reason := machine.ReasonSignatureWrong
	switch {
	case errors.Is(err, sign.ErrMissing):
		reason = machine.ReasonSignatureMissing
	case errors.Is(err, sign.ErrUntrusted):
		reason = machine.ReasonSignatureForeign
	}
	c := machine.CauseOf(reason)
	return fault.New(fault.Precondition, "%s: pool %s of machine %s requires signed images. %s %s", reason, m.Pool, m.ID, c.Sentence,
		strings.ReplaceAll(c.NextFor(m.ID), "IMAGE", img.Label()))
}

// ImageSign keeps a detached signature of an image's manifest. One that names a
// trusted key must be that key's.
func (s *Server) ImageSign(ctx context.Context, r *operator.ImageSignRequest) (*operator.Image, error) {
	sig, err := sign.ParseSignature(r.GetSignature())
	if err != nil {
		return nil, fault.New(fault.Invalid, "%v", err)
	}
	img, err := s.imageNamed(ctx, r.GetImage(), "")
	if err != nil {
		return nil, err
	}
	if err := s.keepSignature(ctx, img, sig); err != nil {
		return nil, err
	}
	if img, err = s.c.Store.ImageGet(ctx, img.Digest); err != nil {
		return nil, err
	}
	return s.imageShown(ctx, img)
}

func (s *Server) keepSignature(ctx context.Context, img Image, sig sign.Signature) error {
	keys, err := s.c.Store.TrustedKeyList(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		key, err := sign.ParseKey(k.PublicKey)
		if err != nil || key.ID() != sig.KeyID() {
			continue
		}
		canonical, err := s.canonical(ctx, img)
		if err != nil {
			return err
		}
		if _, ok := sig.By(key, canonical); !ok {
			return fault.New(fault.Invalid, "the signature names key %s (%s) and is not that key's signature of image %s; sign what ingot image export --format manifest gives",
				k.KeyID, k.Name, digestWord(img.Digest))
		}
	}
	return s.c.Store.ImageSign(ctx, img.Digest, store.Signature{KeyID: sig.KeyID().String(), Text: sig.Text()}, auth.Actor(ctx))
}

// ImageUnsign forgets a signature.
func (s *Server) ImageUnsign(ctx context.Context, r *operator.ImageUnsignRequest) (*operator.Image, error) {
	id, err := sign.ParseKeyID(r.GetKeyId())
	if err != nil {
		return nil, fault.New(fault.Invalid, "%v", err)
	}
	img, err := s.imageNamed(ctx, r.GetImage(), "")
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.ImageUnsign(ctx, img.Digest, id.String(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	if img, err = s.c.Store.ImageGet(ctx, img.Digest); err != nil {
		return nil, err
	}
	return s.imageShown(ctx, img)
}

func showKey(k store.TrustedKey) *operator.TrustedKey {
	return &operator.TrustedKey{Name: k.Name, KeyId: k.KeyID, PublicKey: k.PublicKey, CreatedAt: at(k.CreatedAt), CreatedBy: k.CreatedBy}
}

// TrustedKeyList lists the keys whose signatures count.
func (s *Server) TrustedKeyList(ctx context.Context, _ *operator.TrustedKeyListRequest) (*operator.TrustedKeyListResponse, error) {
	keys, err := s.c.Store.TrustedKeyList(ctx)
	if err != nil {
		return nil, err
	}
	answer := &operator.TrustedKeyListResponse{}
	for _, k := range keys {
		answer.Keys = append(answer.Keys, showKey(k))
	}
	return answer, nil
}

// TrustedKeyAdd trusts a key from now on.
func (s *Server) TrustedKeyAdd(ctx context.Context, r *operator.TrustedKeyAddRequest) (*operator.TrustedKey, error) {
	if !keyName.MatchString(r.GetName()) || strings.HasSuffix(r.GetName(), "\n") {
		return nil, fault.New(fault.Invalid, "name of a key %.80q: want at most 63 letters, digits and . _ @ + -", r.GetName())
	}
	key, err := sign.ParseKey(r.GetPublicKey())
	if err != nil {
		return nil, fault.New(fault.Invalid, "%v", err)
	}
	k := store.TrustedKey{Name: r.GetName(), KeyID: key.ID().String(), PublicKey: key.String()}
	if err := s.c.Store.TrustedKeyAdd(ctx, k, auth.Actor(ctx)); err != nil {
		return nil, err
	}
	keys, err := s.c.Store.TrustedKeyList(ctx)
	for _, kept := range keys {
		if kept.Name == k.Name {
			k = kept
		}
	}
	return showKey(k), err
}

// TrustedKeyDelete trusts a key no more.
func (s *Server) TrustedKeyDelete(ctx context.Context, r *operator.TrustedKeyDeleteRequest) (*emptypb.Empty, error) {
	if err := checkWord("name of a key", r.GetName()); err != nil {
		return nil, err
	}
	if err := s.c.Store.TrustedKeyDelete(ctx, r.GetName(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
