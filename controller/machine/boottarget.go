package machine

// BootTarget is what a machine that starts over the network is given.
type BootTarget string

// Targets of a network boot.
const (
	BootAgent BootTarget = "agent"
	BootDisk  BootTarget = "disk"
)

// BootTargetOf decides what a known machine starts. The agent, in every case
// but two: the installed system is what it is for (deployed, and nobody asked
// for anything else), or a deploy has written it and waits for its first word.
// Current is the operation under way, nil for none.
func BootTargetOf(m Machine, current *Operation) BootTarget {
	if m.Deployed == nil {
		return BootAgent
	}
	busy := current != nil && !current.State.Ended()
	switch m.State {
	case Deployed:
		if busy && current.Kind != OperationPower {
			return BootAgent
		}
		return BootDisk
	case Deploying:
		// A deployment of this operation exists once the agent has proved what it
		// wrote; an older one, if the machine still has it, is about to be
		// overwritten. After a failure the disk is the target: there a person can
		// look at the silent system, with a wish for power too.
		if busy && current.Kind != OperationPower && m.Deployed.OperationID != current.ID {
			return BootAgent
		}
		return BootDisk
	default:
		return BootAgent
	}
}
