package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

const (
	seedLabel = "CIDATA"
	// maxSeedFile bounds each file of the seed, in bytes: user-data may have
	// 1 MiB, the others less.
	maxSeedFile = 2 << 20
	// seedWait is how long a seed on another disk than the root may take to
	// appear.
	seedWait = 3 * time.Second
)

// errNoSeed says that no filesystem bears the label.
var errNoSeed = errors.New("no seed: no FAT filesystem is labelled cidata")

// seed is what the NoCloud seed says; see cloud-init's NoCloud datasource.
type seed struct {
	InstanceID string
	Hostname   string
	SSHKeys    []string
	// UserData and VendorData byte for byte.
	UserData, VendorData []byte
	Network              []nic
}

// findSeed looks for the seed, first on the disk that holds the root, and reads
// it. Without one it returns errNoSeed and a zero seed.
func findSeed() (seed, error) {
	for deadline := time.Now().Add(seedWait); ; time.Sleep(devicePause) {
		for _, device := range rootDiskFirst(blockDevices()) {
			if fatLabel(device) == seedLabel {
				return mountSeed(device)
			}
		}
		if time.Now().After(deadline) {
			return seed{}, errNoSeed
		}
	}
}

// rootDiskFirst puts the partitions of the disk that / is on in front: a seed
// there is this deploy's, one elsewhere may be older.
func rootDiskFirst(devices []string) []string {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return devices
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	target, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return devices
	}
	var near, far []string
	for _, d := range devices {
		if _, err := os.Stat(filepath.Join(filepath.Dir(target), filepath.Base(d))); err == nil {
			near = append(near, d)
		} else {
			far = append(far, d)
		}
	}
	return append(near, far...)
}

// fatLabel reads the volume label in the boot sector of a FAT12, FAT16 or FAT32
// filesystem, in upper case; "" when the device holds none. (Microsoft's FAT
// specification 1.03: BS_VolLab at 43 or 71, after a boot signature of 0x29.)
func fatLabel(device string) string {
	b := make([]byte, 512)
	if !readAt(device, b, 0) || b[510] != 0x55 || b[511] != 0xaa {
		return ""
	}
	at := 43
	if string(b[82:87]) == "FAT32" {
		at = 71
	} else if string(b[54:57]) != "FAT" {
		return ""
	}
	if b[at-5] != 0x29 {
		return ""
	}
	return strings.ToUpper(strings.TrimSpace(string(b[at : at+11])))
}

func mountSeed(device string) (s seed, err error) {
	const dir = "/run/seed"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if err := unix.Mount(device, dir, "vfat", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return s, fmt.Errorf("mount seed %s: %w", device, err)
	}
	defer func() {
		if e := unix.Unmount(dir, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount seed: %w", e))
		}
	}()
	return readSeed(dir)
}

// readSeed reads the four files of a seed; only meta-data must exist.
func readSeed(dir string) (seed, error) {
	files := map[string][]byte{}
	for _, name := range []string{"meta-data", "user-data", "vendor-data", "network-config"} {
		data, err := readBounded(filepath.Join(dir, name))
		if err != nil && (name == "meta-data" || !errors.Is(err, os.ErrNotExist)) {
			return seed{}, fmt.Errorf("read seed: %w", err)
		}
		files[name] = data
	}
	s := seed{UserData: files["user-data"], VendorData: files["vendor-data"]}
	var meta struct {
		InstanceID    string `yaml:"instance-id"`
		LocalHostname string `yaml:"local-hostname"`
		Hostname      string `yaml:"hostname"`
		PublicKeys    any    `yaml:"public-keys"`
		PublicKeys2   any    `yaml:"public_keys"`
	}
	if err := yaml.Unmarshal(files["meta-data"], &meta); err != nil {
		return s, fmt.Errorf("parse meta-data: %w", err)
	}
	s.InstanceID, s.Hostname = meta.InstanceID, meta.LocalHostname
	if s.Hostname == "" {
		s.Hostname = meta.Hostname
	}
	s.SSHKeys = append(append(words(meta.PublicKeys), words(meta.PublicKeys2)...), userKeys(s.UserData)...)
	var err error
	s.Network, err = parseNetwork(files["network-config"])
	return s, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSeedFile+1))
	if err == nil && len(data) > maxSeedFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxSeedFile)
	}
	return data, err
}

// userKeys are the SSH keys that a cloud-config in user-data asks for, at its
// top and for its users. User-data of another kind has none.
func userKeys(userData []byte) []string {
	if !strings.HasPrefix(string(userData), "#cloud-config") {
		return nil
	}
	var config struct {
		Keys  any   `yaml:"ssh_authorized_keys"`
		Users []any `yaml:"users"`
	}
	if err := yaml.Unmarshal(userData, &config); err != nil {
		return nil
	}
	keys := words(config.Keys)
	for _, u := range config.Users {
		if m, ok := u.(map[string]any); ok {
			keys = append(keys, words(m["ssh_authorized_keys"])...)
			keys = append(keys, words(m["ssh-authorized-keys"])...)
		}
	}
	return keys
}

// words collects the strings of a string, a list or a map, however deep; the
// metadata of clouds has keys in all these shapes. YAML's own bound on aliases
// keeps the depth finite.
func words(v any) []string {
	var out []string
	switch v := v.(type) {
	case string:
		for line := range strings.Lines(v) {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
	case []any:
		for _, e := range v {
			out = append(out, words(e)...)
		}
	case map[string]any:
		for _, e := range v {
			out = append(out, words(e)...)
		}
	}
	return out
}
