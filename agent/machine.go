package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/boot"
	"github.com/ingot-metal/ingot/agent/deploy"
	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/inventory"
	"github.com/ingot-metal/ingot/agent/network"
	"github.com/ingot-metal/ingot/agent/session"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
	"github.com/ingot-metal/ingot/proto/agent"
)

// machine is this machine, as the jobs use it.
type machine struct {
	host       host.Host
	params     cmdline.Params
	neighbours *links
	session    *session.Session // for relays; nil: none
	log        *slog.Logger
	// certificate is this boot's, for what is given to this machine alone.
	certificate func() *tls.Certificate
}

// identify is what the machine says of itself when it enrols. NICs on USB are
// left out: those of BMCs have the same address on many boards.
func (m *machine) identify(r *agent.EnrolRequest) {
	system := inventory.System(m.host)
	r.SystemUuid, r.SystemSerial = system.Uuid, system.Serial
	r.BootMode = inventory.BootMode(m.host)
	nics, err := network.List(m.host)
	if err != nil {
		m.log.Error("NICs are not known", "err", err)
	}
	for _, n := range nics {
		mac := inventory.PermanentMAC(m.host, n)
		if n.USB || len(mac) == 0 {
			continue
		}
		r.Nics = append(r.Nics, &agent.NICIdentity{PermanentMac: mac.String(),
			LocallyAdministered: len(mac) == 6 && mac[0]&2 != 0})
	}
}

// forDeploy is the machine as agent/deploy wants it.
func (m *machine) forDeploy() deploy.Machine {
	return deploy.Machine{
		Disks:        func() ([]disk.Disk, error) { return disk.List(m.host) },
		UEFI:         boot.DetectMode(m.host) == boot.UEFI,
		Architecture: architecture(),
		Client:       m.client(),
		Mount:        m.mount,
		DiskFirst:    m.diskFirst,
		LoadKexec:    m.loadKexec,
		TrustedKeys:  m.trustedKeys(),
		MemoryBytes:  m.writerMemory(),
		Relay:        m.relay(),
	}
}

// relay is how a deploy shares an image with others; nil without a controller
// that arranges it.
func (m *machine) relay() *deploy.Relay {
	if m.session == nil {
		return nil
	}
	return &deploy.Relay{
		MachineID:   m.session.MachineID(),
		Listen:      func() (net.Listener, error) { return deploy.ListenBeside(m.params.Controller) },
		Send:        m.session.SendRelay,
		Receive:     m.session.ReceiveRelay,
		Certificate: m.session.Certificate,
		Authority:   m.session.Authority,
		RingBytes:   memory() / 16,
	}
}

// trustedKeysFile is put into the initramfs by initramfs/mk -trusted-keys.
const trustedKeysFile = "/etc/ingot/trusted-keys"

// trustedKeys is the list in this initramfs, nil when there is none. One that is
// there and cannot be read trusts nobody.
func (m *machine) trustedKeys() []byte {
	text, err := m.host.ReadString(trustedKeysFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		m.log.Error("list of trusted keys cannot be read, so no image is trusted", "path", trustedKeysFile, "err", err)
		return []byte{}
	}
	return append([]byte{}, text...)
}

// architecture as Debian writes it, which for these is Go's word too.
func architecture() string { return runtime.GOARCH }

// writerMemory is an eighth of the memory, from 32 to 128 MiB.
func (m *machine) writerMemory() int64 { return min(max(memory()/8, 32<<20), 128<<20) }

// memory of the machine in bytes; little when it is not known.
func memory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 256 << 20
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// client fetches frames: plain HTTP as it is (their truth is their hash), and
// HTTPS only from who shows the CA that this boot was told to trust; such a
// server may ask for this boot's certificate, which private images need.
func (m *machine) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, kind, address string) (net.Conn, error) {
			config, err := session.PinnedTLS(address, m.params.CA, nil)
			if err != nil {
				return nil, err
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return m.certificate(), nil
			}
			return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: config}).DialContext(ctx, kind, address)
		},
		// No limit of connections: see imaging/fetch.
		MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
}

// mountOptions keep a read-only mount from replaying a journal.
var mountOptions = map[string]string{"ext4": "noload", "xfs": "norecovery,nouuid", "btrfs": "rescue=nologreplay", "vfat": ""}

// mount is deploy.Machine's. The kernel loads the filesystem's module itself.
func (m *machine) mount(ctx context.Context, device, filesystem string) (string, func() error, error) {
	options, ok := mountOptions[filesystem]
	if !ok || ctx.Err() != nil {
		return "", nil, errors.Join(fmt.Errorf("mount %s: %s cannot be read here", device, filesystem), ctx.Err())
	}
	dir, err := os.MkdirTemp("", "mount-")
	if err != nil {
		return "", nil, fmt.Errorf("mount %s: %w", device, err)
	}
	if err := unix.Mount(device, dir, filesystem, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount %s (%s): %w", device, filesystem, err), os.Remove(dir))
	}
	return dir, func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", device, err)
		}
		return os.Remove(dir)
	}, nil
}

func (m *machine) diskFirst(ctx context.Context, l deploy.Loader) (string, error) {
	e, err := boot.OrderDiskFirst(ctx, m.host, boot.Partition{GUID: l.PartitionGUID, Number: uint32(l.PartitionNumber),
		StartLBA: l.FirstLBA, SizeLBA: l.Sectors}, l.Path, l.Label)
	if err != nil {
		return "", err
	}
	evidence := fmt.Sprintf("%s (%s) stands first in the firmware's boot order %v", e.Entry, e.Description, e.Order)
	if e.Next != "" {
		evidence += "; the next boot alone goes by " + e.Next
	}
	return evidence, nil
}

// loadKexec takes the kernel that the manifest names, or what the installed boot
// loader would start.
func (m *machine) loadKexec(ctx context.Context, s deploy.System) error {
	var system boot.System
	if s.Boot != nil && s.Boot.Kernel != "" {
		system = boot.System{From: "the image's manifest", Kernel: s.Boot.Kernel, Initrds: s.Boot.Initrds, Args: s.Boot.Cmdline}
	} else {
		var err error
		if system, err = boot.FindSystem(s.Filesystems); err != nil {
			return err
		}
	}
	m.log.Info("kernel of the installed system", "title", system.Title, "from", system.From, "kernel", system.Kernel, "initrds", system.Initrds)
	return boot.LoadSystem(ctx, m.host, s.Filesystems, system, s.Extra...)
}
