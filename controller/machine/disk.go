package machine

import (
	"fmt"
	"strings"
	"time"
)

// DiskData is the fact that a disk may hold what an owner left: an image was
// ordered onto it, or an installed system could write to it. A verified erase
// ends it, or an operator's word that is kept in the audit trail.
type DiskData struct {
	Since       time.Time
	OperationID string // the deploy it is of
	MachineID   ID     // where it was written; the machine may be gone
	Written     bool   // false: an installed system could reach it
}

// LostDisk is a disk that held data when its machine's inventory had it last,
// and that the newest inventory misses.
type LostDisk struct {
	Serial string
	WWN    string
	Model  string
	Data   DiskData
}

// Key names a disk to people and in orders: its serial, else its WWN; empty when
// it has neither.
func (d Disk) Key() string { return key(d.Serial, d.WWN) }

// Key names the disk, as Disk.Key does.
func (d LostDisk) Key() string { return key(d.Serial, d.WWN) }

// Key names the disk, as Disk.Key does.
func (r EraseReceipt) Key() string { return key(r.DiskSerial, r.WWN) }

func key(serial, wwn string) string {
	if serial != "" {
		return serial
	}
	return wwn
}

// Erases reports whether a receipt proves that this disk was erased.
func (r EraseReceipt) Erases(serial, wwn string) bool {
	return r.Verified && r.DiskSerial == serial && (serial != "" || wwn != "" && r.WWN == wwn)
}

// NotFree names what keeps a machine from being given to somebody else once
// these receipts are counted: a disk with data on it, or one that went missing
// with data. ReasonNone when it is free.
func (m Machine) NotFree(receipts []EraseReceipt) (Reason, string) {
	var here, lost []string
	for _, d := range m.Disks {
		if d.Data != nil && !erased(receipts, d.Serial, d.WWN) {
			here = append(here, held(d.Key(), d.Model, *d.Data))
		}
	}
	for _, d := range m.LostDisks {
		if !erased(receipts, d.Serial, d.WWN) {
			lost = append(lost, held(d.Key(), d.Model, d.Data))
		}
	}
	switch {
	case len(here) > 0:
		return ReasonDiskHoldsData, "not erased: " + strings.Join(append(here, lost...), "; ")
	case len(lost) > 0:
		return ReasonDiskLost, "missing: " + strings.Join(lost, "; ")
	}
	return ReasonNone, ""
}

func erased(receipts []EraseReceipt, serial, wwn string) bool {
	for _, r := range receipts {
		if r.Erases(serial, wwn) {
			return true
		}
	}
	return false
}

func held(name, model string, d DiskData) string {
	if name == "" {
		name = "without serial"
	}
	how := "was within reach of"
	if d.Written {
		how = "was written by"
	}
	return fmt.Sprintf("disk %s (%s) %s %s on machine %s, %s", name, model, how, d.OperationID, d.MachineID, d.Since.UTC().Format(time.RFC3339))
}
