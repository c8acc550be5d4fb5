package session

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// ErrWrongController is wrapped when the server's certificate does not chain to
// the CA that this boot was told to trust.
var ErrWrongController = errors.New("the server is not the controller that this boot was told to trust")

// PinnedTLS gives a client configuration that trusts one CA, known by the
// SHA-256 of its certificate (64 lower-case hexadecimal digits), for the host
// of address (host:port). The server has to send the CA's certificate in its
// chain. now is the clock for lifetimes; nil means time.Now.
func PinnedTLS(address, fingerprint string, now func() time.Time) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("controller %q: %w", address, err)
	}
	pin, err := hex.DecodeString(fingerprint)
	if err != nil || len(pin) != sha256.Size {
		return nil, fmt.Errorf("fingerprint of the controller's CA %.80q is not 64 hexadecimal digits", fingerprint)
	}
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: host,
		Time:       now,
		// The usual check knows no way to trust a CA by its hash; the one below
		// replaces it, and runs for resumed handshakes too.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			return verify(c.PeerCertificates, [sha256.Size]byte(pin), host, now())
		},
	}, nil
}

// pinned finds the CA in a chain that was verified.
func pinned(chain []*x509.Certificate, fingerprint string) *x509.Certificate {
	for _, c := range chain {
		if sum := sha256.Sum256(c.Raw); strings.EqualFold(hex.EncodeToString(sum[:]), fingerprint) {
			return c
		}
	}
	return nil
}

func verify(chain []*x509.Certificate, pin [sha256.Size]byte, host string, now time.Time) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrWrongController)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range chain[1:] {
		if c.IsCA && sha256.Sum256(c.Raw) == pin {
			roots.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if !found {
		return fmt.Errorf("%w: the CA with SHA-256 %x is not in its chain", ErrWrongController, pin)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: host, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrongController, err)
	}
	return nil
}
