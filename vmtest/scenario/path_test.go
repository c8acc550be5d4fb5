//go:build vm

package scenario

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"github.com/ingot-metal/ingot/proto/operator"
)

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJXmHGUR4zIqXwEEMSGGGOV8AQOxKdrzVXtvNwyEwN7u scenario"

// TestWholePath sends machines of three firmwares from their first power-on to
// a proven system with one POST, then restarts it through its firmware, deploys
// over it, and releases it.
func TestWholePath(t *testing.T) {
	for _, name := range []string{"path", "bios", "http"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, name)
			r.ready()
			r.posts(1)
			userData := []byte("#!/bin/sh\n# " + name + " \x00\xff bytes as they are\n")
			from := r.Console.Position()
			r.succeeds(r.deploy(func(d *operator.MachineDeployRequest) {
				d.UserData, d.SshKeys = userData, []string{sshKey}
			}))
			r.is("deployed")
			r.posts(1)
			if d := r.get().GetDeployment(); d.GetEnteredBy() != "kexec" || d.GetProvenAt() == nil || d.GetImageDigest() != world.image {
				t.Errorf("deployment: got %v, want one proven and entered by kexec", d)
			}
			sum := sha256.Sum256(userData)
			line := r.sees(from, `ingot-tiny: up hostname=(\S+) instance_id=(\S+) user_data_sha256=(\S+) ssh_keys=(\d+)`)
			if got, want := line[1:5], []string{name + "-host", r.get().GetDeployment().GetInstanceId(), hex.EncodeToString(sum[:]), "1"}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("installed system: got %v, want %v", got, want)
			}
			restart(r)
			redeploy(r)
			release(r)
		})
	}
}

// restart switches the machine off and on: its firmware alone must find the
// disk.
func restart(r *rig) {
	r.t.Helper()
	from := r.Console.Position()
	op, err := machines().MachinePower(r.t.Context(), &operator.MachinePowerRequest{Machine: r.id, Action: operator.PowerAction_POWER_ACTION_CYCLE})
	if err != nil {
		r.t.Fatal(err)
	}
	r.succeeds(op)
	if line := r.sees(from, `ingot-tiny: up .*entered=(\w+)`); line[1] != "firmware" {
		r.t.Errorf("entered by %s, want firmware", line[1])
	}
	r.posts(2)
	r.is("deployed")
}

// redeploy deploys over the installed system, with kexec forbidden: one POST into
// the agent and one into the system.
func redeploy(r *rig) {
	r.t.Helper()
	r.succeeds(r.deploy(func(d *operator.MachineDeployRequest) { d.Kexec = "never" }))
	r.posts(4)
	if d := r.get().GetDeployment(); d.GetEnteredBy() != "firmware" {
		r.t.Errorf("entered by %s, want firmware", d.GetEnteredBy())
	}
}

// release erases the disk; every byte must be gone.
func release(r *rig) {
	r.t.Helper()
	op, err := machines().MachineRelease(r.t.Context(), &operator.MachineReleaseRequest{Machine: r.id, Erase: true, DiskSerials: r.Serials})
	if err != nil {
		r.t.Fatal(err)
	}
	r.succeeds(op)
	r.is("ready")
	d := r.Disks[0]
	buffer := make([]byte, mib)
	for at := int64(0); at < d.Size(); at += mib {
		if _, err := d.ReadAt(buffer, at); err != nil {
			r.t.Fatal(err)
		}
		if i := bytes.IndexFunc(buffer, func(c rune) bool { return c != 0 }); i >= 0 {
			r.t.Fatalf("released disk has data at byte %d", at+int64(i))
		}
	}
}

// TestBytesOnDisk deploys and stops before the first boot: the disk must be the
// image, but for the partition table and what lies behind the root partition.
func TestBytesOnDisk(t *testing.T) {
	r := newRig(t, "path")
	r.ready()
	r.succeeds(r.deploy(func(d *operator.MachineDeployRequest) { d.Then = "stop" }))
	if r.Truth().On {
		t.Error("the machine is on after --then=stop")
	}
	image, err := os.ReadFile(world.raw)
	if err != nil {
		t.Fatal(err)
	}
	const table = 34 * 512 // protective MBR, header and entries; the backup at the end
	got := make([]byte, len(image))
	if _, err := r.Disks[0].ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	// The first 440 bytes of the MBR are boot code and must be the image's.
	for _, span := range [][2]int{{0, 440}, {table, len(image) - table}} {
		if !bytes.Equal(got[span[0]:span[1]], image[span[0]:span[1]]) {
			t.Errorf("bytes %d to %d differ from the image", span[0], span[1])
		}
	}
}
