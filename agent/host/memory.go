package host

import (
	"errors"
	"strconv"
	"strings"
)

// MemAvailable is how many bytes of memory programs can still have, as the
// kernel estimates it (/proc/meminfo).
func (h Host) MemAvailable() (int64, error) {
	data, err := h.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo does not tell what is available")
}
