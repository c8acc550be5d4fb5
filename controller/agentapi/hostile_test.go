package agentapi

import (
	"encoding/json"
	"math"
	"net"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// TestResultCanBeWrittenDown: whatever an agent claims, its result is stored;
// what cannot be stored would be sent again for ever.
func TestResultCanBeWrittenDown(t *testing.T) {
	t.Parallel()
	for _, seconds := range []int64{math.MinInt64, -1 << 40, 0, 1 << 40, math.MaxInt64} {
		at := &timestamppb.Timestamp{Seconds: seconds, Nanos: math.MaxInt32}
		long := &durationpb.Duration{Seconds: seconds}
		for _, r := range []*agent.JobResult{
			{Result: &agent.JobResult_Erase{Erase: &agent.EraseResult{Receipts: []*agent.EraseReceipt{{StartedAt: at, SizeBytes: math.MaxUint64}, {EndedAt: &timestamppb.Timestamp{Seconds: seconds}}}}}},
			{Result: &agent.JobResult_Deploy{Deploy: &agent.DeployResult{BytesWritten: math.MaxUint64, FlushedAfter: long, ImageDigest: strings.Repeat("\x00é", 1000)}}},
		} {
			_, _, _, result := outcome(r)
			if _, err := json.Marshal(result); err != nil {
				t.Errorf("%d s: %v", seconds, err)
			}
		}
	}
}

// TestFactsFitTheStore: a collection with more than is kept is cut, not refused.
func TestFactsFitTheStore(t *testing.T) {
	t.Parallel()
	c := &hardware.Collection{}
	for i := range 300 {
		c.Nics = append(c.Nics, &hardware.NIC{PermanentMac: net.HardwareAddr{0, 1, 2, 3, byte(i >> 8), byte(i)}.String(), SpeedBitsPerSecond: math.MaxUint64})
	}
	for range 3000 {
		c.Disks = append(c.Disks, &hardware.Disk{Serial: strings.Repeat("x", 5000)})
	}
	f := facts(c)
	if len(f.NICs) > 64 || len(f.Disks) > 1024 || len(f.Disks[0].Serial) > maxText {
		t.Errorf("got %d NICs, %d disks, a serial of %d bytes", len(f.NICs), len(f.Disks), len(f.Disks[0].Serial))
	}
}
