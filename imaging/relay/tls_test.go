package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"testing"
	"time"
)

// authority signs certificates of agents as the controller does.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject: pkix.Name{CommonName: "authority"}})
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// machine gives the TLS options of a machine with that name in its certificate.
func (a *authority) machine(name string, usage x509.ExtKeyUsage) *TLS {
	cert, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{usage}})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &TLS{Roots: roots, Certificate: func() *tls.Certificate {
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	}}
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	img := newImage(60)
	good, other := newAuthority(t), newAuthority(t)
	const agent = x509.ExtKeyUsageClientAuth
	for name, test := range map[string]struct {
		server, reader *TLS
		want           Failure // of the peer, as the reader sees it
	}{
		"both are who they say":      {good.machine("server", agent), good.machine("reader", agent), ""},
		"another machine serves":     {good.machine("server2", agent), good.machine("reader", agent), FailureIdentity},
		"another authority's serves": {other.machine("server", agent), good.machine("reader", agent), FailureIdentity},
		"no agent serves":            {good.machine("server", x509.ExtKeyUsageServerAuth), good.machine("reader", agent), FailureIdentity},
		"another machine reads":      {good.machine("server", agent), good.machine("reader2", agent), FailureRefused},
		"another authority's reads":  {good.machine("server", agent), other.machine("reader", agent).trusting(good), FailureUnreachable},
		"no agent reads":             {good.machine("server", agent), good.machine("reader", x509.ExtKeyUsageServerAuth), FailureUnreachable},
		"nobody reads in clear text": {good.machine("server", agent), nil, FailureUnreachable},
	} {
		server := newMember(t, img, "server", func(o *Options) { o.TLS = test.server })
		reader := newMember(t, img, "reader", func(o *Options) { o.TLS = test.reader })
		reader.SetUpstream(server.peer())
		writeAll(t, []*member{server, reader})
		s := reader.State()
		if s.Failure != test.want {
			t.Errorf("%s: got failure %q, want %q", name, s.Failure, test.want)
		}
		if got := s.FromPeers > 0; got != (test.want == "") {
			t.Errorf("%s: got %d bytes from the peer", name, s.FromPeers)
		}
	}
}

// A stranger without a certificate gets no answer at all.
func TestStrangerOverTLS(t *testing.T) {
	t.Parallel()
	img := newImage(6)
	server := newMember(t, img, "server", func(o *Options) { o.TLS = newAuthority(t).machine("server", x509.ExtKeyUsageClientAuth) })
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(server.url + "/")
	if err == nil {
		resp.Body.Close()
		t.Errorf("got %s, want no answer", resp.Status)
	}
}

// trusting gives the same machine with another authority to believe.
func (t *TLS) trusting(a *authority) *TLS {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &TLS{Certificate: t.Certificate, Roots: roots}
}
