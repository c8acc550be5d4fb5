package agentapi

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/metadata"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/fault"
)

// orderLife is how long an agent may begin an order after it was delivered.
const orderLife = 10 * time.Minute

// Images is what a deploy needs of the images kept here.
type Images interface {
	// ManifestRead gives the canonical manifest of an image in service, from
	// another controller when there is no copy here.
	ManifestRead(ctx context.Context, digest string) ([]byte, error)
	// FrameURLs are signed links by which the reader may read an image's frames
	// until they expire or its order ends: of this controller, by the host at
	// which the machine reached it, and then of the others that have a copy.
	FrameURLs(ctx context.Context, digest string, r image.Reader, host string, expires time.Time) ([]string, error)
}

// Jobs turns orders into what agents are sent.
type Jobs struct {
	Images Images
	// CAPEM is what installed systems pin when they report.
	CAPEM []byte
	// ReportPort is where installed systems report (HTTPS); the host is the one by
	// which the agent reached us.
	ReportPort string
}

// order makes the wire form of an order for a machine that reached us at host.
func (j Jobs) order(ctx context.Context, m machine.Machine, o machine.Order, host string, now time.Time) (*agent.Order, error) {
	wire := &agent.Order{
		Id: o.ID, WishGeneration: o.WishGeneration, BootGeneration: o.BootGeneration, LeaseToken: o.LeaseToken,
		ExpiresAt: timestamppb.New(now.Add(orderLife)),
	}
	switch {
	case o.Job.Commission != nil:
		wire.Job = &agent.Order_Commission{Commission: &agent.CommissionJob{SkipTests: o.Job.Commission.SkipTests}}
	case o.Job.Erase != nil:
		job := &agent.EraseJob{VerifyPercent: o.Job.Erase.VerifyPercent}
		for _, serial := range o.Job.Erase.DiskSerials {
			selector, err := selectDisk(m, serial)
			if err != nil {
				return nil, err
			}
			job.Disks = append(job.Disks, selector)
		}
		wire.Job = &agent.Order_Erase{Erase: job}
	case o.Job.Reboot != nil:
		action := agent.PowerJob_ACTION_REBOOT
		if o.Job.Reboot.PowerOff {
			action = agent.PowerJob_ACTION_POWER_OFF
		}
		wire.Job = &agent.Order_Power{Power: &agent.PowerJob{Action: action}}
	case o.Job.Deploy != nil:
		job, err := j.deploy(ctx, m, o, host, now)
		if err != nil {
			return nil, err
		}
		job.Resume = o.Attempt > 1
		wire.Job = &agent.Order_Deploy{Deploy: job}
	default:
		return nil, fault.New(fault.Invalid, "order %d holds no job for an agent", o.ID)
	}
	return wire, nil
}

func (j Jobs) deploy(ctx context.Context, m machine.Machine, o machine.Order, host string, now time.Time) (*agent.DeployJob, error) {
	w := *o.Job.Deploy
	manifest, err := j.Images.ManifestRead(ctx, w.ImageDigest)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", w.ImageDigest, err)
	}
	// The links stay good as long as a deploy may take, and this order is open.
	rule, _ := machine.RuleOf(machine.Deploying)
	reader := image.Reader{MachineID: string(m.ID), OrderID: o.ID, BootGeneration: o.BootGeneration}
	urls, err := j.Images.FrameURLs(ctx, w.ImageDigest, reader, host, now.Add(rule.Limit))
	if err != nil {
		return nil, fmt.Errorf("links to image %s: %w", w.ImageDigest, err)
	}
	disk, err := selectDisk(m, w.Disk)
	if err != nil {
		return nil, err
	}
	seed, err := j.seed(m, w, host)
	if err != nil {
		return nil, err
	}
	job := &agent.DeployJob{
		ImageDigest: w.ImageDigest, Manifest: manifest, FrameUrls: urls,
		Disk: disk, Seed: seed, KexecForbidden: w.KexecForbidden, After: agent.After_AFTER_BOOT, WipeConflicting: w.WipeConflicting,
		Reuse: w.Reuse, ReadBack: &agent.ReadBack{Percent: w.ReadBack.Percent, Sha256: w.ReadBack.SHA256},
	}
	if w.Stop {
		job.After = agent.After_AFTER_STOP
	}
	return job, nil
}

func (j Jobs) seed(m machine.Machine, w machine.DeployWish, host string) (*agent.Seed, error) {
	s := metadata.Seed{InstanceID: w.InstanceID, Hostname: w.Hostname, SSHKeys: w.SSHKeys, UserData: w.UserData, Network: network(m)}
	if w.Proof != machine.ProofNone {
		report := url.URL{Scheme: "https", Host: net.JoinHostPort(host, j.ReportPort), Path: metadata.ReportPath}
		s.Report = &metadata.ReportTo{URL: report.String(), Token: w.ReportToken, CAPEM: j.CAPEM, MachineID: string(m.ID)}
	}
	files, err := s.Render()
	if err != nil {
		return nil, fmt.Errorf("render the first-boot seed: %w", err)
	}
	seed := &agent.Seed{}
	for _, f := range files {
		switch f.Name {
		case "meta-data":
			seed.MetaData = f.Data
		case "user-data":
			seed.UserData = f.Data
		case "vendor-data":
			seed.VendorData = f.Data
		case "network-config":
			seed.NetworkConfig = f.Data
		}
	}
	return seed, nil
}

func network(m machine.Machine) metadata.Network {
	var n metadata.Network
	for _, nic := range m.NICs {
		if nic.BootNIC && n.BootMAC == nil {
			n.BootMAC = nic.MAC
		} else {
			n.OtherMACs = append(n.OtherMACs, nic.MAC)
		}
	}
	return n
}

// selectDisk names a disk so that the agent can find it again in this boot.
func selectDisk(m machine.Machine, word string) (*agent.DiskSelector, error) {
	for _, d := range m.Disks {
		if word != "" && (d.Serial == word || d.Serial == "" && d.WWN == word) {
			return &agent.DiskSelector{Serial: d.Serial, Wwn: d.WWN, ByPath: d.ByPath, SizeBytes: d.SizeBytes}, nil
		}
	}
	return nil, fault.New(fault.Precondition, "disk %s is not in the machine's inventory; commission it again", word)
}
