package api_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/operator"
)

func secretOf(t *testing.T) sign.Secret {
	t.Helper()
	s, err := sign.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSignedOnly: a pool that requires signed images has them refused at the
// door, by the reason's name, until a trusted key has signed.
func TestSignedOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	img, m := s.image("debian"), s.ready(1)
	pools := operator.NewPoolServiceClient(s.dial(s.token))
	if _, err := pools.PoolAdd(t.Context(), &operator.PoolAddRequest{Name: "strict", RequireSignedImages: true}); err != nil {
		t.Fatal(err)
	}
	pool := "strict"
	if got, err := s.machines.MachineSet(t.Context(), &operator.MachineSetRequest{Machine: m.GetId(), Pool: &pool}); err != nil || got.GetPool() != pool {
		t.Fatalf("got pool %s, %v", got.GetPool(), err)
	}
	if list, err := s.machines.MachineList(t.Context(), &operator.MachineListRequest{Filter: "pool=strict"}); err != nil || len(list.GetMachines()) != 1 {
		t.Errorf("filter: %v, %v", list, err)
	}
	deploy := func() error {
		_, err := s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: m.GetId(), Image: "debian"})
		return err
	}
	wantCode(t, "not signed", deploy(), codes.FailedPrecondition, "image_signature_missing", "strict", "ingot image sign debian")
	site, stranger := secretOf(t), secretOf(t)
	s.signWith(stranger, img)
	wantCode(t, "nobody trusted", deploy(), codes.FailedPrecondition, "image_signature_untrusted")
	if _, err := s.images.TrustedKeyAdd(t.Context(), &operator.TrustedKeyAddRequest{Name: "site", PublicKey: site.Public().String()}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "signed by a stranger", deploy(), codes.FailedPrecondition, "image_signature_untrusted")
	signed := s.signWith(site, img)
	if got := signed.GetSignatures(); len(got) != 2 {
		t.Fatalf("got %d signatures, want 2", len(got))
	}
	for _, sig := range signed.GetSignatures() {
		if trusted := sig.GetKeyId() == site.Public().ID().String(); trusted != (sig.GetTrustedBy() == "site") || trusted != (sig.GetComment() == "test") {
			t.Errorf("got %v", sig)
		}
	}
	if err := deploy(); err != nil {
		t.Errorf("signed: %v", err)
	}
	_, err := pools.PoolDelete(t.Context(), &operator.PoolDeleteRequest{Name: "strict"})
	wantCode(t, "delete of a pool with machines", err, codes.FailedPrecondition, m.GetId())
}

// TestSignatureOfSomethingElse: one that names a trusted key is checked when it
// comes, and one that came before its key was trusted when it is shown and used.
func TestSignatureOfSomethingElse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	img := s.image("debian")
	site := secretOf(t)
	other, err := site.Sign([]byte("something else"), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.ImageSign(t.Context(), &operator.ImageSignRequest{Image: img.GetDigest(), Signature: other}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.TrustedKeyAdd(t.Context(), &operator.TrustedKeyAddRequest{Name: "site", PublicKey: site.Public().String()}); err != nil {
		t.Fatal(err)
	}
	got, err := s.images.ImageGet(t.Context(), &operator.ImageGetRequest{Image: "debian"})
	if err != nil || got.GetSignatures()[0].GetTrustedBy() != "" || got.GetSignatures()[0].GetComment() != "" {
		t.Errorf("got %v, %v, want it to be nobody's", got, err)
	}
	on := true
	if _, err := operator.NewPoolServiceClient(s.dial(s.token)).PoolSet(t.Context(), &operator.PoolSetRequest{Name: "default", RequireSignedImages: &on}); err != nil {
		t.Fatal(err)
	}
	_, err = s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: s.ready(1).GetId(), Image: "debian"})
	wantCode(t, "wrong signature", err, codes.FailedPrecondition, "image_signature_wrong")
	_, err = s.images.ImageSign(t.Context(), &operator.ImageSignRequest{Image: "debian", Signature: other})
	wantCode(t, "wrong signature by a trusted key", err, codes.InvalidArgument, "not that key's signature")
	for what, text := range map[string][]byte{"nothing": nil, "garbage": []byte("x"), "too long": append(bytes.Repeat([]byte("x"), 2000), other...)} {
		_, err = s.images.ImageSign(t.Context(), &operator.ImageSignRequest{Image: "debian", Signature: text})
		wantCode(t, what, err, codes.InvalidArgument)
	}
	if code, text := s.rest("DELETE", "/v1/images/debian/signatures/"+site.Public().ID().String(), s.token, nil); code != 200 || strings.Contains(text, "keyId") {
		t.Errorf("forget it: %d %s", code, text)
	}
	_, err = s.images.ImageUnsign(t.Context(), &operator.ImageUnsignRequest{Image: "debian", KeyId: "1"})
	wantCode(t, "forget none", err, codes.NotFound)
	_, err = s.images.ImageUnsign(t.Context(), &operator.ImageUnsignRequest{Image: "debian", KeyId: "not hex"})
	wantCode(t, "no key id", err, codes.InvalidArgument)
}

// TestTrustAndPoolsAreJudged: bad words are refused with a sentence.
func TestTrustAndPoolsAreJudged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := secretOf(t).Public().String()
	for what, r := range map[string]*operator.TrustedKeyAddRequest{
		"no name": {PublicKey: key}, "a bad name": {Name: "a/b", PublicKey: key}, "no key": {Name: "a"}, "a secret": {Name: "a", PublicKey: "RWQ"},
	} {
		_, err := s.images.TrustedKeyAdd(t.Context(), r)
		wantCode(t, what, err, codes.InvalidArgument)
	}
	if code, text := s.rest("POST", "/v1/trusted-keys", s.token, map[string]any{"name": "a", "publicKey": key}); code != 200 {
		t.Errorf("add: %d %s", code, text)
	}
	if code, text := s.rest("POST", "/v1/trusted-keys", s.token, map[string]any{"name": "b", "publicKey": key}); code != 409 {
		t.Errorf("add twice: %d %s", code, text)
	}
	if code, text := s.rest("DELETE", "/v1/trusted-keys/a", s.token, nil); code != 200 {
		t.Errorf("delete: %d %s", code, text)
	}
	for _, c := range []struct {
		method, path string
		body         any
		want         int
	}{
		{"GET", "/v1/pools", nil, 200},
		{"POST", "/v1/pools", map[string]any{"name": "Gold Pool"}, 400},
		{"POST", "/v1/pools", map[string]any{"name": "gold"}, 200},
		{"POST", "/v1/pools", map[string]any{"name": "gold"}, 409},
		{"PATCH", "/v1/pools/gold", map[string]any{}, 400},
		{"PATCH", "/v1/pools/gold", map[string]any{"requireSignedImages": true}, 200},
		{"DELETE", "/v1/pools/gold", nil, 200},
		{"DELETE", "/v1/pools/default", nil, 400},
		{"PATCH", "/v1/machines/none", map[string]any{"pool": "default"}, 404},
	} {
		if code, text := s.rest(c.method, c.path, s.token, c.body); code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, code, text, c.want)
		}
	}
	if code, text := s.rest("PATCH", "/v1/machines/"+s.add(1).GetId(), s.token, map[string]any{"pool": "none"}); code != 404 {
		t.Errorf("a pool that is none: %d %s", code, text)
	}
}
