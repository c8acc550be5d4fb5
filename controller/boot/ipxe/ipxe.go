// Package ipxe writes the boot scripts that iPXE runs. It is text only: what
// goes into it was decided by package boot.
//
// The scripts keep to commands that the iPXE of 2019 has. Each of them says on
// the machine's console what happens, and a transient failure leads back to
// fetching the script again (not only the file), because the boot session in it
// is short-lived. The tries are counted across scripts in the setting
// ingot-tries, so that a machine without a controller goes on to its firmware's
// next entry after some minutes instead of standing there until a person comes;
// by then its boot-stage lease is near its end too.
package ipxe

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

const (
	// MaxTries is how often a script is fetched before it gives up.
	MaxTries = 20
	// RetrySeconds is the wait between two tries.
	RetrySeconds = 15
)

// Agent starts the agent.
type Agent struct {
	// Name is what the console calls the machine: its id, or its MAC.
	Name string
	// ScriptURL of this very script, KernelURL and InitramfsURL, without spaces.
	ScriptURL, KernelURL, InitramfsURL string
	Params                             cmdline.Params
}

// Script returns the script's text. It holds the boot session's nonce. A
// parameter that may not stand on a kernel command line is an error.
func (a Agent) Script() (string, error) {
	if err := a.Params.Validate(); err != nil {
		return "", fmt.Errorf("write boot script of %s: %w", a.Name, err)
	}
	var b strings.Builder
	head(&b, "starting the agent on "+a.Name)
	fmt.Fprintf(&b, "imgfree\n")
	// initrd= names the image for the kernel's EFI stub; BIOS ignores it. No
	// word may follow the URL on the initrd line: BIOS iPXE would wrap the
	// archive into a file of that name.
	fmt.Fprintf(&b, "kernel --name vmlinuz %s initrd=initramfs.zst %s || goto retry\n", a.KernelURL, a.Params)
	fmt.Fprintf(&b, "initrd --name initramfs.zst %s || goto retry\n", a.InitramfsURL)
	fmt.Fprintf(&b, "boot || goto retry\n")
	retry(&b, a.ScriptURL, "could not fetch or start the agent")
	return b.String(), nil
}

// Wait tells the console why nothing can be started now, and fetches the script
// again after a while.
type Wait struct {
	Name, ScriptURL string
	// Reason is a short sentence without a full stop.
	Reason string
}

// Script returns the script's text.
func (w Wait) Script() string {
	var b strings.Builder
	head(&b, w.Name+" has to wait: "+w.Reason)
	retry(&b, w.ScriptURL, w.Reason)
	return b.String()
}

// Disk starts the installed system from the machine's own disk.
type Disk struct {
	Name, ScriptURL string
	// LocalBootURL is the loader to chain to under UEFI; "" under BIOS.
	LocalBootURL string
	// Warning is shown first; "" for none.
	Warning string
}

// Script returns the script's text. Under BIOS the first disk is started, and
// when that fails the firmware's next entry. Under UEFI neither sanboot nor
// exit reaches the disk, so a small loader does.
func (d Disk) Script() string {
	var b strings.Builder
	head(&b, d.Name+" starts from its own disk")
	if d.Warning != "" {
		fmt.Fprintf(&b, "echo Ingot: warning: %s\n", line(d.Warning))
	}
	if d.LocalBootURL == "" {
		fmt.Fprintf(&b, "sanboot --no-describe --drive 0x80 ||\n")
		fmt.Fprintf(&b, "echo Ingot: the first disk did not start, going on to the firmware's next boot entry\n")
		fmt.Fprintf(&b, "exit\n")
		return b.String()
	}
	fmt.Fprintf(&b, "imgfree\n")
	fmt.Fprintf(&b, "chain --replace --autofree %s || goto retry\n", d.LocalBootURL)
	retry(&b, d.ScriptURL, "could not start the loader on the disk")
	return b.String()
}

// Nothing tells the console why this machine is not started, and ends.
type Nothing struct {
	Name, Reason string
}

// Script returns the script's text.
func (n Nothing) Script() string {
	var b strings.Builder
	head(&b, "nothing to start on "+n.Name)
	fmt.Fprintf(&b, "echo Ingot: %s\n", line(n.Reason))
	fmt.Fprintf(&b, "echo Ingot: going on to the firmware's next boot entry\nsleep 5\nexit 1\n")
	return b.String()
}

func head(b *strings.Builder, what string) {
	fmt.Fprintf(b, "#!ipxe\necho\necho Ingot: %s\n", line(what))
}

// retry ends a script: say what went wrong, wait, and fetch the script again,
// MaxTries times in all. Failing to fetch it counts as a try too.
func retry(b *strings.Builder, scriptURL, what string) {
	fmt.Fprintf(b, ":retry\n")
	fmt.Fprintf(b, "isset ${ingot-tries} || set ingot-tries:int32 0\n")
	fmt.Fprintf(b, "inc ingot-tries\n")
	fmt.Fprintf(b, "iseq ${ingot-tries} %d && goto giveup ||\n", MaxTries)
	fmt.Fprintf(b, "echo Ingot: %s, trying again in %d seconds (try ${ingot-tries} of %d)\n", line(what), RetrySeconds, MaxTries)
	fmt.Fprintf(b, "sleep %d\n", RetrySeconds)
	fmt.Fprintf(b, "imgfree\n")
	fmt.Fprintf(b, "chain --replace --autofree %s || goto retry\n", scriptURL)
	fmt.Fprintf(b, ":giveup\n")
	fmt.Fprintf(b, "echo Ingot: giving up after %d tries, going on to the firmware's next boot entry\n", MaxTries)
	fmt.Fprintf(b, "clear ingot-tries\n")
	fmt.Fprintf(b, "sleep 5\nexit 1\n")
}

// line makes text safe to echo: printable ASCII on one line, at most 200 bytes,
// and nothing that iPXE expands or takes for an operator.
func line(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		switch {
		case r == '$' || r == '\\' || r == '"' || r == '&' || r == '|' || r == '#':
			out = append(out, '_')
		case r < ' ' || r > '~':
			out = append(out, '?')
		default:
			out = append(out, byte(r))
		}
		if len(out) == 200 {
			break
		}
	}
	return strings.TrimSpace(string(out))
}
