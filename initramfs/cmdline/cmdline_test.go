package cmdline

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ca = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func full() Params {
	return Params{
		Nonce:      "abcDEF0123456789-_xyz",
		Controller: "10.99.0.1:8443",
		CA:         ca,
		Time:       time.Unix(1800000000, 0).UTC(),
		BootMAC:    net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56},
		Console:    []string{"tty0", "ttyS0,115200n8"},
		LogLevel:   "debug",
		Extra:      []string{"nomodeset", "pci=realloc=off"},
	}
}

func TestStringGolden(t *testing.T) {
	t.Parallel()
	got := full().String()
	want := "ingot.nonce=abcDEF0123456789-_xyz ingot.controller=10.99.0.1:8443 ingot.ca=" + ca +
		" ingot.time=1800000000 ingot.mac=52:54:00:12:34:56 ingot.log=debug" +
		" console=tty0 console=ttyS0,115200n8 loglevel=4 panic=30 nomodeset pci=realloc=off"
	if got != want {
		t.Errorf("String:\n got %s\nwant %s", got, want)
	}
	p, err := Parse("BOOT_IMAGE=/vmlinuz initrd=a " + got + " dyndbg=\"file x +p\"\n")
	if err != nil {
		t.Fatal(err)
	}
	wantParams := full()
	wantParams.Extra = append([]string{"BOOT_IMAGE=/vmlinuz", "initrd=a"}, wantParams.Extra...)
	if diff := cmp.Diff(p, wantParams); diff != "" {
		t.Errorf("Parse (-got +want):\n%s", diff)
	}
	if err := p.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
}

func TestStringNeverWritesBadValues(t *testing.T) {
	t.Parallel()
	p := full()
	p.Nonce = "0123456789abcdef init=/bin/sh"
	p.Controller = "host:1\nconsole=x"
	p.Console = []string{"ttyS0 init=/bin/sh"}
	p.Extra = []string{"a b", "${net0/mac}", `x="`, "&&", "ingot.nonce=0123456789abcdef", "loglevel=7"}
	if err := p.Validate(); err == nil {
		t.Error("Validate: got nil, want an error")
	}
	want := "ingot.ca=" + ca + " ingot.time=1800000000 ingot.mac=52:54:00:12:34:56 ingot.log=debug panic=30 loglevel=7"
	if got := p.String(); got != want {
		t.Errorf("String:\n got %s\nwant %s", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	good := "ingot.nonce=0123456789abcdef ingot.controller=c.example:443 ingot.ca=" + ca
	for name, tc := range map[string]struct{ line, want string }{
		"no nonce":    {"ingot.controller=c:1 ingot.ca=" + ca, "ingot.nonce: missing"},
		"short nonce": {strings.Replace(good, "0123456789abcdef", "short", 1), "ingot.nonce: nonce has 5"},
		"twice":       {good + " ingot.nonce=0123456789abcdee", "given twice"},
		"unknown":     {good + " ingot.color=red", "unknown parameter"},
		"port":        {strings.Replace(good, ":443", ":0", 1), "controller port"},
		"no port":     {strings.Replace(good, ":443", "", 1), "not host:port"},
		"host":        {strings.Replace(good, "c.example", "c..example", 1), "DNS name"},
		"zone":        {strings.Replace(good, "c.example", "[fe80::1%eth0]", 1), "IPv6"},
		"ca":          {strings.Replace(good, ca, strings.ToUpper(ca), 1), "fingerprint holds"},
		"time":        {good + " ingot.time=yesterday", "seconds since 1970"},
		"mac":         {good + " ingot.mac=xx", "hardware address"},
		"log":         {good + " ingot.log=loud", "log level"},
		"console":     {good + " console=", "console"},
		"long":        {good + strings.Repeat(" a", 2000), "shorten"},
	} {
		_, err := Parse(tc.line)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
	if _, err := Parse(good + " ingot.mac="); err != nil {
		t.Errorf("unset iPXE variable: got %v, want nil", err)
	}
	if _, err := Parse(strings.Replace(good, "c.example", "[2001:db8::1]", 1)); err != nil {
		t.Errorf("IPv6 controller: got %v, want nil", err)
	}
	if _, err := Parse(""); !errors.Is(err, ErrMissing) {
		t.Errorf("empty line: got %v, want %v", err, ErrMissing)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	line := "a ingot.nonce=0123456789abcdef b\nKernel command line: \"x ingot.nonce=fedcba9876543210\""
	want := "a ingot.nonce=[redacted] b\nKernel command line: \"x ingot.nonce=[redacted]\""
	if got := Redact(line); got != want {
		t.Errorf("Redact: got %q, want %q", got, want)
	}
	if got := full().LogValue().String(); strings.Contains(got, full().Nonce) {
		t.Errorf("LogValue shows the nonce: %s", got)
	}
}

// FuzzParse: whatever is parsed without error is written and read back alike,
// and no secret survives Redact.
func FuzzParse(f *testing.F) {
	f.Add(full().String())
	f.Add("ingot.nonce=0123456789abcdef ingot.controller=[::1]:1 ingot.ca=" + ca + " quiet \"a b\" ingot.mac=")
	f.Fuzz(func(t *testing.T, line string) {
		p, err := Parse(line)
		if p.Nonce != "" && strings.Contains(Redact(p.String()), "="+p.Nonce+" ") {
			t.Errorf("Redact left the nonce in %q", p.String())
		}
		if err != nil || p.Validate() != nil {
			return
		}
		again, err := Parse(p.String())
		if err != nil {
			t.Fatalf("parse what was written for %q: %v", line, err)
		}
		if diff := cmp.Diff(again, p); diff != "" {
			t.Errorf("round trip of %q (-got +want):\n%s", line, diff)
		}
	})
}

func TestPatchLocalboot(t *testing.T) {
	t.Parallel()
	if got := len(LocalbootPath); got != LocalbootPathWidth {
		t.Fatalf("placeholder has %d characters, want %d", got, LocalbootPathWidth)
	}
	image := []byte("MZ set guid=" + LocalbootGUID + "\nset loader=" + LocalbootPath + "\nrest")
	guid := "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	got, err := PatchLocalboot(image, guid, "/EFI/debian/shimx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	want := "MZ set guid=" + strings.ToLower(guid) + "\nset loader='/EFI/debian/shimx64.efi'" + strings.Repeat(" ", 103) + "\nrest"
	if string(got) != want {
		t.Errorf("patched: got %q, want %q", got, want)
	}
	for name, tc := range map[string]struct{ guid, path string }{
		"guid":     {"C12A7328-F81F-11D2-BA4B-00A0C93EC93", "/a"},
		"hex":      {"G12A7328-F81F-11D2-BA4B-00A0C93EC93B", "/a"},
		"relative": {guid, "EFI/a"},
		"parent":   {guid, "/EFI/../a"},
		"quote":    {guid, "/EFI/a'; reboot; '"},
		"long":     {guid, "/" + strings.Repeat("a", 126)},
	} {
		if _, err := PatchLocalboot(image, tc.guid, tc.path); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
	if _, err := PatchLocalboot(got, guid, "/a"); err == nil {
		t.Error("patched twice: got nil, want an error")
	}
}
