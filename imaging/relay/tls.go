package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// TLS is how machines show each other who they are: by the certificates that
// they got for this boot, whose common name is the machine's id.
type TLS struct {
	// Certificate gives this machine's, which may be renewed at any time.
	Certificate func() *tls.Certificate
	// Roots is the authority of the agents' certificates.
	Roots *x509.CertPool
}

// errIdentity is a certificate of nobody, or of somebody else.
var errIdentity = errors.New("the peer is not the machine that it should be")

// server demands a certificate; the name in it is compared with the token's.
func (t *TLS) server(now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.Certificate(), nil },
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection:       func(c tls.ConnectionState) error { return t.verify(c, now()) },
		Time:                   now,
	}
}

// client accepts the peer named id and nobody else.
func (t *TLS) client(id string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate(), nil },
		// Certificates of agents name machines and no hosts: the check below
		// takes the place of the usual one.
		InsecureSkipVerify: true,
		Time:               now,
		VerifyConnection: func(c tls.ConnectionState) error {
			if err := t.verify(c, now()); err != nil {
				return err
			}
			if got := c.PeerCertificates[0].Subject.CommonName; got != id {
				return fmt.Errorf("%w: its certificate is for machine %.140q", errIdentity, got)
			}
			return nil
		},
	}
}

// verify takes certificates of agents only, which are all for clients; the
// controller's is not.
func (t *TLS) verify(c tls.ConnectionState, now time.Time) error {
	if len(c.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it shows no certificate", errIdentity)
	}
	_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: t.Roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errIdentity, err)
	}
	return nil
}
