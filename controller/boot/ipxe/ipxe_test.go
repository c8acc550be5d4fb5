package ipxe

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

var update = flag.Bool("update", false, "write the golden files")

const base = "http://10.0.0.1:8080/boot/"

func agent() Agent {
	return Agent{
		Name: "k3f9 (52:54:00:00:00:01)", ScriptURL: base + "script?mac=52:54:00:00:00:01&arch=x86_64&platform=efi",
		KernelURL: base + "vmlinuz?mac=52:54:00:00:00:01", InitramfsURL: base + "initramfs.zst?mac=52:54:00:00:00:01",
		Params: cmdline.Params{
			Nonce: "0123456789abcdefABCDEF", Controller: "10.0.0.1:8443", CA: strings.Repeat("ab", 32), Time: time.Unix(1_800_000_000, 0),
			BootMAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, Console: []string{"tty0", "ttyS1,115200"}, LogLevel: "info", Extra: []string{"nomodeset"},
		},
	}
}

func TestScriptsGolden(t *testing.T) {
	t.Parallel()
	a := agent()
	text, err := a.Script()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"agent":     text,
		"wait":      Wait{Name: a.Name, ScriptURL: a.ScriptURL, Reason: "the controller cannot answer now"}.Script(),
		"disk_bios": Disk{Name: a.Name, ScriptURL: a.ScriptURL}.Script(),
		"disk_uefi": Disk{Name: a.Name, ScriptURL: a.ScriptURL, LocalBootURL: base + "localboot.efi?guid=g&path=%2FEFI%2FBOOT%2FBOOTX64.EFI", Warning: "installed for bios"}.Script(),
		"nothing":   Nothing{Name: a.Name, Reason: "it is broken: ${nonce}\nreboot && ü"}.Script(),
	} {
		file := filepath.Join("testdata", name+".ipxe")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, string(want)); d != "" {
			t.Errorf("%s: got - want +\n%s", file, d)
		}
	}
}

func TestAgentScriptRefusesBadParameters(t *testing.T) {
	t.Parallel()
	a := agent()
	a.Params.Extra = []string{"x\nreboot"}
	if s, err := a.Script(); err == nil || s != "" {
		t.Errorf("got %q, %v; want an error and no script", s, err)
	}
}
