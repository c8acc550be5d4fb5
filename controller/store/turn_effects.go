package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// saveOrders takes orders back and gives the decision's; one that was given already counts
// once. A machine that nobody approved gets none.
func (t *turn) saveOrders(ctx context.Context) error {
	if len(t.d.Withdraw) > 0 {
		if _, err := t.tx.Exec(ctx, t.s.sql.Get("TurnWithdraw"), t.m.id, t.d.Withdraw); err != nil {
			return fmt.Errorf("take orders back: %w", err)
		}
	}
	for _, o := range t.d.Orders {
		if !t.m.approved {
			return fault.New(fault.Denied, "machine %s is not approved: no order is given to it", t.m.id)
		}
		if err := t.saveOrder(ctx, o); err != nil {
			return fmt.Errorf("order %s: %w", o.Step, err)
		}
	}
	return nil
}

func (t *turn) saveOrder(ctx context.Context, o machine.Order) error {
	if o.Attempt == 0 {
		o.Attempt = 1
	}
	operation, bootGeneration := t.snap.Operation.ID, t.m.bootGeneration
	if o.Target == machine.TargetBMC {
		bootGeneration = 0
	}
	var known bool
	err := t.tx.QueryRow(ctx, t.s.sql.Get("TurnOrderKnown"), operation, o.Step, o.Attempt, o.Target).Scan(&known)
	if err != nil || known {
		return err
	}
	if _, err := t.tx.Exec(ctx, t.s.sql.Get("TurnSupersedeOlder"), t.m.id, o.Target, t.m.leaseToken); err != nil {
		return err
	}
	var id int64
	if err := t.tx.QueryRow(ctx, t.s.sql.Get("TurnOrderID")).Scan(&id); err != nil {
		return err
	}
	job, err := json.Marshal(o.Job)
	if err != nil {
		return err
	}
	sealed, err := t.s.ring.Seal(job, jobPlace(id))
	if err != nil {
		return err
	}
	audit, err := t.auditOrder(ctx, id, o)
	if err != nil {
		return err
	}
	_, err = t.tx.Exec(ctx, t.s.sql.Get("TurnOrderInsert"), id, t.m.id, operation, o.Step, o.Attempt, o.Target, t.m.wishGeneration,
		bootGeneration, t.m.leaseToken, cut(o.Cause, 1000), sealed, audit)
	return err
}

// auditOrder names the cause of a power action before it can be carried out.
func (t *turn) auditOrder(ctx context.Context, id int64, o machine.Order) (*int64, error) {
	if o.Target != machine.TargetBMC {
		return nil, nil
	}
	action := "bmc"
	if o.Job.BMC != nil {
		action += "." + o.Job.BMC.Action
	}
	audit, err := t.s.auditAdd(ctx, t.tx, "lifecycle", action, string(t.m.id), map[string]string{
		"order": strconv.FormatInt(id, 10), "operation": t.snap.Operation.ID, "step": o.Step, "cause": o.Cause,
		"requested_by": t.snap.Operation.RequestedBy,
	})
	return &audit, err
}

func jobPlace(id int64) string    { return fmt.Sprintf("machine_order.job/%d", id) }
func resultPlace(id int64) string { return fmt.Sprintf("machine_order.result/%d", id) }

func (t *turn) saveDeployment(ctx context.Context) error {
	keep := ""
	if d := t.d.Deployed; d != nil {
		keep = d.OperationID
	}
	if t.d.Deployed == nil && !t.d.ForgetDeployment {
		return nil
	}
	if _, err := t.tx.Exec(ctx, t.s.sql.Get("TurnDeploymentRetire"), t.m.id, keep); err != nil {
		return err
	}
	d := t.d.Deployed
	if d == nil {
		return nil
	}
	// Whether it is proven is first_boot_report's to say, never a decision's.
	_, err := t.tx.Exec(ctx, t.s.sql.Get("TurnDeploymentPut"), d.OperationID, t.m.id, d.ImageDigest, d.ImageName, d.DiskSerial,
		d.InstanceID, d.Proof, d.BootPath, cut(d.BootPathDetail, 2000), d.EnteredBy, d.LoaderPartitionGUID, d.LoaderPath,
		whole(d.BytesFetched), whole(d.BytesWritten), int64(d.FlushedAfter), int64(d.VerifiedAfter),
		whole(d.BytesKept), whole(d.BytesFromPeers))
	if err != nil {
		return fmt.Errorf("deployment: %w", err)
	}
	return nil
}

func (t *turn) saveReceipts(ctx context.Context) error {
	for _, r := range t.d.Receipts {
		_, err := t.tx.Exec(ctx, t.s.sql.Get("TurnReceiptInsert"), t.snap.Operation.ID, t.m.id, cut(r.DiskSerial, 200), cut(r.DiskModel, 200),
			cut(r.WWN, 200), whole(r.SizeBytes), cut(r.Method, 100), when(r.StartedAt), when(r.EndedAt), whole(r.VerifiedBytes), r.Verified,
			cut(r.DoesNotProve, 2000))
		if err != nil {
			return fmt.Errorf("receipt of disk %s: %w", r.DiskSerial, err)
		}
		if !r.Verified {
			continue
		}
		if _, err := t.tx.Exec(ctx, t.s.sql.Get("DiskDataErased"), t.m.id, cut(r.DiskSerial, 200), cut(r.WWN, 200)); err != nil {
			return fmt.Errorf("disk %s is erased: %w", r.DiskSerial, err)
		}
	}
	return nil
}

// saveRest writes what goes with the decision: warnings, the BMC's facts and the
// history. A commission that begins clears the warnings of the last one.
func (t *turn) saveRest(ctx context.Context) error {
	if t.working() && t.snap.Operation.Kind == machine.OperationCommission && t.snap.Operation.State == machine.OperationPending {
		if err := t.s.warningsSet(ctx, t.tx, t.m.id, nil); err != nil {
			return err
		}
	}
	if err := t.s.warningsAdd(ctx, t.tx, t.m.id, t.d.Warnings); err != nil {
		return err
	}
	return t.s.eventAdd(ctx, t.tx, t.m.id, t.d.Events...)
}
