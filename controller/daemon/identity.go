package daemon

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/controller/auth"
)

var controllerWord = regexp.MustCompile(`^[a-z0-9-]{4,60}$`)

// controllerID reads the id that this data directory has, making one at the very
// first start.
func controllerID(dir string) (string, error) {
	path := filepath.Join(dir, "controller-id")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var b [6]byte
		rand.Read(b[:]) // never fails (crypto/rand)
		id := "c-" + hex.EncodeToString(b[:])
		return id, writeWhole(path, []byte(id+"\n"), 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("read this controller's id: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if !controllerWord.MatchString(id) {
		return "", fmt.Errorf("read this controller's id: %s is damaged; restore it, or delete it to become a new controller", path)
	}
	return id, nil
}

// writeWhole replaces a file so that no reader, and no crash, sees half of it.
func writeWhole(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// renewBefore is how long before its end the listeners' certificate is replaced.
const renewBefore = 30 * 24 * time.Hour

// leaf gives the listeners' certificate, signing a new one well before the old
// one ends, so that a controller may run for years.
type leaf struct {
	authority *auth.Authority
	hosts     []string

	mu   sync.Mutex
	cert *tls.Certificate
}

// An address that came to this host after the start (a new lease, a second
// interface) gets into the certificate when somebody first connects to it.
func (l *leaf) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if host := reachedBy(hello); host != "" && !slices.Contains(l.hosts, host) {
		l.hosts, l.cert = append(slices.Clone(l.hosts), host), nil
	}
	now := time.Now()
	if l.cert != nil && now.Before(l.cert.Leaf.NotAfter.Add(-renewBefore)) {
		return l.cert, nil
	}
	cert, err := l.authority.ServerCertificate(now, l.hosts)
	if err != nil {
		return nil, err
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return nil, err
	}
	l.cert = &cert
	return l.cert, nil
}

// reachedBy is the address of ours that a client connected to, "" when unknown.
func reachedBy(hello *tls.ClientHelloInfo) string {
	if hello == nil || hello.Conn == nil {
		return ""
	}
	if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok && !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	return ""
}

// config is for a listener that speaks HTTP; agents' is stricter.
func (l *leaf) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: l.get}
}

// ownNames are the names and addresses by which this controller may be reached.
func ownNames(c Config) ([]string, error) {
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && domainWord.MatchString(host) {
		names = append(names, host)
	}
	if domainWord.MatchString(c.Name) {
		names = append(names, c.Name)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	seen := map[string]bool{}
	for _, a := range append(addresses, &net.IPNet{IP: net.IPv4(127, 0, 0, 1)}) {
		if n, ok := a.(*net.IPNet); ok && !seen[n.IP.String()] {
			seen[n.IP.String()] = true
			names = append(names, n.IP.String())
		}
	}
	return names, nil
}
