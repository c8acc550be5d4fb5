package api

import (
	"encoding/hex"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// Bounds of what a request may hold.
const (
	maxUserData = 1 << 20 // bytes
	maxSSHKeys  = 100
	maxSSHKey   = 16 << 10 // bytes
	maxMACs     = 64
	maxWord     = 200 // bytes, of names and ids
	maxPassword = 256
)

// label is one label of a host name (RFC 1123 section 2.1).
var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// checkHostname accepts an empty name, which means the machine's own.
func checkHostname(name string) error {
	if name == "" || label.MatchString(name) && !strings.HasSuffix(name, "\n") {
		return nil
	}
	return fault.New(fault.Invalid, "hostname %.80q: want one label of at most 63 letters, digits and hyphens, beginning and ending with a letter or digit (RFC 1123)", name)
}

// checkWord bounds text that is only looked up or shown.
func checkWord(what, s string) error {
	if len(s) > maxWord {
		return fault.New(fault.Invalid, "%s has %d bytes, at most %d are taken", what, len(s), maxWord)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return fault.New(fault.Invalid, "%s %.80q holds a character that cannot be printed", what, s)
	}
	return nil
}

func checkMachine(word string) error {
	if word == "" {
		return fault.New(fault.Invalid, "no machine named: give its id, hostname or MAC address")
	}
	return checkWord("machine", word)
}

// checkUserData names the limit.
func checkUserData(data []byte) error {
	if len(data) > maxUserData {
		return fault.New(fault.Invalid, "user-data has %d bytes, the limit is 1 MiB (%d bytes): let it fetch the rest", len(data), maxUserData)
	}
	return nil
}

// checkSSHKeys reads each line as an authorized_keys line (sshd(8)), without
// options: those would be commands on the installed system.
func checkSSHKeys(keys []string) ([]string, error) {
	if len(keys) > maxSSHKeys {
		return nil, fault.New(fault.Invalid, "%d SSH keys given, at most %d are taken", len(keys), maxSSHKeys)
	}
	var out []string
	for i, k := range keys {
		k = strings.TrimSpace(k)
		if len(k) > maxSSHKey {
			return nil, fault.New(fault.Invalid, "SSH key %d has %d bytes, at most %d are taken", i+1, len(k), maxSSHKey)
		}
		_, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(k))
		switch {
		case err != nil:
			return nil, fault.New(fault.Invalid, "SSH key %d is not a public key as ssh-keygen writes it to a .pub file", i+1)
		case len(options) > 0:
			return nil, fault.New(fault.Invalid, "SSH key %d begins with options; give the key alone", i+1)
		case len(rest) > 0 || strings.ContainsAny(k, "\n\r\x00"):
			return nil, fault.New(fault.Invalid, "SSH key %d holds more than one line; give each key by itself", i+1)
		}
		out = append(out, k)
	}
	return out, nil
}

func checkMACs(macs []string) ([]net.HardwareAddr, error) {
	if len(macs) > maxMACs {
		return nil, fault.New(fault.Invalid, "%d MAC addresses given, at most %d are taken", len(macs), maxMACs)
	}
	var out []net.HardwareAddr
	for _, s := range macs {
		mac, err := net.ParseMAC(s)
		if err != nil || len(s) > 64 || len(mac) == 6 && mac[0]&1 != 0 || !slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }) {
			return nil, fault.New(fault.Invalid, "%.80q is not the MAC address of one NIC; write it as 52:54:00:12:34:56", s)
		}
		out = append(out, mac)
	}
	return out, nil
}

func checkUUID(s string) error {
	if s == "" {
		return nil
	}
	if _, err := uuid.Parse(s); err != nil || len(s) != 36 {
		return fault.New(fault.Invalid, "system UUID %.80q: want the form 01234567-89ab-cdef-0123-456789abcdef", s)
	}
	return nil
}

var architectures = []string{"amd64", "arm64"}

func checkArchitecture(s string) error {
	if !slices.Contains(architectures, s) {
		return fault.New(fault.Invalid, "architecture %.80q: want one of %s", s, strings.Join(architectures, ", "))
	}
	return nil
}

var bmcSchemes = []string{"ipmi", "redfish", "redfish+https", "redfish+http"}

// checkAccess judges how to reach a BMC. The password is never quoted.
func checkAccess(a *operator.BMCAccess) error {
	for what, s := range map[string]string{"BMC address": a.GetUrl(), "BMC user": a.GetUser()} {
		if err := checkWord(what, s); err != nil {
			return err
		}
	}
	if len(a.GetPassword()) > maxPassword {
		return fault.New(fault.Invalid, "the BMC's password has %d bytes, at most %d are taken", len(a.GetPassword()), maxPassword)
	}
	pin := strings.NewReplacer(":", "", " ", "").Replace(a.GetCertificateSha256())
	if raw, err := hex.DecodeString(pin); err != nil || len(raw) != 0 && len(raw) != 32 {
		return fault.New(fault.Invalid, "BMC certificate fingerprint: want the SHA-256 of the certificate, 64 hexadecimal digits")
	}
	return checkBMCURL(a.GetUrl())
}

func checkBMCURL(address string) error {
	if address == "manual:" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return fault.New(fault.Invalid, "BMC address: want ipmi://HOST, redfish://HOST or manual:, for instance redfish://10.0.0.7")
	case u.User != nil:
		return fault.New(fault.Invalid, "BMC address: user and password go into their own fields, not into the address")
	case !slices.Contains(bmcSchemes, u.Scheme):
		return fault.New(fault.Invalid, "BMC address: %q is not known, use one of %s or manual:", u.Scheme, strings.Join(bmcSchemes, ", "))
	}
	return nil
}

// access is what a power driver takes.
func access(url, user, password, pin string) power.Access {
	return power.Access{URL: url, User: user, Password: power.NewSecret(password), CertificateSHA256: pin}
}

// wordsOr lists words, or says that there are none.
func wordsOr[W ~string](words []W, none string) string {
	if len(words) == 0 {
		return none
	}
	text := string(words[0])
	for _, w := range words[1:] {
		text += ", " + string(w)
	}
	return text
}
