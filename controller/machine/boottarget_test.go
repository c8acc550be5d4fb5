package machine_test

import (
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

func TestBootTargetOf(t *testing.T) {
	t.Parallel()
	mine := &machine.Deployment{OperationID: "op-2"}
	older := &machine.Deployment{OperationID: "op-1"}
	op := func(kind machine.OperationKind, state machine.OperationState) *machine.Operation {
		return &machine.Operation{ID: "op-2", Kind: kind, State: state}
	}
	tests := []struct {
		name  string
		state machine.State
		on    *machine.Deployment
		op    *machine.Operation
		want  machine.BootTarget
	}{
		{"enrolled", machine.Enrolled, nil, nil, machine.BootAgent},
		{"ready, nothing on its disk", machine.Ready, nil, nil, machine.BootAgent},
		{"deployed", machine.Deployed, mine, op(machine.OperationDeploy, machine.OperationSucceeded), machine.BootDisk},
		{"deployed, power asked", machine.Deployed, older, op(machine.OperationPower, machine.OperationRunning), machine.BootDisk},
		{"deployed, release asked", machine.Deployed, older, op(machine.OperationRelease, machine.OperationPending), machine.BootAgent},
		{"deployed, deploy asked again", machine.Deployed, older, op(machine.OperationDeploy, machine.OperationPending), machine.BootAgent},
		{"deploying, not yet written", machine.Deploying, nil, op(machine.OperationDeploy, machine.OperationRunning), machine.BootAgent},
		{"deploying over an older one", machine.Deploying, older, op(machine.OperationDeploy, machine.OperationRunning), machine.BootAgent},
		{"deploying, written, proof awaited", machine.Deploying, mine, op(machine.OperationDeploy, machine.OperationRunning), machine.BootDisk},
		{"deploying failed, its system silent", machine.Deploying, mine, op(machine.OperationDeploy, machine.OperationFailed), machine.BootDisk},
		{"deploying failed, power asked", machine.Deploying, older, op(machine.OperationPower, machine.OperationRunning), machine.BootDisk},
		{"deploying failed, power was asked", machine.Deploying, older, op(machine.OperationPower, machine.OperationSucceeded), machine.BootDisk},
		{"deploying failed, release asked", machine.Deploying, older, op(machine.OperationRelease, machine.OperationPending), machine.BootAgent},
		{"releasing", machine.Releasing, older, op(machine.OperationRelease, machine.OperationRunning), machine.BootAgent},
		{"erasing", machine.Erasing, older, op(machine.OperationRelease, machine.OperationRunning), machine.BootAgent},
		{"broken with a system on it", machine.Broken, mine, nil, machine.BootAgent},
		{"commissioning", machine.Commissioning, nil, op(machine.OperationCommission, machine.OperationRunning), machine.BootAgent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := machine.Machine{State: tt.state, Deployed: tt.on}
			if tt.op != nil {
				m.OperationID = tt.op.ID
			}
			if got := machine.BootTargetOf(m, tt.op); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
