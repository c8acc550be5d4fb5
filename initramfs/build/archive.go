// Package build packs the agent's initramfs, and collects the loaders that
// bring it to a machine.
//
// The archive holds process 1, the agent, kernel modules, firmware and the PCI
// names; it has no shell and no other programs. The same inputs give the same
// bytes: entries are sorted, times are zero, inode numbers are counted.
package build

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ingot-metal/ingot/initramfs/kernel"
)

const (
	modeFile = 0o644
	modeExec = 0o755
	// maxFile bounds one file of the archive, in bytes.
	maxFile = 256 << 20
)

// emptyDirs are mount points, and places where the agent writes.
var emptyDirs = []string{"dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var"}

// base returns what changes only with the kernel: directories, the device nodes
// needed before /dev is mounted, and the given files.
func base(files []kernel.File) ([]cpio.Record, error) {
	records := []cpio.Record{
		// The kernel opens /dev/console before process 1 can mount anything.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.Symlink("sbin/modprobe", "../init"),
	}
	for _, d := range emptyDirs {
		records = append(records, cpio.Directory(d, 0o755))
	}
	return addFiles(records, files)
}

// programs returns what changes with our own code, and the site's own keys. They
// are paths on the host, the first two of static binaries.
func programs(initProgram, agent, trustedKeys string) ([]cpio.Record, error) {
	files := []kernel.File{{Path: "init", From: initProgram}, {Path: "bin/ingot-agent", From: agent}}
	if trustedKeys != "" {
		files = append(files, kernel.File{Path: "etc/ingot/trusted-keys", From: trustedKeys})
	}
	return addFiles(nil, files)
}

func addFiles(records []cpio.Record, files []kernel.File) ([]cpio.Record, error) {
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Path] {
			return nil, fmt.Errorf("pack %s: it is there twice", f.Path)
		}
		seen[f.Path] = true
		r, err := fileRecord(f)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// writeArchive writes records in newc format, uncompressed
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func writeArchive(w io.Writer, records []cpio.Record) error {
	slices.SortStableFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	out := cpio.Newc.Writer(w)
	for i, r := range withDirs(records) {
		r = cpio.MakeReproducible(r)
		r.Ino = uint64(i + 1)
		if err := out.WriteRecord(r); err != nil {
			return fmt.Errorf("write %s into the initramfs: %w", r.Name, err)
		}
	}
	if err := cpio.WriteTrailer(out); err != nil {
		return fmt.Errorf("end the initramfs: %w", err)
	}
	return nil
}

func fileRecord(f kernel.File) (cpio.Record, error) {
	content := f.Content
	if f.From != "" {
		info, err := os.Stat(f.From)
		if err != nil {
			return cpio.Record{}, fmt.Errorf("pack %s: %w", f.Path, err)
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return cpio.Record{}, fmt.Errorf("pack %s: %s is not a regular file of at most %d bytes", f.Path, f.From, maxFile)
		}
		if content, err = os.ReadFile(f.From); err != nil {
			return cpio.Record{}, fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	var mode uint64 = modeFile
	if f.Path == "init" || strings.HasPrefix(f.Path, "bin/") {
		if !isStatic(content) {
			return cpio.Record{}, fmt.Errorf("pack %s: %s is not a static Linux binary: build it with CGO_ENABLED=0", f.Path, f.From)
		}
		mode = modeExec
	}
	return cpio.StaticFile(f.Path, string(content), mode), nil
}

// isStatic says whether content is an ELF file without an interpreter.
func isStatic(content []byte) bool {
	return bytes.HasPrefix(content, []byte("\x7fELF")) && !bytes.Contains(content, []byte("/ld-linux"))
}

// withDirs puts each record's parent directories before it.
func withDirs(records []cpio.Record) []cpio.Record {
	made := map[string]bool{".": true}
	var out []cpio.Record
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if !made[dir] {
			mkdir(path.Dir(dir))
			made[dir] = true
			out = append(out, cpio.Directory(dir, 0o755))
		}
	}
	for _, r := range records {
		mkdir(path.Dir(r.Name))
		if !made[r.Name] {
			made[r.Name] = true
			out = append(out, r)
		}
	}
	return out
}
