package disk

import (
	"fmt"
	"strings"
	"time"

	smart "github.com/anatol/smart.go"

	"github.com/ingot-metal/ingot/proto/hardware"
)

// healthLimit bounds the wait for a disk that does not answer; the kernel gives
// such commands up after 30 to 60 seconds by itself.
const healthLimit = 20 * time.Second

// Health asks the disk how it is. A disk that has nothing to say (virtual ones,
// most behind RAID controllers) gives VERDICT_UNSUPPORTED and no error.
func (d Disk) Health() (*hardware.DiskHealth, error) {
	if d.Info.Transport == "virtio" || d.Info.Transport == "mmc" {
		return &hardware.DiskHealth{Verdict: hardware.DiskHealth_VERDICT_UNSUPPORTED, Detail: d.Info.Transport + " disks have no health data"}, nil
	}
	type answer struct {
		health *hardware.DiskHealth
		err    error
	}
	// A command cannot be interrupted. The one goroutine that may be left
	// behind ends when the kernel gives up.
	done := make(chan answer, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // the library reads what the disk says
				done <- answer{nil, fmt.Errorf("health of %s: the answer makes no sense: %v", d.Path, p)}
			}
		}()
		h, err := ask(d.Path)
		done <- answer{h, err}
	}()
	timer := time.NewTimer(healthLimit)
	defer timer.Stop()
	select {
	case a := <-done:
		return a.health, a.err
	case <-timer.C:
		return nil, fmt.Errorf("health of %s: no answer within %v", d.Path, healthLimit)
	}
}

func ask(path string) (*hardware.DiskHealth, error) {
	device, err := smart.Open(path)
	if err != nil {
		return &hardware.DiskHealth{Verdict: hardware.DiskHealth_VERDICT_UNSUPPORTED, Detail: clean(err.Error())}, nil
	}
	defer device.Close()
	switch device := device.(type) {
	case *smart.NVMeDevice:
		return nvmeHealth(device)
	case *smart.SataDevice:
		return ataHealth(device)
	}
	h := &hardware.DiskHealth{Verdict: hardware.DiskHealth_VERDICT_UNSUPPORTED, Detail: "SCSI: only general attributes are read"}
	if a, err := device.ReadGenericAttributes(); err == nil {
		general(h, a)
	}
	return h, nil
}

func nvmeHealth(device *smart.NVMeDevice) (*hardware.DiskHealth, error) {
	log, err := device.ReadSMART()
	if err != nil {
		return nil, fmt.Errorf("read NVMe health log: %w", err)
	}
	used := uint32(log.PercentUsed)
	hours, errs := log.PowerOnHours.Val[0], log.MediaErrors.Val[0]
	h := &hardware.DiskHealth{Verdict: hardware.DiskHealth_VERDICT_GOOD, UsedPercent: &used, PowerOnHours: &hours, MediaErrors: &errs}
	if log.Temperature > 0 {
		celsius := int32(log.Temperature) - 273
		h.TemperatureCelsius = &celsius
	}
	// NVMe Base 2.0, figure 207, Critical Warning. Bit 1, temperature, is of the
	// moment and says nothing of the disk.
	var bad []string
	for bit, text := range map[uint8]string{0: "spare space below its threshold", 2: "reliability degraded", 3: "media is read-only", 4: "cache backup failed"} {
		if log.CritWarning&(1<<bit) != 0 {
			bad = append(bad, text)
		}
	}
	if len(bad) > 0 {
		h.Verdict, h.Detail = hardware.DiskHealth_VERDICT_FAILING, strings.Join(bad, ", ")
	}
	return h, nil
}

// ATA attributes whose raw value counts sectors that were lost (ACS-3 leaves
// them to vendors; these two mean the same everywhere).
const (
	attrPending       = 197
	attrUncorrectable = 198
)

func ataHealth(device *smart.SataDevice) (*hardware.DiskHealth, error) {
	page, err := device.ReadSMARTData()
	if err != nil {
		return nil, fmt.Errorf("read SMART data: %w", err)
	}
	h := &hardware.DiskHealth{Verdict: hardware.DiskHealth_VERDICT_GOOD}
	if a, err := device.ReadGenericAttributes(); err == nil {
		general(h, a)
	}
	lost := page.Attrs[attrPending].ValueRaw + page.Attrs[attrUncorrectable].ValueRaw
	h.MediaErrors = &lost
	thresholds, err := device.ReadSMARTThresholds()
	if err != nil {
		return h, fmt.Errorf("read SMART thresholds: %w", err)
	}
	for id, a := range page.Attrs {
		limit := thresholds.Thresholds[id]
		if a.Flags&smart.AtaAttributeFlagPrefailure != 0 && limit > 0 && limit < 0xfe && a.Current <= limit {
			h.Verdict = hardware.DiskHealth_VERDICT_FAILING
			h.Detail = fmt.Sprintf("attribute %d (%s) is %d, at or below its threshold %d", id, clean(a.Name), a.Current, limit)
		}
	}
	return h, nil
}

func general(h *hardware.DiskHealth, a *smart.GenericAttributes) {
	if a.Temperature > 0 && a.Temperature < 150 {
		celsius := int32(a.Temperature)
		h.TemperatureCelsius = &celsius
	}
	if a.PowerOnHours > 0 {
		h.PowerOnHours = &a.PowerOnHours
	}
}
