package metadata

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ReportTo says where and how an installed system reports.
type ReportTo struct {
	// URL is the https address of ReportHandler.
	URL string
	// Token is the one-time secret that pays for the report: 16 to 256
	// characters of A-Z a-z 0-9 - _ and dot.
	Token string
	// CAPEM is the certificate (one or more PEM blocks) that the server must be
	// signed by.
	CAPEM []byte
	// MachineID is the machine's short id.
	MachineID string
	// InstanceID is filled in by ParseReport; Render takes the seed's.
	InstanceID string
}

// reportScript is the POSIX shell script that vendor-data consists of; the head
// with the values is put in front of it. cloud-init stores it among the vendor
// scripts and runs it in its final stage (module scripts_vendor). A user can
// switch vendor-data off in his user-data; then there is no report.
//
//go:embed report.sh
var reportScript []byte

// The head of vendor-data, which a system without a shell reads too: one
// assignment a line, the value in single quotes, no quote inside; then the CA
// between the lines caBegin and caEnd.
const (
	keyURL      = "INGOT_REPORT_URL"
	keyToken    = "INGOT_REPORT_TOKEN"
	keyMachine  = "INGOT_MACHINE_ID"
	keyInstance = "INGOT_INSTANCE_ID"
	caBegin     = "ingot_ca() { cat <<'INGOT_CA_PEM'"
	caEnd       = "INGOT_CA_PEM"
	shebang     = "#!/bin/sh"
	headEnd     = "# end of the head"
)

// Validate says what is wrong; it never quotes the token.
func (r ReportTo) Validate() error {
	errs := []error{checkWord("machine id", r.MachineID)}
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || len(r.URL) > 1024 || !only(r.URL, alnum+"-._~:/?#[]@!$&()*+,;=%") {
		errs = append(errs, fmt.Errorf("report URL %.120q is not an https address", r.URL))
	}
	if len(r.Token) < 16 || len(r.Token) > 256 || !only(r.Token, alnum+"-_.") {
		errs = append(errs, errors.New("report token must have 16 to 256 letters, digits, hyphens, underscores or dots"))
	}
	if _, err := normalCA(r.CAPEM); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// normalCA writes the certificates again, so that nothing but PEM gets through.
func normalCA(in []byte) ([]byte, error) {
	if len(in) > 64<<10 {
		return nil, errors.New("report CA is larger than 64 KiB")
	}
	var out []byte
	for rest := in; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if _, err := x509.ParseCertificate(b.Bytes); b.Type != "CERTIFICATE" || err != nil {
			return nil, errors.New("report CA holds something other than certificates in PEM form")
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})...)
	}
	if len(out) == 0 {
		return nil, errors.New("report CA holds no certificate in PEM form")
	}
	return out, nil
}

func (r ReportTo) script(instanceID string) ([]byte, error) {
	ca, err := normalCA(r.CAPEM)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# First-boot report of Ingot: proves to the controller that this system runs.\n", shebang)
	for _, v := range [][2]string{{keyURL, r.URL}, {keyToken, r.Token}, {keyMachine, r.MachineID}, {keyInstance, instanceID}} {
		fmt.Fprintf(&b, "%s='%s'\n", v[0], v[1])
	}
	fmt.Fprintf(&b, "%s\n%s%s\n}\n%s\n", caBegin, ca, caEnd, headEnd)
	b.Write(reportScript)
	return b.Bytes(), nil
}

// ParseReport reads the head of vendor-data as Render writes it, for systems
// that cannot run a shell script. Vendor-data without a report is an error.
func ParseReport(vendorData []byte) (ReportTo, error) {
	var r ReportTo
	head, _, ok := strings.Cut(string(vendorData), "\n"+headEnd+"\n")
	if !ok || !strings.HasPrefix(head, shebang+"\n") {
		return r, errors.New("read first-boot report from vendor-data: it holds none")
	}
	fields := map[string]*string{keyURL: &r.URL, keyToken: &r.Token, keyMachine: &r.MachineID, keyInstance: &r.InstanceID}
	for line := range strings.SplitSeq(head, "\n") {
		k, v, _ := strings.Cut(line, "=")
		if p := fields[k]; p != nil && len(v) >= 2 && v[0] == '\'' && v[len(v)-1] == '\'' {
			*p = v[1 : len(v)-1]
		}
	}
	_, ca, _ := strings.Cut(head, caBegin+"\n")
	ca, _, _ = strings.Cut(ca, caEnd+"\n")
	r.CAPEM = []byte(ca)
	if err := errors.Join(r.Validate(), checkWord("instance id", r.InstanceID)); err != nil {
		return ReportTo{}, fmt.Errorf("read first-boot report from vendor-data: %w", err)
	}
	return r, nil
}
