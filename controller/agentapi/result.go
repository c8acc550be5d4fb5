package agentapi

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/agent"
)

// maxWarnings bounds what a result may bring.
const maxWarnings = 32

// outcome turns an agent's result into the order's end.
func outcome(r *agent.JobResult) (machine.OrderState, machine.Reason, string, machine.Result) {
	state, reason := machine.OrderFailed, machine.Reason(text(r.GetReason()))
	switch r.GetOutcome() {
	case agent.Outcome_OUTCOME_SUCCEEDED:
		state, reason = machine.OrderSucceeded, machine.ReasonNone
	case agent.Outcome_OUTCOME_CANCELLED:
		reason = machine.ReasonCancelled
	default:
		if !machine.Known(reason) {
			reason = machine.ReasonAgentError
		}
	}
	return state, reason, text(r.GetDetail()), resultOf(r)
}

func resultOf(r *agent.JobResult) machine.Result {
	var out machine.Result
	for _, w := range r.GetWarnings()[:min(len(r.GetWarnings()), maxWarnings)] {
		out.Warnings = append(out.Warnings, machine.Warning{Code: text(w.GetCode()), Text: text(w.GetText())})
	}
	if c := r.GetCommission(); c != nil {
		out.Tests = &machine.TestTally{Passed: int(c.GetTestsPassed()), Failed: int(c.GetTestsFailed())}
	}
	if d := r.GetDeploy(); d != nil {
		out.Deploy = deployResult(d)
	}
	for _, e := range r.GetErase().GetReceipts()[:min(len(r.GetErase().GetReceipts()), maxDisks)] {
		out.Erase = append(out.Erase, machine.EraseReceipt{
			DiskSerial: text(e.GetDiskSerial()), DiskModel: text(e.GetDiskModel()), WWN: text(e.GetWwn()), SizeBytes: e.GetSizeBytes(), Method: text(e.GetMethod()),
			StartedAt: instant(e.GetStartedAt()), EndedAt: instant(e.GetEndedAt()), VerifiedBytes: e.GetVerifiedBytes(), Verified: e.GetVerified(),
			DoesNotProve: text(e.GetDoesNotProve()),
		})
	}
	return out
}

func deployResult(d *agent.DeployResult) *machine.DeployResult {
	r := &machine.DeployResult{
		ImageDigest: text(d.GetImageDigest()), DiskSerial: text(d.GetDiskSerial()), BytesFetched: d.GetBytesFetched(), BytesWritten: d.GetBytesWritten(),
		BytesKept: d.GetBytesKept(), BytesFromPeers: d.GetBytesFromPeers(),
		FlushedAfter: bounded(d.GetFlushedAfter().AsDuration()), VerifiedAfter: bounded(d.GetVerifiedAfter().AsDuration()), Verified: d.GetVerified(),
		BootPath: "unknown", BootPathDetail: text(d.GetBootPathDetail()), EnteringBy: machine.EnteredByFirmware, KexecRefused: text(d.GetKexecRefused()),
		LoaderPartitionGUID: text(d.GetLoaderPartitionGuid()), LoaderPath: text(d.GetLoaderPath()),
	}
	if d.GetBootPath() == agent.BootPath_BOOT_PATH_CHECKED {
		r.BootPath = "checked"
	}
	if d.GetEnteringBy() == agent.EnteredBy_ENTERED_BY_KEXEC {
		r.EnteringBy = machine.EnteredByKexec
	}
	return r
}

// bounded keeps a claimed duration within what a deploy may take.
func bounded(d time.Duration) time.Duration { return min(max(d, 0), 24*time.Hour) }

// instant is a claimed time; zero for none, and for one that cannot be written
// down (RFC 3339 ends with the year 9999).
func instant(t *timestamppb.Timestamp) time.Time {
	if !t.IsValid() {
		return time.Time{}
	}
	return t.AsTime()
}
