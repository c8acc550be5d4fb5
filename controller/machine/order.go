package machine

import "time"

// Target is who carries out an order.
type Target string

// Targets.
const (
	TargetAgent Target = "agent"
	TargetBMC   Target = "bmc"
)

// OrderState is how far an order is.
type OrderState string

// States of an order. Superseded orders belong to an older wish, boot or lease
// and are never delivered.
const (
	OrderPending    OrderState = "pending"
	OrderDelivered  OrderState = "delivered"
	OrderSucceeded  OrderState = "succeeded"
	OrderFailed     OrderState = "failed"
	OrderSuperseded OrderState = "superseded"
)

// Order is one thing to be done outside the database. The pair of operation
// and step is unique with the attempt, so that giving it twice counts once.
type Order struct {
	ID             int64
	MachineID      ID
	OperationID    string
	Step           string
	Attempt        int
	Target         Target
	WishGeneration uint64
	BootGeneration uint64 // 0 for a BMC
	LeaseToken     uint64
	Cause          string // why, for the audit trail; written before the act
	State          OrderState
	Job            Job
	Result         Result
	Reason         Reason
	Detail         string
	CreatedAt      time.Time
	DeliveredAt    time.Time
	FinishedAt     time.Time
}

// Job is what an order asks; exactly one is set. Sealed at rest.
type Job struct {
	Commission *CommissionJob `json:"commission,omitempty"`
	Deploy     *DeployWish    `json:"deploy,omitempty"`
	Erase      *EraseJob      `json:"erase,omitempty"`
	Reboot     *RebootJob     `json:"reboot,omitempty"`
	BMC        *BMCJob        `json:"bmc,omitempty"`
}

// CommissionJob is for the agent.
type CommissionJob struct {
	SkipTests bool `json:"skip_tests,omitempty"`
}

// EraseJob is for the agent.
type EraseJob struct {
	DiskSerials   []string `json:"disk_serials"`
	VerifyPercent uint32   `json:"verify_percent"`
}

// RebootJob is for the agent.
type RebootJob struct {
	PowerOff bool `json:"power_off,omitempty"`
}

// BMCJob is one request to a BMC; check, do and verify are its driver's work.
type BMCJob struct {
	// Action is on, off, soft_off, query, boot_agent_once (network first at the
	// next start), boot_disk (disk first from now on) or restart_bmc (the BMC
	// itself; the machine keeps its power).
	Action   string   `json:"action"`
	BootMode BootMode `json:"boot_mode,omitempty"`
	HTTPBoot bool     `json:"http_boot,omitempty"`
}

// Actions of a BMCJob.
const (
	BMCOn            = "on"
	BMCOff           = "off"
	BMCSoftOff       = "soft_off"
	BMCQuery         = "query"
	BMCBootAgentOnce = "boot_agent_once"
	BMCBootDisk      = "boot_disk"
	BMCRestart       = "restart_bmc"
)

// Result is what came of an order. Sealed at rest with its order.
type Result struct {
	Power    PowerState     `json:"power,omitempty"`
	Evidence string         `json:"evidence,omitempty"`
	Deploy   *DeployResult  `json:"deploy,omitempty"`
	Erase    []EraseReceipt `json:"erase,omitempty"`
	Tests    *TestTally     `json:"tests,omitempty"`
	Warnings []Warning      `json:"warnings,omitempty"`
}

// TestTally counts a commission's tests.
type TestTally struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
}

// DeployResult is what the agent proved about a write.
type DeployResult struct {
	ImageDigest         string        `json:"image_digest"`
	DiskSerial          string        `json:"disk_serial"`
	BytesFetched        uint64        `json:"bytes_fetched"`
	BytesWritten        uint64        `json:"bytes_written"`
	BytesKept           uint64        `json:"bytes_kept"`
	BytesFromPeers      uint64        `json:"bytes_from_peers"`
	FlushedAfter        time.Duration `json:"flushed_after"`
	VerifiedAfter       time.Duration `json:"verified_after"`
	Verified            bool          `json:"verified"`
	BootPath            string        `json:"boot_path"`
	BootPathDetail      string        `json:"boot_path_detail"`
	EnteringBy          EnteredBy     `json:"entering_by"`
	KexecRefused        string        `json:"kexec_refused"`
	LoaderPartitionGUID string        `json:"loader_partition_guid"`
	LoaderPath          string        `json:"loader_path"`
}

// EraseReceipt is kept for each erased disk.
type EraseReceipt struct {
	DiskSerial    string    `json:"disk_serial"`
	DiskModel     string    `json:"disk_model"`
	WWN           string    `json:"wwn"`
	SizeBytes     uint64    `json:"size_bytes"`
	Method        string    `json:"method"`
	StartedAt     time.Time `json:"started_at"`
	EndedAt       time.Time `json:"ended_at"`
	VerifiedBytes uint64    `json:"verified_bytes"`
	Verified      bool      `json:"verified"`
	DoesNotProve  string    `json:"does_not_prove"`
}
