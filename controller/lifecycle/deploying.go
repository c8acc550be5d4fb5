package lifecycle

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/controller/machine"
)

const (
	// proofLimit is how long an installed system may take to report after it
	// was entered; after one restart it gets the same again.
	proofLimit = 12 * time.Minute
	// stopLimit is how long the agent may take to power off after its result.
	stopLimit = 3 * time.Minute
	// powerBacks bounds how often a machine that loses power before its report is
	// switched on again.
	powerBacks = 3
	// diskTries is how often a machine that came back into the agent after a
	// finished deploy is sent to its disk.
	diskTries = 2
)

// deploying writes the image and waits for the installed system's own word.
func deploying(t *turn) {
	if t.elsewhere(machine.OperationDeploy) {
		return
	}
	wish := t.s.Operation.Wish.Deploy
	written := t.latest("deploy")
	if written == nil || written.State != machine.OrderSucceeded {
		if !t.agentPresent() {
			return
		}
	}
	written = t.run(step{
		Name: "deploy", Target: machine.TargetAgent, Cause: "write image " + wish.ImageName,
		Job: machine.Job{Deploy: wish}, Limit: 55 * time.Minute, Tries: 3,
		Irreversible: "the disk's former content is overwritten; deploy again or release",
		Accept:       func(r machine.Result) (machine.Reason, string) { return acceptDeploy(t.s.Machine, wish, r) },
	})
	if written == nil {
		// What an older deploy wrote is gone once this one may begin.
		t.d.ForgetDeployment = len(t.d.Orders) > 0 && t.s.Machine.Deployed != nil
		return
	}
	t.d.Warnings = written.Result.Warnings
	if t.s.Machine.Deployed == nil || t.s.Machine.Deployed.OperationID != t.s.Operation.ID {
		t.d.Deployed = t.deployment(wish, written.Result.Deploy)
	}
	if !t.diskFirst(written.Result.Deploy) {
		return
	}
	switch {
	case wish.Stop:
		t.stopped(written)
	case wish.Proof == machine.ProofNone:
		t.succeed(machine.Deployed)
	default:
		t.proven(written)
	}
}

func acceptDeploy(m machine.Machine, wish *machine.DeployWish, r machine.Result) (machine.Reason, string) {
	proven := r.Deploy != nil && (r.Deploy.Verified || wish.ReadBack.Sampled() && r.Deploy.VerifiedAfter > 0)
	if !proven || r.Deploy.ImageDigest != wish.ImageDigest {
		return machine.ReasonImageDigest, "the agent did not prove that what it read back is the image"
	}
	ordered := wish.Disk
	for _, d := range m.Disks {
		if d.Key() == wish.Disk {
			ordered = d.Serial // none, for a disk that was ordered by its WWN
		}
	}
	if r.Deploy.DiskSerial != ordered {
		return machine.ReasonDiskOther, fmt.Sprintf("disk %s was to be written, and the agent says that it wrote disk %q", wish.Disk, r.Deploy.DiskSerial)
	}
	return machine.ReasonNone, ""
}

func (t *turn) deployment(wish *machine.DeployWish, r *machine.DeployResult) *machine.Deployment {
	return &machine.Deployment{
		OperationID: t.s.Operation.ID, ImageDigest: wish.ImageDigest, ImageName: wish.ImageName,
		DiskSerial: r.DiskSerial, InstanceID: wish.InstanceID, Proof: wish.Proof,
		BootPath: r.BootPath, BootPathDetail: r.BootPathDetail, EnteredBy: r.EnteringBy,
		LoaderPartitionGUID: r.LoaderPartitionGUID, LoaderPath: r.LoaderPath,
		BytesFetched: r.BytesFetched, BytesWritten: r.BytesWritten, BytesKept: r.BytesKept, BytesFromPeers: r.BytesFromPeers,
		FlushedAfter: r.FlushedAfter, VerifiedAfter: r.VerifiedAfter,
	}
}

// diskFirst makes a BIOS machine start from its disk: there the firmware's
// order belongs to the BMC. On UEFI the agent has set it and read it back. A BMC
// that cannot do it costs a warning: the image is on the disk, and a machine that
// asks the network first is sent to its disk from there.
func (t *turn) diskFirst(r *machine.DeployResult) bool {
	if r.BootPath == "checked" || !drivable(t.s.Machine) {
		return true
	}
	job := machine.BMCJob{Action: machine.BMCBootDisk, BootMode: t.s.Machine.BootMode}
	order := t.run(bmcStep("boot-disk", "the installed system is to start from its disk", job))
	if end := t.d.End; order == nil && end != nil {
		t.d.End, t.d.Events = nil, nil
		t.d.Warnings = append(t.d.Warnings, machine.Warning{Code: string(machine.ReasonBootOrder),
			Text: "its BMC could not put the disk first, so it asks the network at each start: " + end.Detail})
		return true
	}
	if order == nil {
		return false
	}
	if d := t.s.Machine.Deployed; d != nil && d.OperationID == t.s.Operation.ID && d.BootPath != "checked" && d.BootPath != "proven" {
		now := *d
		now.BootPath, now.BootPathDetail = "checked", order.Result.Evidence
		t.d.Deployed = &now
	} else if t.d.Deployed != nil {
		t.d.Deployed.BootPath, t.d.Deployed.BootPathDetail = "checked", order.Result.Evidence
	}
	return true
}

