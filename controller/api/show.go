package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/hardware"
	"github.com/ingot-metal/ingot/proto/operator"
)

// at is absent for the zero time.
func at(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

var states = map[machine.State]operator.State{
	machine.Enrolled:      operator.State_STATE_ENROLLED,
	machine.Commissioning: operator.State_STATE_COMMISSIONING,
	machine.Ready:         operator.State_STATE_READY,
	machine.Allocated:     operator.State_STATE_ALLOCATED,
	machine.Deploying:     operator.State_STATE_DEPLOYING,
	machine.Deployed:      operator.State_STATE_DEPLOYED,
	machine.Releasing:     operator.State_STATE_RELEASING,
	machine.Erasing:       operator.State_STATE_ERASING,
	machine.Broken:        operator.State_STATE_BROKEN,
}

// explain gives a reason's sentence, with what exactly happened, and the next
// step with the machine's id in its commands.
func explain(id machine.ID, r machine.Reason, detail string) (text, next string) {
	if r == machine.ReasonNone {
		return detail, ""
	}
	c := machine.CauseOf(r)
	text = c.Sentence
	if detail != "" {
		text += " (" + detail + ")"
	}
	return text, c.NextFor(id)
}

func showMachine(m machine.Machine) *operator.Machine {
	out := &operator.Machine{
		Id: string(m.ID), Hostname: m.Hostname, State: states[m.State], Outcome: string(m.Outcome), Reason: string(m.Reason),
		Approved: m.Approved, Architecture: m.Architecture, SystemUuid: m.UUID, Serial: m.Serial, Vendor: m.Vendor, Product: m.Product,
		MemoryBytes: m.MemoryBytes, CpuThreads: m.CPUThreads, PowerState: string(m.PowerState), BootMode: showBootMode(m.BootMode),
		AgentConnected: m.AgentOnline, OperationId: m.OperationID, WishGeneration: m.WishGeneration, BootGeneration: m.BootGeneration,
		CreatedAt: at(m.CreatedAt), StateSince: at(m.StateSince), DeadlineAt: at(m.DeadlineAt), MaasStatus: machine.MAASStatus(m.State, m.Outcome),
		Pool: m.Pool, Bmc: showBMC(m.BMC), Disks: showDisks(m.Disks), Deployment: showDeployment(m.Deployed),
	}
	out.ReasonText, out.NextStep = explain(m.ID, m.Reason, m.Detail)
	if !m.Approved && out.NextStep == "" {
		out.NextStep = "ingot machine approve " + string(m.ID)
	}
	for _, n := range m.NICs {
		out.Nics = append(out.Nics, &operator.NIC{
			Id: n.ID, Name: n.Name, Mac: n.MAC.String(), SpeedBitsPerSecond: n.SpeedBitsPerSecond, LinkUp: n.LinkUp, Driver: n.Driver,
			Address: n.Address, BootNic: n.BootNIC, Neighbour: n.Neighbour,
		})
	}
	for _, d := range m.LostDisks {
		out.LostDisks = append(out.LostDisks, &operator.LostDisk{Serial: d.Serial, Wwn: d.WWN, Model: d.Model, HoldsData: showDiskData(&d.Data)})
	}
	for _, w := range m.Warnings {
		out.Warnings = append(out.Warnings, &operator.Warning{Code: w.Code, Text: w.Text})
	}
	return out
}

func showBootMode(m machine.BootMode) hardware.BootMode {
	switch m {
	case machine.BootModeBIOS:
		return hardware.BootMode_BOOT_MODE_BIOS
	case machine.BootModeUEFI:
		return hardware.BootMode_BOOT_MODE_UEFI
	}
	return hardware.BootMode_BOOT_MODE_UNSPECIFIED
}

func showDisks(disks []machine.Disk) []*operator.Disk {
	var out []*operator.Disk
	for _, d := range disks {
		out = append(out, &operator.Disk{
			Id: d.ID, Name: d.Name, Serial: d.Serial, Wwn: d.WWN, Model: d.Model, SizeBytes: d.SizeBytes,
			LogicalSectorBytes: d.SectorBytes, Kind: string(d.Kind), Health: d.Health, HoldsData: showDiskData(d.Data),
		})
	}
	return out
}

func showDiskData(d *machine.DiskData) *operator.DiskData {
	if d == nil {
		return nil
	}
	return &operator.DiskData{Since: at(d.Since), OperationId: d.OperationID, MachineId: string(d.MachineID), Written: d.Written}
}

// showBMC never shows a password: machine.BMC holds none.
func showBMC(b *machine.BMC) *operator.BMC {
	if b == nil {
		return nil
	}
	return &operator.BMC{
		Url: b.URL, User: b.User, Vendor: b.Vendor, Model: b.Model, Firmware: b.Firmware,
		CertificateSha256: b.CertificateSHA256, LastError: b.LastError,
	}
}

func showDeployment(d *machine.Deployment) *operator.Deployment {
	if d == nil {
		return nil
	}
	return &operator.Deployment{
		ImageDigest: digestWord(d.ImageDigest), ImageName: d.ImageName, DiskSerial: d.DiskSerial, Proof: string(d.Proof), ProvenAt: at(d.ProvenAt),
		BootPath: d.BootPath, BootPathDetail: d.BootPathDetail, EnteredBy: string(d.EnteredBy), BytesFetched: d.BytesFetched, BytesWritten: d.BytesWritten,
		FlushedAfter: durationpb.New(d.FlushedAfter), VerifiedAfter: durationpb.New(d.VerifiedAfter), InstanceId: d.InstanceID,
		BytesKept: d.BytesKept, BytesFromPeers: d.BytesFromPeers,
	}
}

// showOperation leaves the wish out: it holds user-data and tokens.
func (s *Server) showOperation(op machine.Operation) *operator.Operation {
	out := &operator.Operation{
		Id: op.ID, MachineId: string(op.MachineID), Kind: string(op.Kind), State: string(op.State), Reason: string(op.Reason), Phase: op.Phase,
		CreatedAt: at(op.CreatedAt), FinishedAt: at(op.FinishedAt), WishGeneration: op.WishGeneration, RequestedBy: op.RequestedBy,
		Deployment: showDeployment(op.Deployed),
	}
	out.ReasonText, out.NextStep = explain(op.MachineID, op.Reason, op.Detail)
	for _, st := range op.Steps {
		out.Steps = append(out.Steps, &operator.Step{
			Name: st.Name, State: string(st.State), Detail: st.Detail, StartedAt: at(st.StartedAt), FinishedAt: at(st.FinishedAt),
		})
	}
	if op.State.Ended() {
		return out
	}
	if p, ok := s.c.Board.Get(op.MachineID); ok && !p.At.Before(op.CreatedAt) {
		out.Progress = showProgress(p)
		if p.Phase != "" {
			out.Phase = p.Phase
		}
	}
	return out
}

func showProgress(p event.Progress) *operator.Progress {
	return &operator.Progress{DoneBytes: p.DoneBytes, TotalBytes: p.TotalBytes, BytesPerSecond: p.BytesPerSecond, FetchedBytes: p.FetchedBytes}
}
