package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Agent is who an agent's certificate says it is.
type Agent struct {
	MachineID      string
	BootGeneration uint64
	// KeySHA256 is the SHA-256 of the public key (SubjectPublicKeyInfo).
	KeySHA256 [sha256.Size]byte
	NotAfter  time.Time
}

// Request is a certificate request that was checked.
type Request struct {
	csr       *x509.CertificateRequest
	KeySHA256 [sha256.Size]byte
}

// maxRequest bounds a certificate request, in bytes.
const maxRequest = 8 << 10

// ParseRequest checks a PKCS #10 request: its size and its own signature, which
// proves that the asker has the key. What else it says is ignored.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > maxRequest {
		return Request{}, fault.New(fault.Invalid, "certificate request has %d bytes, at most %d are read", len(der), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return Request{}, fault.Wrap(fault.Invalid, err, "read certificate request")
	}
	return Request{csr: csr, KeySHA256: sha256.Sum256(csr.RawSubjectPublicKeyInfo)}, nil
}

// Signed is a certificate that was given to an agent.
type Signed struct {
	DER      []byte
	Serial   string // hex
	NotAfter time.Time
}

// SignAgent gives the certificate of one machine's one boot.
func (a *Authority) SignAgent(r Request, machineID string, generation uint64, now time.Time) (Signed, error) {
	notAfter := now.Add(AgentLife)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: machineID},
		NotBefore: now.Add(-backdate), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "ingot", Opaque: "machine/" + machineID + "/boot/" + strconv.FormatUint(generation, 10)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, r.csr.PublicKey, a.key)
	return Signed{DER: der, Serial: template.SerialNumber.Text(16), NotAfter: notAfter}, fault.Wrap(fault.Unknown, err, "sign the certificate of machine %s", machineID)
}

// VerifyAgent checks a client certificate against the authority and reads the
// identity in it. With expiredToo a certificate past its end is accepted: that
// is for renewing only, and the caller must check that the boot is current.
func (a *Authority) VerifyAgent(cert *x509.Certificate, now time.Time, expiredToo bool) (Agent, error) {
	at := now
	if expiredToo && now.After(cert.NotAfter) {
		at = cert.NotAfter
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return Agent{}, fault.Wrap(fault.Unauthenticated, err, "check the agent's certificate")
	}
	for _, u := range cert.URIs {
		parts := strings.Split(u.Opaque, "/")
		if u.Scheme != "ingot" || len(parts) != 4 || parts[0] != "machine" || parts[2] != "boot" {
			continue
		}
		generation, err := strconv.ParseUint(parts[3], 10, 64)
		if err == nil {
			return Agent{MachineID: parts[1], BootGeneration: generation, KeySHA256: sha256.Sum256(cert.RawSubjectPublicKeyInfo), NotAfter: cert.NotAfter}, nil
		}
	}
	return Agent{}, fault.New(fault.Unauthenticated, "the agent's certificate names no machine and boot")
}
