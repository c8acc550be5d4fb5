package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/boot"
	"github.com/u-root/u-root/pkg/boot/grub"
	"github.com/u-root/u-root/pkg/mount"
)

// The agent reads the written disk's grub.cfg with this parser before kexec.
func TestGrubConfigReadByAgent(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"boot/vmlinuz": "the kernel", "boot/initrd.img": "the initramfs"} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := disk{tree: tree, fstabOptions: "errors=remount-ro", entry: entry{
		Title: "Ingot tiny", Kernel: "/boot/vmlinuz", Initrd: "/boot/initrd.img", Args: "root=UUID=x rw " + console,
	}}
	if err := d.writeConfig("x"); err != nil {
		t.Fatal(err)
	}
	images, err := grub.ParseLocalConfig(context.Background(), tree, nil, &mount.Pool{})
	if err != nil || len(images) != 1 {
		t.Fatalf("got %d images, error %v, want one image", len(images), err)
	}
	linux, ok := images[0].(*boot.LinuxImage)
	if !ok {
		t.Fatalf("got a %T, want a *boot.LinuxImage", images[0])
	}
	got := []string{linux.Name, linux.Cmdline, content(t, linux.Kernel), content(t, linux.Initrd)}
	want := []string{"Ingot tiny", "root=UUID=x rw console=tty0 console=ttyS0,115200", "the kernel", "the initramfs"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

func content(t *testing.T, r io.ReaderAt) string {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<10))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLinkBIOS(t *testing.T) {
	t.Parallel()
	bootImage := bytes.Repeat([]byte{0xee}, sectorSize)
	core := bytes.Repeat([]byte{0xcc}, 3*sectorSize+1)
	code, linked, err := linkBIOS(bootImage, core, 2048, 4)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		CodeLen, LinkedLen        int
		CoreAt, NextAt            uint64
		Sectors, Segment          uint16
		DriveCheck, BeyondTheCore string
	}
	got := result{
		len(code), len(linked),
		binary.LittleEndian.Uint64(code[0x5c:]), binary.LittleEndian.Uint64(linked[0x1f4:]),
		binary.LittleEndian.Uint16(linked[0x1fc:]), binary.LittleEndian.Uint16(linked[0x1fe:]),
		string(code[0x66:0x68]), string(linked[len(core) : len(core)+1]),
	}
	want := result{440, 4 * 512, 2048, 2049, 3, 0x820, "\x90\x90", "\x00"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, _, err := linkBIOS(bootImage, core, 2048, 3); err == nil || !strings.Contains(err.Error(), "needs 4 sectors, its partition has 3") {
		t.Errorf("core larger than its partition: got error %v", err)
	}
}
