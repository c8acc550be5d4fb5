package boot

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// debian is the shape of a grub.cfg that update-grub writes.
const debian = `#
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   set boot_once=true
else
   set default="@DEFAULT@"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function savedefault {
  if [ -z "${boot_once}" ]; then
    linux /function/is/not/run
  fi
}
if [ "$never" = "x" ]; then
  menuentry 'Not this one' { linux /no
  }
fi
set linux_gfx_mode=
menuentry 'Debian GNU/Linux' --class debian --class os --id 'gnulinux-simple' {
	load_video
	insmod ext2
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt3 1234
	else
	  search --no-floppy --fs-uuid --set=root 1234
	fi
	echo	'Loading Linux 6.1.0-56-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-56-amd64 root=UUID=1234 ro quiet console=ttyS0,115200 $vt_handoff
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-6.1.0-56-amd64
}
submenu 'Advanced options for Debian GNU/Linux' --id 'advanced' {
	menuentry 'Debian, with Linux 6.1.0-55-amd64' --id 'gnulinux-6.1.0-55' {
		linux	($root)/boot/vmlinuz-6.1.0-55-amd64 root=LABEL=root "dyndbg=file x.c +p" 'cost=$5'
		initrd	/boot/ucode.img /boot/initrd.img-6.1.0-55-amd64
	}
}
menuentry 'UEFI Firmware Settings' --id 'uefi-firmware' {
	fwsetup
}
`

