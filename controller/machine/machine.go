// Package machine is the heart of the domain: what a machine is, the states it
// can be in, what it can be asked, and the words in which its failures are
// told. It is pure: no clock, no database, no network. The store keeps these
// types, the lifecycle engine decides about them, everyone else shows them.
package machine

import (
	"net"
	"time"
)

// ID is short and stable (six lower-case letters and digits), as MAAS's
// system_id is. It is a name, never a credential.
type ID string

// Machine is one physical or virtual machine.
type Machine struct {
	ID        ID
	Hostname  string
	ProjectID int64
	SiteID    int64
	Approved  bool
	Pool      string // of machines under one policy

	State      State
	Outcome    Outcome
	Reason     Reason
	Detail     string // what exactly happened, for a person
	StateSince time.Time
	DeadlineAt time.Time // zero: the state does not pass

	// WishGeneration counts what was asked, BootGeneration the boots of the
	// agent, LeaseToken who may act. They are never compared with one another.
	WishGeneration uint64
	BootGeneration uint64
	LeaseToken     uint64

	OperationID string // under way, or the last one

	Architecture string // Debian's name: amd64
	BootMode     BootMode
	UUID         string // canonical text, big-endian
	Serial       string
	Vendor       string
	Product      string
	MemoryBytes  uint64
	CPUThreads   uint32

	PowerState  PowerState
	AgentOnline bool // a controller holds its stream
	AgentSeenAt time.Time

	NICs  []NIC
	Disks []Disk
	// LostDisks held data and are no longer there.
	LostDisks []LostDisk
	BMC       *BMC // nil: nobody told us of one
	Deployed  *Deployment
	Warnings  []Warning

	CreatedAt time.Time
}

// DefaultPool is where machines are that nobody put elsewhere.
const DefaultPool = "default"

// BootMode is how the firmware starts a loader.
type BootMode string

// Boot modes. The empty one is not known yet.
const (
	BootModeBIOS BootMode = "bios"
	BootModeUEFI BootMode = "uefi"
)

// PowerState is what a BMC said last.
type PowerState string

// Power states.
const (
	PowerUnknown PowerState = "unknown"
	PowerOn      PowerState = "on"
	PowerOff     PowerState = "off"
)

// NIC is one interface of a machine. Its id survives recommissioning.
type NIC struct {
	ID                  int64
	Name                string
	MAC                 net.HardwareAddr // permanent address
	LocallyAdministered bool             // then it identifies nothing
	SpeedBitsPerSecond  uint64
	LinkUp              bool
	Driver              string
	BootNIC             bool
	Neighbour           string // switch and port, by LLDP
	Address             string // leased, for display
}

// Disk is one disk of a machine. Its id survives recommissioning.
type Disk struct {
	ID          int64
	Name        string // of the last boot, such as nvme0n1
	Serial      string
	WWN         string
	ByPath      string
	Model       string
	SizeBytes   uint64
	SectorBytes uint32 // logical
	Kind        DiskKind
	Health      string // good, failing, unsupported
	ReadOnly    bool
	Removable   bool
	Data        *DiskData // nil: nothing of an owner's is on it
}

// DiskKind orders disks by how willingly an image is put on them.
type DiskKind string

// Kinds of disk.
const (
	DiskNVMe    DiskKind = "nvme"
	DiskSSD     DiskKind = "ssd"
	DiskVirtual DiskKind = "virtual"
	DiskHDD     DiskKind = "hdd"
	DiskUnknown DiskKind = "unknown"
)

// BMC is how a machine's management chip is reached. The password stays in the
// store, sealed.
type BMC struct {
	URL               string // ipmi://host, redfish://host, manual:
	User              string
	CertificateSHA256 string // pinned; empty until first use
	Vendor            string
	Model             string
	Firmware          string
	LastError         string
}

// Warning is a fact that fails nothing and that a person should know.
type Warning struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Deployment is what was written last, and what proves it.
type Deployment struct {
	OperationID         string
	ImageDigest         string
	ImageName           string
	DiskSerial          string
	InstanceID          string
	Proof               Proof
	ProvenAt            time.Time // zero: not proven
	BootPath            string    // proven, checked or unknown
	BootPathDetail      string
	EnteredBy           EnteredBy
	LoaderPartitionGUID string
	LoaderPath          string
	BytesFetched        uint64
	BytesWritten        uint64
	FlushedAfter        time.Duration
	VerifiedAfter       time.Duration
	BytesKept           uint64 // of content, on the disk already
	BytesFromPeers      uint64 // of BytesFetched
}

// Proof is what makes a deployed machine deployed.
type Proof string

// Proofs.
const (
	ProofReport Proof = "report" // the installed system reports once
	ProofNone   Proof = "none"   // deployed, not proven
)

// EnteredBy is how the installed system was started the first time.
type EnteredBy string

// Ways into the installed system.
const (
	EnteredByKexec    EnteredBy = "kexec"
	EnteredByFirmware EnteredBy = "firmware"
)
