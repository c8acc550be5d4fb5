//go:build vm

package scenario

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/proto/operator"
)

// relayed are the machines that are deployed at once; victim is the one whose
// power is cut, in the middle of them.
var relayed = []string{"relay1", "relay2", "relay3", "relay4", "relay5"}

const victim = 2

// TestFiveAtOnce deploys five machines together, which pass the image's frames on
// to each other, and cuts the power of one of them half-way.
func TestFiveAtOnce(t *testing.T) {
	image, err := importImage(t.Context(), "padded", padded(t, 64*mib))
	if err != nil {
		t.Fatal(err)
	}
	rigs := make([]*rig, len(relayed))
	ops := make([]*operator.Operation, len(relayed))
	for i, name := range relayed {
		rigs[i] = newRig(t, name)
		ops[i] = rigs[i].add()
	}
	for i, r := range rigs {
		r.succeeds(ops[i])
		r.is("ready")
	}
	for i, r := range rigs {
		ops[i] = r.deploy(func(d *operator.MachineDeployRequest) { d.Image = image.GetDigest() })
	}
	halfWay(t, ops[victim])
	if err := rigs[victim].PullPlug(); err != nil {
		t.Fatal(err)
	}
	var fetched, fromPeers uint64
	for i, r := range rigs {
		r.succeeds(ops[i])
		r.is("deployed")
		d := r.get().GetDeployment()
		if d.GetProvenAt() == nil || d.GetImageDigest() != image.GetDigest() {
			t.Errorf("%s: got %v, want the padded image, proven", r.Spec.Name, d)
		}
		t.Logf("%s: %.1f MB fetched, of these %.1f MB from peers", r.Spec.Name, float64(d.GetBytesFetched())/1e6, float64(d.GetBytesFromPeers())/1e6)
		fetched, fromPeers = fetched+d.GetBytesFetched(), fromPeers+d.GetBytesFromPeers()
	}
	if fromPeers == 0 {
		t.Errorf("of %d bytes none came from peers", fetched)
	}
	// The disk loses what was not flushed, but not all of it.
	if rigs[victim].get().GetDeployment().GetBytesKept() == 0 {
		t.Error("after the power cut nothing that was on the disk was kept")
	}
}

// halfWay waits until a deploy has written a part of the image.
func halfWay(t *testing.T, op *operator.Operation) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); pause(t.Context(), 200*time.Millisecond) {
		got, err := operator.NewOperationServiceClient(world.conn).OperationGet(t.Context(), &operator.OperationGetRequest{Operation: op.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		if got.GetFinishedAt() != nil {
			t.Fatalf("the deploy ended before it could be struck: %s, %s", got.GetState(), got.GetReason())
		}
		if p := got.GetProgress(); p.GetFetchedBytes() > 16*mib {
			return
		}
	}
	t.Fatal("the deploy never came half-way")
}

// padded makes a variant of the tiny system with a file of noise in its root
// directory, so that there is something to relay.
func padded(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	image, noise := filepath.Join(dir, "padded.raw"), filepath.Join(dir, "noise")
	data, err := os.ReadFile(world.raw)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	if err := os.WriteFile(image, data, 0o644); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, size)
	_, _ = rand.Read(random) // never fails
	if err := os.WriteFile(noise, random, 0o644); err != nil {
		t.Fatal(err)
	}
	// The root is the third partition: its entry in the GPT says where it begins
	// (UEFI specification, section 5.3.3).
	root := binary.LittleEndian.Uint64(data[2*512+2*128+32:]) * 512
	cmd := exec.Command("debugfs", "-w", "-R", "write "+noise+" /noise", fmt.Sprintf("%s?offset=%d", image, root))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pad the tiny system: %v: %s", err, out)
	}
	return image
}