// disk writes files (content starting with "->" makes a link) and returns the
// mount point.
func disk(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if target, isLink := strings.CutPrefix(content, "->"); isLink {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindSystemGRUB(t *testing.T) {
	t.Parallel()
	newest := System{
		Title: "Debian GNU/Linux", From: "/boot/grub/grub.cfg", Kernel: "/boot/vmlinuz-6.1.0-56-amd64",
		Initrds: []string{"/boot/initrd.img-6.1.0-56-amd64"}, Args: "root=UUID=1234 ro quiet console=ttyS0,115200",
	}
	older := System{
		Title: "Debian, with Linux 6.1.0-55-amd64", From: "/boot/grub/grub.cfg", Kernel: "/boot/vmlinuz-6.1.0-55-amd64",
		Initrds: []string{"/boot/ucode.img", "/boot/initrd.img-6.1.0-55-amd64"}, Args: `root=LABEL=root "dyndbg=file x.c +p" cost=$5`,
	}
	for name, tc := range map[string]struct {
		wanted, env string
		want        System
		err         error
	}{
		"index":           {"0", "", newest, nil},
		"absent":          {"9", "", newest, nil},
		"submenu":         {"1", "", older, nil},
		"path of ids":     {"advanced>gnulinux-6.1.0-55", "", older, nil},
		"path of indexes": {"1>0", "", older, nil},
		"title":           {"Debian GNU/Linux", "", newest, nil},
		"saved":           {"${saved_entry}", "# GRUB Environment Block\nsaved_entry=advanced\n#####", older, nil},
		"next":            {"0", "next_entry=advanced>0\n", older, nil},
		"not Linux":       {"2", "", System{}, ErrNoEntry},
	} {
		files := map[string]string{"boot/grub/grub.cfg": strings.ReplaceAll(debian, "@DEFAULT@", tc.wanted)}
		if tc.env != "" {
			files["boot/grub/grubenv"] = tc.env
		}
		got, err := FindSystem([]string{disk(t, files)})
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: got error %v, want %v", name, err, tc.err)
			continue
		}
		if diff := cmp.Diff(got, tc.want, cmpopts.EquateEmpty()); tc.err == nil && diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
	}
}

func TestFindSystemPlain(t *testing.T) {
	t.Parallel()
	want := System{From: "/grub/grub.cfg", Kernel: "/vmlinuz", Initrds: []string{"/initrd.img"}, Args: "root=LABEL=root"}
	boot := disk(t, map[string]string{"grub/grub.cfg": "search --label root\nsource /grub/more.cfg;configfile /grub/absent.cfg\n",
		"grub/more.cfg": "linux /vmlinuz root=LABEL=root # comment\ninitrd /initrd.img\nboot"})
	got, err := FindSystem([]string{boot, t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("script without a menu (-got +want):\n%s", diff)
	}
	if _, err := FindSystem([]string{t.TempDir()}); !errors.Is(err, ErrNoConfig) {
		t.Errorf("empty disk: got %v, want %v", err, ErrNoConfig)
	}
	loop := disk(t, map[string]string{"grub/grub.cfg": "source /grub/grub.cfg\n"})
	if _, err := FindSystem([]string{loop}); err == nil {
		t.Error("script that includes itself: got nil, want an error")
	}
	long := disk(t, map[string]string{"grub/grub.cfg": "linux /vmlinuz " + strings.Repeat("a", 3000)})
	if _, err := FindSystem([]string{long}); err == nil {
		t.Error("long command line: got nil, want an error")
	}
}

func TestFindSystemEntries(t *testing.T) {
	t.Parallel()
	entry := "title Fedora\nversion %\nlinux /vmlinuz-%\ninitrd /initramfs-%.img $tuned_initrd\noptions $kernelopts quiet\noptions more=1\n"
	files := map[string]string{
		"grub2/grub.cfg": "set kernelopts=\"root=UUID=1 ro\"\nblscfg\n",
		"grub2/grubenv":  "saved_entry=fc-6.9.1\n",
	}
	for _, v := range []string{"6.9.1", "6.10.2", "6.2.0"} {
		files["loader/entries/fc-"+v+".conf"] = strings.ReplaceAll(entry, "%", v)
	}
	check := func(name, version, options string) {
		t.Helper()
		got, err := FindSystem([]string{disk(t, files)})
		want := System{Title: "Fedora", From: "/loader/entries/fc-" + version + ".conf", Kernel: "/vmlinuz-" + version,
			Initrds: []string{"/initramfs-" + version + ".img"}, Args: options}
		if diff := cmp.Diff(got, want); err != nil || diff != "" {
			t.Errorf("%s: %v (-got +want):\n%s", name, err, diff)
		}
	}
	check("saved entry", "6.9.1", "root=UUID=1 ro quiet more=1")
	delete(files, "grub2/grubenv")
	check("newest", "6.10.2", "root=UUID=1 ro quiet more=1")
	delete(files, "grub2/grub.cfg")
	files["loader/loader.conf"] = "timeout 3\ndefault fc-6.2*\n"
	check("systemd-boot", "6.2.0", "quiet more=1")
}

func TestOpenInStaysInside(t *testing.T) {
	t.Parallel()
	outside := disk(t, map[string]string{"key": "secret"})
	mount := disk(t, map[string]string{
		"boot/vmlinuz-6": "kernel", "vmlinuz": "->boot/vmlinuz-6", "vmlinuz.abs": "->/boot/vmlinuz-6",
		"out.abs": "->" + outside + "/key", "out.rel": "->../../../../../../../.." + outside + "/key", "loop": "->/loop", "dir/x": "",
	})
	for _, name := range []string{"/boot/vmlinuz-6", "/vmlinuz", "/vmlinuz.abs", "/../../boot/vmlinuz-6"} {
		f, err := openIn(mount, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "kernel" {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"/out.abs", "/out.rel", "/loop", "/dir", "/gone"} {
		if f, err := openIn(mount, name); err == nil {
			t.Errorf("%s: opened %s, want an error", name, f.Name())
		}
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	root := disk(t, map[string]string{"boot/a": "12345", "b": "678"})
	f, err := gather([]string{t.TempDir(), root}, []string{"/a", "/b"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
	if err != nil || string(got) != "12345\x00\x00\x00678\x00" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := gather([]string{root}, []string{"/gone"}); !errors.Is(err, ErrNoFile) {
		t.Errorf("missing initrd: got %v, want %v", err, ErrNoFile)
	}
}

func FuzzGRUB(f *testing.F) {
	f.Add(debian)
	f.Add("menuentry x { if [ a ]; then linux ${a\\\n} } }{ fi else")
	f.Fuzz(func(_ *testing.T, script string) {
		g := newGRUB("/nonexistent", "/")
		if g.read(script) == nil {
			_, _ = g.choose()
		}
	})
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.10", "6.9")
	f.Fuzz(func(t *testing.T, a, b string) {
		if compareVersions(a, b) != -compareVersions(b, a) {
			t.Errorf("%q and %q have no order", a, b)
		}
	})
}
