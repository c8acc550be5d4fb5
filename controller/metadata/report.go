package metadata

import (
	"context"
	"errors"
)

// ErrUnknownToken says that no open report goes with the token: never issued,
// expired, or revoked.
var ErrUnknownToken = errors.New("report token is not known")

// ErrUsed says that the token has already carried another report.
var ErrUsed = errors.New("report token was already used for another report")

// Report is what an installed system tells once about itself: its proof of life.
// All of it but the token's validity is a claim.
type Report struct {
	MachineID  string `json:"machine_id"`
	InstanceID string `json:"instance_id"`
	Hostname   string `json:"hostname"`
	// BootID is the kernel's random id of this boot, a UUID.
	BootID string `json:"boot_id"`
	// Kernel is the release, as uname -r prints it.
	Kernel string `json:"kernel"`
	// Root is the value of root= on the kernel command line, "" when it has none.
	Root string `json:"root"`
	// SSHHostKeys are fingerprints as ssh-keygen -l prints them, a line each.
	SSHHostKeys []string `json:"ssh_host_keys"`
	// MACs of all NICs, lower case with colons.
	MACs []string `json:"macs"`
}

// Reports is the part of the store that takes proofs of life. Calls may run in
// parallel.
type Reports interface {
	// ReportAccept stores the report that the one-time token pays for. The same
	// token with an equal report again is no error (the answer may have been
	// lost); with another report it is ErrUsed. A token that is not open, or is
	// of another machine or instance, is ErrUnknownToken. Any other error means
	// "ask again later".
	ReportAccept(ctx context.Context, token string, r Report) error
}
