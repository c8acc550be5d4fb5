package machine

// MAASStatus maps a machine to the status name that MAAS would show. It is
// total: every state and outcome has a name.
func MAASStatus(s State, o Outcome) string {
	failed := o == OutcomeFailed
	switch s {
	case Enrolled:
		return "New"
	case Commissioning:
		if failed {
			return "Failed commissioning"
		}
		return "Commissioning"
	case Ready:
		return "Ready"
	case Allocated:
		return "Allocated"
	case Deploying:
		if failed {
			return "Failed deployment"
		}
		return "Deploying"
	case Deployed:
		return "Deployed"
	case Releasing:
		if failed {
			return "Releasing failed"
		}
		return "Releasing"
	case Erasing:
		if failed {
			return "Failed disk erasing"
		}
		return "Releasing"
	default:
		return "Broken"
	}
}
