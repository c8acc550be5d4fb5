// Package auth decides who is who: the controller's own certificate authority
// for agents and for its listeners, the identity in an agent's certificate, and
// the one chokepoint that every operator's request passes, default deny.
package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	// authorityLife is long because agents and installed systems pin it.
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 397 * 24 * time.Hour
	// AgentLife is how long an agent's certificate lives; it renews at half.
	AgentLife = 24 * time.Hour
	// backdate allows for clocks that are behind.
	backdate = 10 * time.Minute
)

// Authority signs certificates. Its key never leaves the controllers that share
// the database, where it is kept sealed.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes a CA certificate and its key (PKCS #8), both DER.
func NewAuthority(now time.Time) (certificate, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Ingot authority"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if certificate, err = x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer); err != nil {
		return nil, nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(signer); err != nil {
		return nil, nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	return certificate, key, nil
}

// OpenAuthority reads what NewAuthority made.
func OpenAuthority(certificate, key []byte) (*Authority, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w", err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read the authority's key: %T cannot sign", parsed)
	}
	return &Authority{Certificate: cert, key: signer}, nil
}

// Fingerprint is the hex SHA-256 of the certificate's DER, as it travels on an
// agent's command line.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.Certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// PEM is the certificate as installed systems and command lines pin it.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// ServerCertificate makes a leaf for the controller's listeners, valid for the
// hosts (names or addresses), with the authority in its chain so that an agent
// that knows only the fingerprint can check it.
func (a *Authority) ServerCertificate(now time.Time, hosts []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the listeners' key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Ingot controller"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign the listeners' certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.Certificate.Raw}, PrivateKey: key}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail on a running kernel
	}
	return n
}
