package hwtest

import (
	"context"
	"sync"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// diskHealth asks each disk for its own verdict.
func diskHealth(ctx context.Context, h host.Host, found func(Finding)) error {
	return eachDisk(ctx, h, func(_ context.Context, d disk.Disk) {
		health, err := d.Health()
		if err != nil {
			found(Finding{Subject: subject(d), Verdict: notApplicable, Detail: err.Error()})
			return
		}
		found(judge(d, health))
	})
}

func judge(d disk.Disk, health *hardware.DiskHealth) Finding {
	f := Finding{Subject: subject(d), Detail: health.Detail}
	switch health.Verdict {
	case hardware.DiskHealth_VERDICT_GOOD:
		f.Verdict = passed
	case hardware.DiskHealth_VERDICT_FAILING:
		f.Verdict = failed
	default:
		f.Verdict = notApplicable
	}
	if health.TemperatureCelsius != nil {
		f.Measurements = append(f.Measurements, measure("temperature_celsius", float64(*health.TemperatureCelsius)))
	}
	if health.UsedPercent != nil {
		f.Measurements = append(f.Measurements, measure("used_percent", float64(*health.UsedPercent)))
	}
	if health.PowerOnHours != nil {
		f.Measurements = append(f.Measurements, measure("power_on_hours", float64(*health.PowerOnHours)))
	}
	if health.MediaErrors != nil {
		f.Measurements = append(f.Measurements, measure("media_errors", float64(*health.MediaErrors)))
	}
	return f
}

func subject(d disk.Disk) string {
	for _, id := range []string{d.Info.Serial, d.Info.Wwn, d.Info.ByPath, d.Info.Name} {
		if id != "" {
			return id
		}
	}
	return ""
}

// eachDisk works on up to eight disks at once, without virtual media.
func eachDisk(ctx context.Context, h host.Host, work func(context.Context, disk.Disk)) error {
	disks, err := disk.List(h)
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, d := range disks {
		if d.Info.Removable {
			continue
		}
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			work(ctx, d)
		})
	}
	wait.Wait()
	return nil
}
