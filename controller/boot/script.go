package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/controller/boot/ipxe"
	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

// storeTimeout bounds what a boot script waits for the store: a loader that
// waits longer gives up without a word, while ours can tell why.
const storeTimeout = 5 * time.Second

// loader is what iPXE said about itself in the script's address.
type loader struct {
	mac  net.HardwareAddr
	uuid string
	arch string
	mode FirmwareMode
	// base is how the loader reached us, for example http://10.0.0.1:8080.
	base, host string
}

func (l loader) scriptURL() string {
	platform := "efi"
	if l.mode == FirmwareBIOS {
		platform = "pcbios"
	}
	u := l.base + ScriptPath + "?mac=" + l.mac.String()
	if l.uuid != "" {
		u += "&uuid=" + l.uuid
	}
	return u + "&arch=" + l.arch + "&platform=" + platform
}

func parseLoader(r *http.Request) (loader, error) {
	q, err := query(r, "mac", "uuid", "arch", "platform")
	if err != nil {
		return loader{}, err
	}
	l := loader{arch: q["arch"], base: "http://" + r.Host, host: r.Host}
	if l.mac, err = ParseMAC(q["mac"]); err != nil {
		return loader{}, err
	}
	if l.uuid, err = CanonicalUUID(q["uuid"]); err != nil {
		return loader{}, err
	}
	switch l.arch {
	case "i386", "x86_64", "arm32", "arm64":
	default:
		return loader{}, errors.New("arch must be i386, x86_64, arm32 or arm64")
	}
	switch q["platform"] {
	case "pcbios":
		l.mode = FirmwareBIOS
	case "efi":
		l.mode = FirmwareUEFI
	default:
		return loader{}, errors.New("platform must be pcbios or efi")
	}
	return l, nil
}

// script answers with the boot script. A HEAD opens no boot session. Whatever
// goes wrong on our side is answered as a script too, for iPXE shows a person
// no more of an HTTP error than its number, and would not try again.
func (h *Handler) script(w http.ResponseWriter, r *http.Request) {
	l, err := parseLoader(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", mimeScript)
	// The nonce in it is for this machine alone.
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	text, detail, err := h.compose(ctx, l)
	what := SeenScript
	if err != nil {
		h.c.Log.Warn("boot script has to wait", "mac", l.mac.String(), "err", err)
		text = ipxe.Wait{Name: l.mac.String(), ScriptURL: l.scriptURL(), Reason: "the controller cannot answer now"}.Script()
		what, detail = SeenFailure, "boot script: the controller could not answer"
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if _, err := io.WriteString(w, text); err == nil {
		h.observe(r, l.mac, l.uuid, what, detail)
	}
}

// compose turns the store's answer into a script and a word for the timeline.
func (h *Handler) compose(ctx context.Context, l loader) (text, detail string, err error) {
	t, err := h.c.Directory.BootTarget(ctx, l.mac, l.uuid)
	if err != nil {
		return "", "", err
	}
	name := l.mac.String()
	if t.MachineID != "" {
		name = t.MachineID + " (" + name + ")"
	}
	switch t.Kind {
	case TargetAgent:
		text, err = h.agent(ctx, l, name, t.Agent)
		return text, "agent", err
	case TargetDisk:
		d, reason := disk(l, name, t.Disk)
		if reason != "" {
			return ipxe.Nothing{Name: name, Reason: reason}.Script(), "disk: " + reason, nil
		}
		return d.Script(), "disk", nil
	}
	return ipxe.Nothing{Name: name, Reason: t.Reason}.Script(), "nothing: " + t.Reason, nil
}

func (h *Handler) agent(ctx context.Context, l loader, name string, t AgentTarget) (string, error) {
	// Under BIOS the loader is a 32-bit build whatever the CPU is.
	if l.arch != "x86_64" && l.mode != FirmwareBIOS {
		return ipxe.Nothing{Name: name, Reason: "there is no agent for " + l.arch + " machines yet"}.Script(), nil
	}
	s, err := h.c.Directory.SessionOpen(ctx, SessionRequest{MAC: l.mac, UUID: l.uuid, Arch: l.arch, FirmwareMode: l.mode, Interface: l.host})
	if err != nil {
		return "", err
	}
	p := cmdline.Params{
		Nonce: s.Nonce, Controller: h.controller(l.host), CA: h.c.CA, Time: h.c.Now(), BootMAC: l.mac,
		Console: t.Console, LogLevel: t.LogLevel, Extra: t.Extra,
	}
	if len(p.Console) == 0 {
		p.Console = h.c.Console
	}
	if p.LogLevel == "" {
		p.LogLevel = h.c.LogLevel
	}
	who := "?mac=" + l.mac.String()
	return ipxe.Agent{
		Name: name, ScriptURL: l.scriptURL(), Params: p,
		KernelURL: l.base + filePrefix + FileKernel + who, InitramfsURL: l.base + filePrefix + FileInitramfs + who,
	}.Script()
}

// controller is where the agent dials: AgentAddress, its host filled in by the
// host that the loader reached us by.
func (h *Handler) controller(host string) string {
	own, port, err := net.SplitHostPort(h.c.AgentAddress)
	if err != nil || own != "" {
		return h.c.AgentAddress
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if len(name) > 1 && name[0] == '[' {
		name = name[1 : len(name)-1]
	}
	return net.JoinHostPort(name, port)
}

// disk plans the start of an installed system; reason says why it cannot be.
func disk(l loader, name string, t DiskTarget) (d ipxe.Disk, reason string) {
	d = ipxe.Disk{Name: name, ScriptURL: l.scriptURL()}
	if t.FirmwareMode != "" && t.FirmwareMode != l.mode {
		d.Warning = "the system was installed for " + string(t.FirmwareMode) + ", but this machine booted in " + string(l.mode) + " mode"
	}
	if l.mode == FirmwareBIOS {
		return d, ""
	}
	if t.PartitionGUID == "" || t.LoaderPath == "" {
		return d, "the installed system has no known UEFI loader; set the firmware's boot order to the disk"
	}
	d.LocalBootURL = localBootURL(l.base, t, l.mac)
	return d, ""
}
