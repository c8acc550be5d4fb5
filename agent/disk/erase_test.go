package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/proto/hardware"
)

func fileDisk(t *testing.T, size int) Disk {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old data"), size/8), 0o600); err != nil {
		t.Fatal(err)
	}
	return Disk{Path: path, Info: &hardware.Disk{Name: "sda", Serial: "S1", SizeBytes: uint64(size)}}
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	d := fileDisk(t, 70<<20+512)
	steps := map[string]int{}
	r, err := Erase(t.Context(), d, EraseOptions{VerifyPercent: 100, Progress: func(step string, _, _ int64) { steps[step]++ }})
	if err != nil || r.Method != MethodOverwrite || !r.Verified || r.VerifiedBytes != d.Info.SizeBytes || r.DoesNotProve == "" {
		t.Errorf("got %+v, %v", r, err)
	}
	data, err := os.ReadFile(d.Path)
	if err != nil || len(bytes.Trim(data, "\x00")) != 0 || uint64(len(data)) != d.Info.SizeBytes {
		t.Errorf("the disk has %d bytes and is not blank (%v)", len(data), err)
	}
	if steps["overwrite"] == 0 || steps["verify"] == 0 {
		t.Errorf("progress: got %v, want both steps", steps)
	}
}

func TestEraseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := fileDisk(t, 1<<20)
	if r, err := Erase(ctx, d, EraseOptions{}); !errors.Is(err, context.Canceled) || r.Verified {
		t.Errorf("got %+v, %v, want %v", r, err, context.Canceled)
	}
	if data, _ := os.ReadFile(d.Path); !bytes.HasPrefix(data, []byte("old")) {
		t.Error("a cancelled erase wrote")
	}
}

// TestVerifyFindsWhatIsLeft: both ends are always looked at.
func TestVerifyFindsWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 100<<20 - 1} {
		d := fileDisk(t, 100<<20)
		v, err := openVolume(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.overwrite(t.Context(), func(string, int64, int64) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := v.file.WriteAt([]byte{1}, at); err != nil {
			t.Fatal(err)
		}
		_, err = v.verify(t.Context(), MethodOverwrite, EraseOptions{VerifyPercent: 1, Progress: func(string, int64, int64) {}})
		if !errors.Is(err, ErrNotErased) {
			t.Errorf("a byte left at %d: got %v, want %v", at, err, ErrNotErased)
		}
		v.close()
	}
	ones := bytes.Repeat([]byte{0xff}, 4096)
	if blank(ones, false) || !blank(ones, true) || blank([]byte{0, 1}, true) || !blank([]byte{0, 0}, false) {
		t.Error("blank is wrong")
	}
}

// controller is a model of an NVMe controller: namespaces, what it offers, and
// the log that tells of its sanitize.
type controller struct {
	sanicap    uint32
	oacs       uint16
	fna        byte
	namespaces []uint32 // attached
	detached   []uint32
	log        []int // answers of the log, one a poll; the last one stays
	sent       []nvmeCommand
}

func (c *controller) admin(cmd *nvmeCommand, data []byte) error {
	c.sent = append(c.sent, *cmd)
	le := binary.LittleEndian
	switch cmd.opcode {
	case nvmeIdentify:
		switch cmd.cdw10 {
		case 0:
			data[26] = 0x31 // format 1, metadata in the data, upper bits 01
			data[29] = 0x0b // protection of type 3, first in the metadata
		case 1:
			le.PutUint16(data[256:], c.oacs)
			le.PutUint32(data[328:], c.sanicap)
			data[524] = c.fna
		case 2, 0x10:
			all := c.namespaces
			if cmd.cdw10 == 0x10 {
				all = append(slices.Clone(all), c.detached...)
			}
			for i, ns := range all {
				le.PutUint32(data[4*i:], ns)
			}
		}
	case nvmeGetLogPage:
		le.PutUint16(data, 32768)
		le.PutUint16(data[2:], uint16(c.log[0]))
		if len(c.log) > 1 {
			c.log = c.log[1:]
		}
	case nvmeSanitize:
		if c.sanicap&2 == 0 {
			return errors.New("invalid opcode")
		}
	}
	return nil
}

func TestNVMeAbilities(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c                *controller
		sanitize, format bool
	}{
		"all":                  {&controller{sanicap: 2, oacs: 2, namespaces: []uint32{1}}, true, true},
		"crypto only":          {&controller{sanicap: 1, namespaces: []uint32{1}}, false, false},
		"another namespace":    {&controller{sanicap: 2, oacs: 2, namespaces: []uint32{1, 2}}, false, true},
		"managed, alone":       {&controller{sanicap: 2, oacs: 2 | 8, fna: 1, namespaces: []uint32{1}}, true, true},
		"a detached one":       {&controller{sanicap: 2, oacs: 2 | 8, fna: 1, namespaces: []uint32{1}, detached: []uint32{7}}, false, false},
		"format hits them all": {&controller{sanicap: 2, oacs: 2, fna: 1, namespaces: []uint32{1, 2}}, false, false},
		"format hits only us":  {&controller{oacs: 2, fna: 3, namespaces: []uint32{1}}, false, true},
	} {
		got, err := nvmeAsk(tc.c.admin, 1)
		if err != nil || got.sanitizeBlock != tc.sanitize || got.format != tc.format {
			t.Errorf("%s: got %+v, %v, want sanitize %v, format %v", name, got, err, tc.sanitize, tc.format)
		}
		if got, want := got.lbaFormat, uint32(1|1<<4|3<<5|1<<8|1<<12); got != want {
			t.Errorf("%s: format: got %#x, want %#x", name, got, want)
		}
	}
}

func TestSanitizeBelievesTheLogOnly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		log     []int
		started int
		want    string
	}{
		"done":          {[]int{0, sanitizeRunning, sanitizeRunning, sanitizeDone}, 1, ""},
		"failed":        {[]int{sanitizeDone, sanitizeRunning, sanitizeFailed}, 1, "failed"},
		"never began":   {[]int{0, 0}, 1, "knows of no sanitize"},
		"found running": {[]int{sanitizeRunning, sanitizeRunning, sanitizeDone, sanitizeRunning, sanitizeDone}, 1, ""},
	} {
		c := &controller{sanicap: 2, log: tc.log}
		err := runSanitize(t.Context(), c.admin, time.Microsecond, func(float64) {})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		started := 0
		for _, s := range c.sent {
			if s.opcode == nvmeSanitize {
				started++
			}
		}
		if started != tc.started {
			t.Errorf("%s: got %d sanitizes, want %d", name, started, tc.started)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c := &controller{sanicap: 2, log: []int{sanitizeRunning}}
	if err := runSanitize(ctx, c.admin, time.Millisecond, func(float64) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that never ends: got %v, want %v", err, context.DeadlineExceeded)
	}
}