// stopped waits until the machine is off, where a BMC can tell.
func (t *turn) stopped(written *machine.Order) {
	if !drivable(t.s.Machine) {
		t.succeed(machine.Deployed)
		return
	}
	last := t.latest("stopped")
	switch {
	case last == nil:
		t.lookAtPower("stopped", "has it powered off", 1)
	case last.State == machine.OrderSucceeded && last.Result.Power == machine.PowerOff:
		t.d.Power = machine.PowerOff
		t.succeed(machine.Deployed)
	case last.State == machine.OrderPending || last.State == machine.OrderDelivered:
		t.wait("stop", "for the power state", time.Minute)
	case t.s.Now.Sub(last.FinishedAt) < 5*time.Second:
		t.wait("stop", "for the machine to power off", 5*time.Second)
	case t.s.Now.Sub(written.FinishedAt) < stopLimit:
		t.lookAtPower("stopped", "has it powered off", last.Attempt+1)
	default:
		off := t.run(bmcStep("stop-off", "it did not power off by itself", machine.BMCJob{Action: machine.BMCOff}))
		if off != nil {
			t.d.Power = machine.PowerOff
			t.succeed(machine.Deployed)
		}
	}
}

// proven waits for the installed system's report; silence brings one restart
// through the firmware, then a named failure. A machine that comes back into
// the agent instead is sent to its disk.
func (t *turn) proven(written *machine.Order) {
	if d := t.s.Machine.Deployed; d != nil && d.OperationID == t.s.Operation.ID && !d.ProvenAt.IsZero() {
		if !t.cutShort() {
			t.succeed(machine.Deployed)
		}
		return
	}
	since := written.FinishedAt
	if !t.sentToDisk(written, &since) {
		return
	}
	restart := t.latest("restart-on")
	restarted := restart != nil && restart.State == machine.OrderSucceeded
	if restarted {
		since = restart.FinishedAt
	}
	if left := proofLimit - t.s.Now.Sub(since); left > 0 {
		t.awaitProof(since, left)
		return
	}
	if restarted || !drivable(t.s.Machine) {
		t.fail(machine.ReasonSystemSilent, fmt.Sprintf("no report within %s; %s", proofLimit, t.lastSeen()))
		return
	}
	if t.restart() {
		t.wait("proof", "for the installed system to report", proofLimit)
	}
}

// restart takes the silent system through its firmware once.
func (t *turn) restart() bool {
	const cause = "the installed system is silent: restart it through its firmware"
	if t.run(bmcStep("restart-off", cause, machine.BMCJob{Action: machine.BMCOff})) == nil {
		return false
	}
	if t.run(bmcStep("restart-on", cause, machine.BMCJob{Action: machine.BMCOn})) == nil {
		return false
	}
	t.enteredByFirmware()
	return true
}

// cutShort handles a report that came when the restart was under way: what was
// begun is brought to its end, so that a deployed machine is not left off. It
// returns true when the turn is decided.
func (t *turn) cutShort() bool {
	off := t.latest("restart-off")
	if off == nil || off.State == machine.OrderPending || off.State == machine.OrderFailed || off.State == machine.OrderSuperseded {
		return false // not begun: the end of the operation takes it back
	}
	return !t.restart()
}

// awaitProof waits for the report; a machine that loses its power meanwhile is
// switched on again and starts from its disk.
func (t *turn) awaitProof(since time.Time, left time.Duration) {
	const what = "for the installed system to report"
	for n := 1; n <= powerBacks; n++ {
		name := fmt.Sprintf("power-back-%d", n)
		last := t.latest(name)
		if last != nil && last.State == machine.OrderSucceeded {
			since = last.FinishedAt
			continue
		}
		if last == nil && !t.lostPower("proof-power", "proof", what, since, left) {
			return
		}
		if t.run(bmcStep(name, "it lost its power after the deploy", machine.BMCJob{Action: machine.BMCOn})) == nil {
			return
		}
		t.enteredByFirmware()
	}
	t.wait("proof", what, left)
}

// sentToDisk handles an agent that is there although the deploy has ended: the
// machine lost its power, or its firmware does not start the disk.
func (t *turn) sentToDisk(written *machine.Order, since *time.Time) bool {
	m := t.s.Machine
	for n := 1; n <= diskTries; n++ {
		name := fmt.Sprintf("to-disk-%d", n)
		last := t.latest(name)
		if last != nil && last.State == machine.OrderSucceeded {
			*since = last.FinishedAt
			if m.BootGeneration <= last.BootGeneration {
				return true
			}
			continue
		}
		if last == nil && (!m.AgentOnline || m.BootGeneration <= written.BootGeneration) {
			return true
		}
		if last != nil && !m.AgentOnline && last.State != machine.OrderFailed && t.s.Now.Sub(m.AgentSeenAt) > reconnectGrace {
			// It went before it could: the power was lost again, or it left without a
			// word. It counts from then on as a machine whose report is awaited.
			*since = m.AgentSeenAt
			return true
		}
		if t.run(step{
			Name: name, Target: machine.TargetAgent, Cause: "the machine came back into the agent: start it from its disk",
			Job: machine.Job{Reboot: &machine.RebootJob{}}, Limit: 5 * time.Minute, Tries: 1,
			Irreversible: "a restart; nothing is lost, the installed system was not running",
		}) == nil {
			return false
		}
		t.enteredByFirmware()
	}
	if m.AgentOnline {
		t.fail(machine.ReasonBootOrder, fmt.Sprintf("sent to its disk %d times and came back into the agent each time", diskTries))
		return false
	}
	return true
}

func (t *turn) enteredByFirmware() {
	if d := t.s.Machine.Deployed; d != nil && d.EnteredBy != machine.EnteredByFirmware {
		now := *d
		now.EnteredBy = machine.EnteredByFirmware
		t.d.Deployed = &now
	}
}
