package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// maxPasses bounds the walks over sysfs: a driver makes new devices appear,
	// which bring new drivers. Three are usual.
	maxPasses = 10
	// loadsAtOnce is how many drivers probe together. NICs and HBAs take
	// seconds to start their own firmware.
	loadsAtOnce = 4
	maxModalias = 4096 // bytes of one device's id
)

// coldplug loads the drivers of all devices below sys/devices, and walks again
// until nothing new turns up. It returns the number of walks.
func (l *loader) coldplug(sys string, log *slog.Logger) int {
	for pass := 1; ; pass++ {
		fresh := l.unseen(modaliases(filepath.Join(sys, "devices")))
		if len(fresh) == 0 || pass == maxPasses {
			return pass
		}
		l.loadAll(fresh, log)
	}
}

// unseen returns those ids that were never tried, each once.
func (l *loader) unseen(ids []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	listed := map[string]bool{}
	for _, id := range ids {
		if !l.tried[id] && !listed[id] {
			listed[id] = true
			out = append(out, id)
		}
	}
	return out
}

func (l *loader) loadAll(ids []string, log *slog.Logger) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, loadsAtOnce)
	for _, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := l.load(id); err != nil && !errors.Is(err, errNoModule) {
				log.Debug("driver not loaded", "device", id, "err", err)
			}
		})
	}
	wg.Wait()
}

// modaliases returns the ids of all devices below dir. Devices may vanish while
// it walks.
func modaliases(dir string) []string {
	var out []string
	walk := func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(data)); err == nil && id != "" && len(id) <= maxModalias {
			out = append(out, id)
		}
		return nil
	}
	_ = filepath.WalkDir(dir, walk) // walk itself returns no error
	return out
}
