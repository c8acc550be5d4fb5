package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxUserData is the largest user-data accepted, in bytes.
	MaxUserData = 1 << 20
	// maxSSHKeys and maxSSHKey bound the keys of one machine.
	maxSSHKeys, maxSSHKey = 100, 16 << 10
	// maxNICs bounds the NICs that network-config names.
	maxNICs = 64
)

// Network says which NIC of the installed system has to come up.
type Network struct {
	// BootMAC is the NIC that the machine boots from: it gets its address by
	// DHCP, and the system waits for it. Empty means that network-config is left
	// to the image's own default.
	BootMAC net.HardwareAddr
	// OtherMACs are the machine's other NICs: configured as present but without
	// an address, and never waited for. A NIC that is waited for and has no
	// cable costs a boot two minutes.
	OtherMACs []net.HardwareAddr
}

// Seed is everything that a newly deployed system is told at its first boot.
type Seed struct {
	// InstanceID is new with each deploy: cloud-init runs its once-per-instance
	// parts whenever it changes. Letters, digits, "-", "_" and ".".
	InstanceID string
	// Hostname is a host name or a fully qualified one (RFC 1123 section 2.1).
	Hostname string
	// SSHKeys are authorized_keys lines for the image's default user.
	SSHKeys []string
	// UserData goes through byte for byte, whatever its kind; at most MaxUserData.
	UserData []byte
	Network  Network
	// Report says where the system proves that it lives; nil for a deploy that
	// asks for no proof.
	Report *ReportTo
}

// File is one file of the seed's filesystem, which is labelled CIDATA.
type File struct {
	Name string
	Data []byte
}

// Render checks the seed and writes its files: meta-data, user-data, vendor-data
// and, with a boot NIC, network-config (cloud-init's NoCloud data source). All
// faults are reported together, in words for the person who asked.
func (s Seed) Render() ([]File, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	meta, err := document(metaData{InstanceID: s.InstanceID, Hostname: s.Hostname, PublicKeys: s.SSHKeys})
	if err != nil {
		return nil, fmt.Errorf("render meta-data: %w", err)
	}
	vendor := []byte("#cloud-config\n{}\n")
	if s.Report != nil {
		if vendor, err = s.Report.script(s.InstanceID); err != nil {
			return nil, fmt.Errorf("render vendor-data: %w", err)
		}
	}
	files := []File{{"meta-data", meta}, {"user-data", bytes.Clone(s.UserData)}, {"vendor-data", vendor}}
	if len(s.Network.BootMAC) > 0 {
		network, err := document(s.Network.config())
		if err != nil {
			return nil, fmt.Errorf("render network-config: %w", err)
		}
		files = append(files, File{"network-config", network})
	}
	return files, nil
}

type metaData struct {
	InstanceID string   `yaml:"instance-id"`
	Hostname   string   `yaml:"local-hostname"`
	PublicKeys []string `yaml:"public-keys,omitempty"`
}

// netplan is version 2 of cloud-init's network configuration.
type netplan struct {
	Version   int            `yaml:"version"`
	Ethernets map[string]nic `yaml:"ethernets"`
}

type nic struct {
	Match struct {
		MAC string `yaml:"macaddress"`
	} `yaml:"match"`
	DHCP4 bool `yaml:"dhcp4"`
	// Identifier "mac" keeps the address of firmware and agent with DHCP servers
	// that go by client-id.
	Identifier string `yaml:"dhcp-identifier,omitempty"`
	Optional   bool   `yaml:"optional,omitempty"`
}

func (n Network) config() netplan {
	out := netplan{Version: 2, Ethernets: map[string]nic{}}
	boot := nic{DHCP4: true, Identifier: "mac"}
	boot.Match.MAC = n.BootMAC.String()
	out.Ethernets["boot"] = boot
	for i, mac := range n.OtherMACs {
		other := nic{Optional: true}
		other.Match.MAC = mac.String()
		out.Ethernets[fmt.Sprintf("nic%d", i+1)] = other
	}
	return out
}

func document(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(v), enc.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Validate says what is wrong with the seed; nil when Render would accept it.
func (s Seed) Validate() error {
	errs := []error{ValidateHostname(s.Hostname), checkWord("instance id", s.InstanceID)}
	if len(s.UserData) > MaxUserData {
		errs = append(errs, fmt.Errorf("user-data has %d bytes, the limit is %d (1 MiB): fetch large files from user-data instead of carrying them in it", len(s.UserData), MaxUserData))
	}
	if len(s.SSHKeys) > maxSSHKeys {
		errs = append(errs, fmt.Errorf("%d SSH keys, the limit is %d", len(s.SSHKeys), maxSSHKeys))
	}
	for i, k := range s.SSHKeys {
		if err := checkSSHKey(k); err != nil {
			errs = append(errs, fmt.Errorf("SSH key %d: %w", i+1, err))
		}
	}
	if len(s.Network.OtherMACs) >= maxNICs {
		errs = append(errs, fmt.Errorf("%d NICs, the limit is %d", len(s.Network.OtherMACs)+1, maxNICs))
	}
	if s.Report != nil {
		errs = append(errs, s.Report.Validate())
	}
	return errors.Join(errs...)
}

// ValidateHostname accepts RFC 1123 host names: labels of 1 to 63 letters,
// digits and hyphens, no hyphen at either end, 253 characters in all, and not
// an IPv4 address.
func ValidateHostname(h string) error {
	if h == "" || len(h) > 253 {
		return fmt.Errorf("hostname has %d characters, allowed are 1 to 253", len(h))
	}
	if net.ParseIP(h) != nil {
		return fmt.Errorf("hostname %q is an address", h)
	}
	for label := range strings.SplitSeq(h, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !only(label, alnum+"-") {
			return fmt.Errorf("hostname %.80q: each part between dots has 1 to 63 letters, digits or hyphens, and no hyphen at its ends", h)
		}
	}
	return nil
}

const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func only(s, allowed string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) < 0
}

// checkWord accepts an identifier that stands in YAML, shell and JSON as it is.
func checkWord(what, s string) error {
	if s == "" || len(s) > 128 || !only(s, alnum+"-_.") {
		return fmt.Errorf("%s %.80q must have 1 to 128 letters, digits, hyphens, dots or underscores", what, s)
	}
	return nil
}

func checkSSHKey(k string) error {
	switch {
	case strings.TrimSpace(k) == "":
		return errors.New("is empty")
	case len(k) > maxSSHKey:
		return fmt.Errorf("has %d bytes, the limit is %d", len(k), maxSSHKey)
	case strings.IndexFunc(k, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		return errors.New("holds a line break or a control character; give one key a line, without the break")
	case strings.Contains(k, "PRIVATE KEY"):
		return errors.New("is a private key; give the public one (the .pub file)")
	case len(strings.Fields(k)) < 2:
		return errors.New("is not an authorized_keys line such as \"ssh-ed25519 AAAA… name\"")
	}
	return nil
}
