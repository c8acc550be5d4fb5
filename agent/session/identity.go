package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

const (
	keyFile         = "key"
	certificateFile = "certificate"
)

// Enrolled is who the controller says that this machine is.
type Enrolled struct {
	MachineID      string
	MachineName    string
	BootGeneration uint64
	Certificate    []byte // DER
}

// identity is the key of this boot and what it was enrolled as.
type identity struct {
	vault vault
	key   *ecdsa.PrivateKey

	mu       sync.Mutex // guards the fields below
	enrolled Enrolled
	leaf     *x509.Certificate // nil before enrolment
}

// openIdentity finds the key of this boot, or makes it.
func openIdentity(v vault) (*identity, error) {
	id := &identity{vault: v}
	der, err := v.read(keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := id.makeKey(); err != nil {
			return nil, err
		}
		return id, nil
	case err != nil:
		return nil, err
	}
	if id.key, err = x509.ParseECPrivateKey(der); err != nil {
		return nil, fmt.Errorf("read the agent's key: %w", err)
	}
	var e Enrolled
	if err := v.load(certificateFile, &e); err != nil {
		return nil, err
	}
	if len(e.Certificate) == 0 {
		return id, nil
	}
	return id, id.accept(e)
}

func (id *identity) makeKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the agent's key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make the agent's key: %w", err)
	}
	id.key = key
	return id.vault.write(keyFile, der)
}

// request makes the PKCS #10 request that Enrol and Renew carry.
func (id *identity) request() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: "ingot-agent"}}, id.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return der, nil
}

// accept takes a certificate into use after checking that it is one for our
// key, and saves it.
func (id *identity) accept(e Enrolled) error {
	leaf, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return fmt.Errorf("certificate from the controller: %w", err)
	}
	if !id.key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("certificate from the controller: it is for another key than ours")
	}
	if e.MachineID == "" || len(e.MachineID) > 128 {
		return fmt.Errorf("certificate from the controller: machine id %.140q", e.MachineID)
	}
	if err := id.vault.save(certificateFile, e); err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.enrolled, id.leaf = e, leaf
	return nil
}

// renewed replaces the certificate alone.
func (id *identity) renewed(certificate []byte) error {
	e := id.current()
	e.Certificate = certificate
	return id.accept(e)
}

func (id *identity) current() Enrolled {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.enrolled
}

// lifetime gives the certificate's begin and end; zero before enrolment.
func (id *identity) lifetime() (from, to time.Time) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf == nil {
		return time.Time{}, time.Time{}
	}
	return id.leaf.NotBefore, id.leaf.NotAfter
}

func (id *identity) certificate() *tls.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.leaf == nil {
		return &tls.Certificate{}
	}
	return &tls.Certificate{Certificate: [][]byte{id.enrolled.Certificate}, PrivateKey: id.key, Leaf: id.leaf}
}
