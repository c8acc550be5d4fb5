package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Next is what may become of a Debian image.
type Next string

const (
	// Used: its disk after the system ran on it: logs, keys, lists of packages,
	// access times.
	Used Next = "used"
	// Neighbour: a point release made in the same filesystem: packages unpacked
	// again as an upgrade does (new files, then renamed), some added, some removed.
	Neighbour Next = "neighbour"
	// Rebuilt: the tree of Neighbour in a fresh filesystem, as image builders do it.
	Rebuilt Next = "rebuilt"
)

// upgraded are packages of the lean root that a point release often brings;
// the kernel of the image comes on top of them. added are new ones.
var (
	upgraded = []string{
		"libc6", "libc-bin", "openssl", "libssl3", "curl", "libcurl4", "libgnutls30", "systemd", "udev",
		"openssh-server", "openssh-client", "python3.11-minimal", "libpython3.11-stdlib", "perl-base", "sudo", "tzdata",
	}
	added = []string{"rsync", "tcpdump", "strace", "jq", "libjq1", "libonig5", "libpcap0.8"}
)

// DebianNext returns the path of what became of the flavour, making it in
// cacheDir first if it is not there. Only root can: it mounts the image.
func DebianNext(ctx context.Context, cacheDir string, f Flavour, next Next, log *slog.Logger) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("changing an image needs root, to mount it")
	}
	from, err := Debian(ctx, cacheDir, f, log)
	if err == nil && next == Rebuilt {
		from, err = DebianNext(ctx, cacheDir, f, Neighbour, log)
	}
	if err != nil {
		return "", err
	}
	key, err := sourceKey([]string{fmt.Sprintf("%+v", f), string(next)})
	if err != nil {
		return "", err
	}
	c := cache{cacheDir, log}
	return c.get(ctx, f.Name+"-"+string(next), key, ".raw", func(ctx context.Context, r runner, workDir, path string) error {
		if err := r.run(ctx, "", "cp", "--sparse=always", "--reflink=auto", from, path); err != nil {
			return err
		}
		switch next {
		case Used:
			return mounted(ctx, r, path, workDir, "rw", f, func(tree string) error { return use(ctx, r, tree) })
		case Neighbour:
			return mounted(ctx, r, path, workDir, "rw", f, func(tree string) error { return c.upgrade(ctx, r, tree, workDir) })
		case Rebuilt:
			return mounted(ctx, r, from, workDir, "ro,noload", f, func(tree string) error { return f.remake(ctx, r, tree, path) })
		}
		return fmt.Errorf("no such change as %q", next)
	})
}

func (f Flavour) disk() disk { return disk{sizeMiB: f.SizeMiB, espMiB: 48, sector: f.SectorSize} }

// mounted runs do while the root filesystem of the image is mounted.
func mounted(ctx context.Context, r runner, path, workDir, options string, f Flavour, do func(tree string) error) (err error) {
	tree := filepath.Join(workDir, "mounted")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	_, _, root := f.disk().partitions()
	options += fmt.Sprintf(",loop,offset=%d,sizelimit=%d", root.offset(), root.sectors*sectorSize)
	if err := r.run(ctx, "", "mount", "-t", "ext4", "-o", options, path, tree); err != nil {
		return fmt.Errorf("mount the root filesystem: %w", err)
	}
	defer func() { err = errors.Join(err, r.run(context.WithoutCancel(ctx), "", "umount", tree)) }()
	return do(tree)
}

// use does what some days of running do, about 50 MiB of it.
func use(ctx context.Context, r runner, tree string) error {
	script := `cd "$1"
mkdir -p var/log/journal/0123456789abcdef0123456789abcdef var/lib/cloud/instances/i-1 home/debian var/lib/apt/lists
line() { awk -v tag="$1" -v n="$2" 'BEGIN{srand(n); for(i=0;i<n;i++) printf "2026-01-%02dT%02d:%02d:%02d debian %s[%d]: request %08x took %d us from 10.0.%d.%d\n", 1+i%28, i%24, i%60, (i*7)%60, tag, 300+i%4000, rand()*4294967295, rand()*90000, i%250, i%199}'; }
line sshd 40000 >var/log/auth.log
line systemd 60000 >var/log/syslog
line cloud-init 8000 >var/log/cloud-init.log
line apt 5000 >var/log/dpkg.log
for i in 1 2; do line journald$i 90000 | gzip -1 >"var/log/journal/0123456789abcdef0123456789abcdef/system@$i.journal"; done
for s in stable updates security; do line "$s" 90000 >"var/lib/apt/lists/deb_dists_${s}_Packages"; done
line pkgcache 100000 | gzip -1 >var/cache/apt/pkgcache.bin
ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key
echo 0123456789abcdef0123456789abcdef >etc/machine-id
echo used >etc/hostname
head -c 512 /dev/urandom >var/lib/systemd/random-seed
echo '{"v1": {"datasource": "NoCloud"}}' >var/lib/cloud/instances/i-1/status.json
echo 'ls -l' >home/debian/.bash_history
find usr/bin usr/lib -type f -print0 | xargs -0 touch -a
find usr/lib/python3 -name '*.pyc' -print0 | xargs -0 -r touch
`
	return r.run(ctx, "", "sh", "-euc", script, "sh", tree)
}

func (c cache) upgrade(ctx context.Context, r runner, tree, workDir string) error {
	kernel, err := onlyOne(tree, "boot/vmlinuz-*")
	if err != nil {
		return err
	}
	names := append([]string{"linux-image-" + filepath.Base(kernel)[len("vmlinuz-"):]}, upgraded...)
	if err := c.fill(ctx, r, tree, workDir, append(names, added...)); err != nil {
		return err
	}
	script := `cd "$1"
for f in boot/initrd.img-*; do cp -p "$f" "$f.new"; mv "$f.new" "$f"; done
cp var/lib/dpkg/status var/lib/dpkg/status.new; mv var/lib/dpkg/status.new var/lib/dpkg/status
rm -rf usr/share/zoneinfo/right usr/lib/python3/dist-packages/jinja2 usr/lib/x86_64-linux-gnu/gconv/IBM*.so
`
	return r.run(ctx, "", "sh", "-euc", script, "sh", tree)
}

// remake replaces the root filesystem in the image path, which is a copy, by a
// fresh one with the files of tree.
func (f Flavour) remake(ctx context.Context, r runner, tree, path string) error {
	d := f.disk()
	d.tree = tree
	_, _, root := d.partitions()
	err := r.run(ctx, "", "fallocate", "--punch-hole", "--offset", fmt.Sprint(root.offset()), "--length", fmt.Sprint(root.sectors*sectorSize), path)
	if err != nil {
		return err
	}
	id := "6d0c1f5e-3f6e-4c39-9f3a-7a1f1d1a7b10"
	return d.makeRoot(ctx, r, path, id, root)
}
