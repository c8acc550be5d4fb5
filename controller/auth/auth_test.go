package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/proto/fault"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T) *auth.Authority {
	t.Helper()
	cert, key, err := auth.NewAuthority(now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.OpenAuthority(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T) auth.Request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := auth.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAgentCertificate(t *testing.T) {
	t.Parallel()
	a := authority(t)
	r := request(t)
	signed, err := a.SignAgent(r, "k3f9qa", 7, now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(signed.DER)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.VerifyAgent(cert, now, false)
	if err != nil {
		t.Fatal(err)
	}
	want := auth.Agent{MachineID: "k3f9qa", BootGeneration: 7, KeySHA256: r.KeySHA256, NotAfter: signed.NotAfter.Truncate(time.Second)}
	if got != want {
		t.Errorf("identity: got %+v, want %+v", got, want)
	}
	late := signed.NotAfter.Add(time.Hour)
	if _, err := a.VerifyAgent(cert, late, false); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("expired certificate: got %v, want Unauthenticated", err)
	}
	if _, err := a.VerifyAgent(cert, late, true); err != nil {
		t.Errorf("expired certificate, for renewing: got %v, want none", err)
	}
	if _, err := authority(t).VerifyAgent(cert, now, true); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("certificate of another authority: got %v, want Unauthenticated", err)
	}
}

func TestServerCertificateIsNoAgent(t *testing.T) {
	t.Parallel()
	a := authority(t)
	tc, err := a.ServerCertificate(now, []string{"10.99.0.1", "ingot.example"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(tc.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.VerifyHostname("10.99.0.1"); err != nil {
		t.Error(err)
	}
	if _, err := a.VerifyAgent(cert, now, false); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a listener's certificate as an agent's: got %v, want Unauthenticated", err)
	}
}

type tokens map[string]string

func (t tokens) TokenCheck(_ context.Context, token string) (string, error) {
	if actor, ok := t[token]; ok {
		return actor, nil
	}
	return "", fault.New(fault.Unauthenticated, "unknown token")
}

func TestChokepoint(t *testing.T) {
	t.Parallel()
	c := auth.NewChokepoint(auth.Table{"/s/Open": auth.Public, "/s/Ask": auth.Operator}, tokens{"right": "admin"})
	for _, tc := range []struct {
		method, header string
		want           fault.Kind
		actor          string
		in             bool
	}{
		{method: "/s/Open", in: true},
		{method: "/s/Ask", want: fault.Unauthenticated},
		{method: "/s/Ask", header: "Bearer wrong", want: fault.Unauthenticated},
		{method: "/s/Ask", header: "right", want: fault.Unauthenticated},
		{method: "/s/Ask", header: "Bearer right", in: true, actor: "admin"},
		{method: "/s/Forgotten", header: "Bearer right", want: fault.Denied},
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", tc.header))
		ctx, err := c.Check(ctx, tc.method)
		if tc.in != (err == nil) || !tc.in && fault.KindOf(err) != tc.want {
			t.Errorf("%s with %q: got %v, want kind %v", tc.method, tc.header, err, tc.want)
			continue
		}
		if tc.in && auth.Actor(ctx) != tc.actor {
			t.Errorf("%s: actor got %q, want %q", tc.method, auth.Actor(ctx), tc.actor)
		}
	}
}
