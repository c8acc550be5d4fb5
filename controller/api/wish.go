package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/inventory"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/operator"
)

// ask records a wish.
func (s *Server) ask(ctx context.Context, id machine.ID, kind machine.OperationKind, wish machine.Wish, requestID string) (*operator.Operation, error) {
	op, err := s.c.Store.OperationCreate(ctx, id, kind, wish, requestID, auth.Actor(ctx))
	if err != nil {
		return nil, err
	}
	return s.showOperation(op), nil
}

// MachineCommission asks for inventory and tests.
func (s *Server) MachineCommission(ctx context.Context, r *operator.MachineCommissionRequest) (*operator.Operation, error) {
	vouched, err := vouchedDisks(r.GetVouchedDisks())
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	wish := &machine.CommissionWish{SkipTests: r.GetSkipTests(), Vouched: vouched}
	return s.ask(ctx, m.ID, machine.OperationCommission, machine.Wish{Commission: wish}, "")
}

// maxVouched bounds the disks that one request vouches for.
const maxVouched = 256

// vouchedDisks are the disks named, each once.
func vouchedDisks(names []string) ([]string, error) {
	if len(names) > maxVouched {
		return nil, fault.New(fault.Invalid, "%d disks vouched for; at most %d are taken", len(names), maxVouched)
	}
	for _, n := range names {
		if n == "" {
			return nil, fault.New(fault.Invalid, "a disk that is vouched for has a serial or a WWN: ingot machine show MACHINE lists them")
		}
		if err := checkWord("disk", n); err != nil {
			return nil, err
		}
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

var powerWords = map[operator.PowerAction]string{
	operator.PowerAction_POWER_ACTION_ON: "on", operator.PowerAction_POWER_ACTION_OFF: "off",
	operator.PowerAction_POWER_ACTION_CYCLE: "cycle", operator.PowerAction_POWER_ACTION_QUERY: "query",
}

// MachinePower asks for a power action.
func (s *Server) MachinePower(ctx context.Context, r *operator.MachinePowerRequest) (*operator.Operation, error) {
	word, ok := powerWords[r.GetAction()]
	if !ok {
		return nil, fault.New(fault.Invalid, "power action %d is none of on, off, cycle, query", r.GetAction())
	}
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	if m.Approved && m.BMC != nil && m.BMC.URL == "manual:" { // ask refuses a machine that is not approved
		return nil, fault.New(fault.Precondition, "machine %s is switched by a person (its BMC is manual:); or: ingot bmc set %s --url … --user … --password-file …", m.ID, m.ID)
	}
	if m.Approved && m.BMC == nil {
		c := machine.CauseOf(machine.ReasonNoBMC)
		return nil, fault.New(fault.Precondition, "%s %s", c.Sentence, c.NextFor(m.ID))
	}
	return s.ask(ctx, m.ID, machine.OperationPower, machine.Wish{Power: &machine.PowerWish{Action: word}}, "")
}

// MachineDeploy asks for an image on a disk.
func (s *Server) MachineDeploy(ctx context.Context, r *operator.MachineDeployRequest) (*operator.Operation, error) {
	wish, err := deployWish(r)
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	if op, ok, err := s.earlier(ctx, m.ID, r.GetRequestId()); err != nil || ok {
		return op, err
	}
	if !m.Accepts(machine.OperationDeploy) {
		return nil, refusal(m, machine.OperationDeploy)
	}
	img, err := s.imageNamed(ctx, r.GetImage(), m.Architecture)
	if err != nil {
		return nil, err
	}
	if err := s.checkTrust(ctx, m, img); err != nil {
		return nil, err
	}
	if err := complete(&wish, m, img, r); err != nil {
		return nil, err
	}
	wish.ReadBack = s.c.ReadBack
	_, hardware := s.c.Quirks.Match(m.Vendor, m.Product, "")
	if wish.KexecForbidden, err = kexecForbidden(r.GetKexec(), img, hardware); err != nil {
		return nil, err
	}
	return s.ask(ctx, m.ID, machine.OperationDeploy, machine.Wish{Deploy: &wish}, r.GetRequestId())
}

// deployWish judges what needs no machine and no image.
func deployWish(r *operator.MachineDeployRequest) (machine.DeployWish, error) {
	w := machine.DeployWish{Hostname: strings.ToLower(r.GetHostname()), UserData: r.GetUserData(), WipeConflicting: r.GetWipeConflicting(), Reuse: r.GetReuse(), Proof: machine.ProofReport}
	for what, word := range map[string]string{"image": r.GetImage(), "disk": r.GetDisk(), "request id": r.GetRequestId()} {
		if err := checkWord(what, word); err != nil {
			return w, err
		}
	}
	if err := checkHostname(r.GetHostname()); err != nil {
		return w, err
	}
	if err := checkUserData(r.GetUserData()); err != nil {
		return w, err
	}
	keys, err := checkSSHKeys(r.GetSshKeys())
	if err != nil {
		return w, err
	}
	w.SSHKeys = keys
	switch r.GetProof() {
	case "", string(machine.ProofReport):
	case string(machine.ProofNone):
		w.Proof = machine.ProofNone
	default:
		return w, fault.New(fault.Invalid, "proof %.40q: want report or none", r.GetProof())
	}
	switch r.GetThen() {
	case "", "boot":
	case "stop":
		w.Stop = true
	default:
		return w, fault.New(fault.Invalid, "then %.40q: want boot or stop", r.GetThen())
	}
	switch r.GetKexec() {
	case "", "auto", "always", "never":
	default:
		return w, fault.New(fault.Invalid, "kexec %.40q: want auto, always or never", r.GetKexec())
	}
	return w, nil
}

// complete adds what the machine and the image decide, and the secrets that are
// new for each deploy.
func complete(w *machine.DeployWish, m machine.Machine, img Image, r *operator.MachineDeployRequest) error {
	if m.Architecture != "" && m.Architecture != img.Architecture {
		return fault.New(fault.Precondition, "image %s is for %s, machine %s is %s", img.Name, img.Architecture, m.ID, m.Architecture)
	}
	disk, err := inventory.ChooseDisk(m.Disks, r.GetDisk(), inventory.Need{SizeBytes: img.SizeBytes, SectorBytes: img.SectorBytes})
	if err != nil {
		return err
	}
	if w.Disk = diskKey(disk); w.Disk == "" {
		return fault.New(fault.Precondition, "disk %s has neither serial nor WWN, so that it cannot be told from another", disk.Name)
	}
	if w.Hostname == "" {
		w.Hostname = m.Hostname
	}
	w.ImageDigest, w.ImageName = img.Digest, img.Name
	w.InstanceID = "i-" + uuid.NewString()
	w.ReportToken = newSecret()
	return nil
}

// kexecForbidden says why the installed system must be entered through the
// firmware: by the operator's word, the image, or the hardware's quirks. Empty:
// it may be entered by kexec.
func kexecForbidden(word string, img Image, hardware power.Flags) (string, error) {
	why := ""
	switch {
	case word == "never":
		return "the operator asked for a start through the firmware", nil
	case !img.KexecAllowed:
		why = "image " + img.Name + " must not be entered by kexec"
	case hardware.KexecUnsafe:
		why = "this model of machine does not survive a kexec"
	}
	if why != "" && word == "always" {
		return "", fault.New(fault.Precondition, "%s; leave --kexec out", why)
	}
	return why, nil
}

// newSecret is 256 random bits in hexadecimal.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// diskKey is what a disk is known by across boots.
func diskKey(d machine.Disk) string {
	if d.Serial != "" {
		return d.Serial
	}
	return d.WWN
}

// requestsBack is how many of a machine's operations are searched for one that a
// request id made. The store knows older ones too, and refuses to make another.
const requestsBack = 50

// earlier finds the operation that a request id made before: repeating a request
// whose answer was lost must not be judged anew.
func (s *Server) earlier(ctx context.Context, id machine.ID, requestID string) (*operator.Operation, bool, error) {
	if requestID == "" {
		return nil, false, nil
	}
	// A request is repeated soon after it, so that it stands near the top.
	ops, _, err := s.c.Store.OperationList(ctx, id, requestsBack, "")
	if err != nil {
		return nil, false, err
	}
	for _, op := range ops {
		if op.RequestID == requestID && op.Kind == machine.OperationDeploy {
			return s.showOperation(op), true, nil
		}
	}
	return nil, false, nil
}

// refusal says why an operation may not be asked for now, and what must come
// first.
func refusal(m machine.Machine, kind machine.OperationKind) error {
	switch {
	case !m.Approved:
		return fault.New(fault.Precondition, "machine %s is not approved: ingot machine approve %s", m.ID, m.ID)
	case m.Outcome == machine.OutcomeRunning:
		return fault.New(fault.Precondition, "machine %s is %s: wait for it or cancel it (ingot operation wait %s)", m.ID, m.State, m.OperationID)
	case m.State == machine.Enrolled:
		return fault.New(fault.Precondition, "machine %s is enrolled and its hardware is not known yet: ingot machine commission %s", m.ID, m.ID)
	}
	if m.State == machine.Ready && kind == machine.OperationRelease {
		return fault.New(fault.Precondition, "machine %s is ready: there is nothing to release", m.ID)
	}
	return fault.New(fault.Precondition, "machine %s is %s and cannot be asked for %s", m.ID, m.State, kind)
}

// MachineRelease takes a machine back and erases its disks. It must be said that
// they are erased, and the disks that the person was shown must be all.
func (s *Server) MachineRelease(ctx context.Context, r *operator.MachineReleaseRequest) (*operator.Operation, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	disks := inventory.Erasable(m.Disks)
	if len(disks) == 0 {
		return nil, fault.New(fault.Precondition, "no disk of machine %s is known that could be erased: ingot machine commission %s", m.ID, m.ID)
	}
	serials := make([]string, len(disks))
	for i, d := range disks {
		if serials[i] = diskKey(d); serials[i] == "" {
			return nil, fault.New(fault.Precondition, "disk %s has neither serial nor WWN, so that no receipt could name it; take it out", d.Name)
		}
	}
	slices.Sort(serials)
	if err := confirmed(r, m, disks, serials); err != nil {
		return nil, err
	}
	if r.GetDryRun() {
		if !m.Accepts(machine.OperationRelease) {
			return nil, refusal(m, machine.OperationRelease)
		}
		return &operator.Operation{
			MachineId: string(m.ID), Kind: string(machine.OperationRelease), State: "planned",
			RequestedBy: auth.Actor(ctx), Disks: showDisks(disks),
		}, nil
	}
	op, err := s.ask(ctx, m.ID, machine.OperationRelease, machine.Wish{Release: &machine.ReleaseWish{DiskSerials: serials}}, "")
	if op != nil {
		op.Disks = showDisks(disks)
	}
	return op, err
}

func confirmed(r *operator.MachineReleaseRequest, m machine.Machine, disks []machine.Disk, serials []string) error {
	if !r.GetErase() && !r.GetDryRun() {
		return fault.New(fault.Invalid, "releasing %s erases %s; say that you want that: ingot machine release %s --erase", m.ID, inventory.List(disks), m.ID)
	}
	shown := slices.Clone(r.GetDiskSerials())
	slices.Sort(shown)
	if len(shown) > 0 && !slices.Equal(shown, serials) {
		return fault.New(fault.Precondition, "the disks named are not those of machine %s; a release erases %s", m.ID, inventory.List(disks))
	}
	return nil
}
