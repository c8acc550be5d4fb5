package machine

import "time"

// OperationKind is what can be asked of a machine.
type OperationKind string

// Kinds of operation.
const (
	OperationCommission OperationKind = "commission"
	OperationDeploy     OperationKind = "deploy"
	OperationRelease    OperationKind = "release"
	OperationPower      OperationKind = "power"
)

// OperationState is how far a wish is.
type OperationState string

// States of an operation.
const (
	OperationPending   OperationState = "pending"
	OperationRunning   OperationState = "running"
	OperationSucceeded OperationState = "succeeded"
	OperationFailed    OperationState = "failed"
	OperationCancelled OperationState = "cancelled"
)

// Ended reports whether nothing more will happen to the operation.
func (s OperationState) Ended() bool {
	return s == OperationSucceeded || s == OperationFailed || s == OperationCancelled
}

// Operation is one wish and its history.
type Operation struct {
	ID             string
	MachineID      ID
	Kind           OperationKind
	State          OperationState
	WishGeneration uint64
	Phase          string
	Reason         Reason
	Detail         string
	RequestID      string
	RequestedBy    string
	CancelAsked    bool
	Wish           Wish
	CreatedAt      time.Time
	FinishedAt     time.Time
	Steps          []StepRecord
	Deployed       *Deployment // what a deploy wrote; nil before that is proved
}

// Wish holds what was asked for, by kind; exactly one is set. The store seals
// it at rest: user-data and tokens are secrets.
type Wish struct {
	Commission *CommissionWish `json:"commission,omitempty"`
	Deploy     *DeployWish     `json:"deploy,omitempty"`
	Release    *ReleaseWish    `json:"release,omitempty"`
	Power      *PowerWish      `json:"power,omitempty"`
}

// CommissionWish asks for inventory and tests.
type CommissionWish struct {
	SkipTests bool `json:"skip_tests,omitempty"`
	// Vouched are disks (serial or WWN) of which the operator says that nothing of
	// an owner's is left: destroyed, or erased by other means. It takes effect, and
	// is audited, when the wish is recorded.
	Vouched []string `json:"vouched,omitempty"`
}

// DeployWish asks for an image on a disk.
type DeployWish struct {
	ImageDigest     string   `json:"image_digest"`
	ImageName       string   `json:"image_name"`
	Disk            string   `json:"disk"` // serial or WWN; chosen at the door when not given
	Hostname        string   `json:"hostname"`
	SSHKeys         []string `json:"ssh_keys,omitempty"`
	UserData        []byte   `json:"user_data,omitempty"`
	KexecForbidden  string   `json:"kexec_forbidden,omitempty"` // why; empty: it may
	Proof           Proof    `json:"proof"`
	Stop            bool     `json:"stop,omitempty"` // power off after verify and seed
	WipeConflicting bool     `json:"wipe_conflicting,omitempty"`
	Reuse           bool     `json:"reuse,omitempty"` // keep what the disk holds of it already
	InstanceID      string   `json:"instance_id"`     // new for each deploy
	ReportToken     string   `json:"report_token"`
	ReadBack        ReadBack `json:"read_back,omitzero"`
}

// ReadBack says how what was written is proved. The zero value is the whole
// image, by XXH3.
type ReadBack struct {
	Percent uint32 `json:"percent,omitempty"` // share of the frames; 0 means all
	SHA256  bool   `json:"sha256,omitempty"`
}

// Sampled tells that not all of the image is read back.
func (r ReadBack) Sampled() bool { return r.Percent > 0 && r.Percent < 100 }

// ReleaseWish asks to take the machine back and erase these disks.
type ReleaseWish struct {
	DiskSerials []string `json:"disk_serials"`
}

// PowerWish asks for a power action.
type PowerWish struct {
	Action string `json:"action"` // on, off, cycle, query
}

// StepState is how far a step is. Intent is saved before the effect.
type StepState string

// States of a step.
const (
	StepIntended StepState = "intended"
	StepDone     StepState = "done"
	StepFailed   StepState = "failed"
)

// StepRecord is one line of an operation's history.
type StepRecord struct {
	Name       string
	State      StepState
	Detail     string
	StartedAt  time.Time
	FinishedAt time.Time
}
