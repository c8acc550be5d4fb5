package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ingot-metal/ingot/agent/disk"
	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/imaging/gpt"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/hardware"
)

// tool runs a program of Debian's packages fdisk, e2fsprogs, dosfstools, mtools.
func tool(t *testing.T, stdin, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("/usr/bin/env", append([]string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s (packages fdisk, e2fsprogs, dosfstools, mtools): %v\n%s", name, err, out)
	}
	return out
}

// image is a packed 24 MiB disk: an ESP of 4 MiB and a root of 16.
type image struct {
	raw      []byte
	manifest []byte
	digest   manifest.Digest
	url      string
	asked    atomic.Int64
	client   *http.Client
}

const (
	espStart, espSize   = 1 << 20, 4 << 20
	rootStart, rootSize = 5 << 20, 16 << 20
)

func makeImage(t *testing.T, script string) *image {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "raw")
	file(t, path, 24<<20)
	tool(t, script, "sfdisk", "-q", path)
	esp, root := filepath.Join(dir, "esp"), filepath.Join(dir, "root")
	file(t, esp, espSize)
	tool(t, "", "mkfs.vfat", "-n", "ESP", esp)
	file(t, root, rootSize)
	tool(t, "", "mke2fs", "-q", "-t", "ext4", "-L", "root", root)
	splice(t, path, esp, espStart)
	splice(t, path, root, rootStart)
	im := &image{raw: read(t, path)}
	in, err := os.Open(path)
	must(t, err)
	defer in.Close()
	input, err := pack.FileInput(in)
	must(t, err)
	out := filepath.Join(dir, "packed")
	result, err := pack.Pack(t.Context(), input, out, pack.Options{Format: pack.Raw, Architecture: "amd64", Name: "test", FrameSize: 256 << 10})
	must(t, err)
	im.digest = result.Digest
	im.manifest = read(t, filepath.Join(out, pack.ManifestFile))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		im.asked.Add(1)
		http.ServeFile(w, r, filepath.Join(out, pack.FramesFile))
	}))
	t.Cleanup(server.Close)
	im.url, im.client = server.URL, server.Client()
	return im
}

const gptScript = "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=32768, type=L\n"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func file(t *testing.T, path string, size int64) {
	t.Helper()
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, size))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func splice(t *testing.T, path, part string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(read(t, part), at)
	must(t, err)
	must(t, f.Close())
}

// bench is a machine whose disks are files.
type bench struct {
	t       *testing.T
	image   *image
	dir     string
	disks   []disk.Disk
	machine Machine
	order   *agent.DeployJob
}

func newBench(t *testing.T, im *image) *bench {
	b := &bench{t: t, image: im, dir: t.TempDir()}
	b.machine = Machine{Disks: func() ([]disk.Disk, error) { return b.disks, nil }, Architecture: "amd64", Client: im.client}
	b.order = &agent.DeployJob{
		ImageDigest: string(im.digest), Manifest: im.manifest, FrameUrls: []string{im.url},
		Disk: &agent.DiskSelector{Serial: "target"}, After: agent.After_AFTER_STOP,
		Seed: &agent.Seed{MetaData: []byte("instance-id: i-1\n"), UserData: []byte("#!/bin/sh\nexit 0\n"), NetworkConfig: []byte("version: 2\n")},
	}
	b.add("target", 64<<20, 0xa5)
	return b
}

// add makes a disk full of old data.
func (b *bench) add(serial string, size int64, old byte) string {
	path := filepath.Join(b.dir, serial)
	must(b.t, os.WriteFile(path, bytes.Repeat([]byte{old}, int(size)), 0o600))
	b.disks = append(b.disks, disk.Disk{Path: path, Info: &hardware.Disk{Name: serial, Serial: serial,
		SizeBytes: uint64(size), LogicalSectorBytes: 512, PhysicalSectorBytes: 512}})
	return path
}

type deaf struct{}

func (deaf) Report(*agent.Report)     {}
func (deaf) Progress(*agent.Progress) {}

func (b *bench) deploy(attempt int) (*agent.JobResult, job.After) {
	b.t.Helper()
	plan, err := Plan(b.machine, b.order)
	if err != nil {
		return &agent.JobResult{Outcome: agent.Outcome_OUTCOME_FAILED, Reason: string(job.ReasonOf(err)), Detail: err.Error()}, job.Stay
	}
	r := job.Runner{To: deaf{}, Log: slog.New(slog.DiscardHandler)}
	return r.Execute(b.t.Context(), 1, attempt, plan)
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript))
	old := b.add("old", 32<<20, 0)
	splice(t, old, seedOf(t), 3<<20) // not where a partition is: left alone
	tool(t, "label: gpt\nstart=2048, size=16384, type=L, name=cidata\n", "sfdisk", "-q", old)
	splice(t, old, seedOf(t), 1<<20)
	for attempt := 1; attempt <= 3; attempt++ { // a second deploy, and one that finds its own work
		b.order.Seed.MetaData = fmt.Appendf(nil, "instance-id: i-%d\n", attempt)
		result, after := b.deploy(max(attempt-1, 1))
		got := result.GetDeploy()
		if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || after != job.PowerOff || !got.Verified {
			t.Fatalf("attempt %d: got %v, after %q", attempt, result, after)
		}
		if attempt == 3 && got.FramesResumed == 0 {
			t.Error("the last attempt kept no frames")
		}
		b.checkDisk(attempt)
	}
	// The bytes themselves, without the code that looked for them.
	if data := read(t, old)[1<<20:]; !bytes.Equal(data[:64<<10], make([]byte, 64<<10)) {
		t.Error("the old seed is still there")
	}
}

// seedOf makes a volume labelled CIDATA.
func seedOf(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "seed")
	file(t, path, 8<<20)
	tool(t, "", "mkfs.vfat", "-n", "CIDATA", path)
	return path
}

func (b *bench) checkDisk(attempt int) {
	b.t.Helper()
	path := b.disks[0].Path
	tool(b.t, "", "sfdisk", "--verify", path)
	f, err := os.Open(path)
	must(b.t, err)
	defer f.Close()
	table, err := gpt.Read(f, 64<<20, 512)
	must(b.t, err)
	if len(table.Partitions) != 3 || table.FromBackup {
		b.t.Fatalf("partitions: got %+v", table)
	}
	root, _ := table.Root()
	seed, _ := table.ByName(seedName)
	if got := table.Size(seed); got != seedBytes {
		b.t.Errorf("seed: got %d bytes, want %d", got, seedBytes)
	}
	if got, want := table.Offset(root)+table.Size(root), table.Offset(seed); got > want || want-got > 1<<20 {
		b.t.Errorf("root ends at %d, seed begins at %d", got, want)
	}
	data := read(b.t, path)
	if !bytes.Equal(data[espStart:espStart+espSize], b.image.raw[espStart:espStart+espSize]) ||
		!bytes.Equal(data[rootStart:rootStart+rootSize], b.image.raw[rootStart:rootStart+rootSize]) {
		b.t.Error("the partitions are not those of the image")
	}
	volume := fmt.Sprintf("%s@@%d", path, table.Offset(seed))
	if got, want := string(tool(b.t, "", "mtype", "-i", volume, "::meta-data")), fmt.Sprintf("instance-id: i-%d\n", attempt); got != want {
		b.t.Errorf("meta-data: got %q, want %q", got, want)
	}
	if got, want := string(tool(b.t, "", "mtype", "-i", volume, "::user-data")), "#!/bin/sh\nexit 0\n"; got != want {
		b.t.Errorf("user-data: got %q, want %q", got, want)
	}
	part := filepath.Join(b.t.TempDir(), "part")
	must(b.t, os.WriteFile(part, data[table.Offset(seed):table.Offset(seed)+seedBytes], 0o600))
	tool(b.t, "", "fsck.fat", "-n", part)
}

func TestRefusalsWriteNothing(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	mbr := makeImage(t, "label: dos\nstart=2048, size=8192, type=ef\nstart=10240, size=32768, type=83\n")
	for name, tc := range map[string]struct {
		change func(*bench)
		reason job.Reason
	}{
		"no disks":           {func(b *bench) { b.disks = nil }, job.ReasonNoDisks},
		"disk gone":          {func(b *bench) { b.order.Disk.Serial = "other" }, job.ReasonDiskGone},
		"ambiguous":          {func(b *bench) { b.disks = append(b.disks, b.disks[0]) }, job.ReasonDiskAmbiguous},
		"too small":          {func(b *bench) { b.disks[0].Info.SizeBytes = 20 << 20 }, job.ReasonDiskTooSmall},
		"no room for a seed": {func(b *bench) { b.disks[0].Info.SizeBytes = 24 << 20 }, job.ReasonDiskTooSmall},
		"sectors":            {func(b *bench) { b.disks[0].Info.LogicalSectorBytes = 4096 }, job.ReasonSectorSize},
		"digest":             {func(b *bench) { b.order.ImageDigest = "sha256:" + strings.Repeat("0", 64) }, job.ReasonImageDigest},
		"manifest":           {func(b *bench) { b.order.Manifest = b.order.Manifest[1:] }, job.ReasonImageDigest},
		"no source":          {func(b *bench) { b.order.FrameUrls[0] += "/../nothing-here?%zz" }, job.ReasonImageGone},
		"seed too large":     {func(b *bench) { b.order.Seed.UserData = make([]byte, seedBytes) }, job.ReasonAgentError},
		"architecture":       {func(b *bench) { b.machine.Architecture = "arm64" }, job.ReasonImageLayout},
		"MBR": {func(b *bench) {
			b.order.ImageDigest, b.order.Manifest, b.order.FrameUrls = string(mbr.digest), mbr.manifest, []string{mbr.url}
		}, job.ReasonImageLayout},
		"conflict": {func(b *bench) {
			splice(b.t, b.add("twin", 32<<20, 0), filepath.Join(b.copyOf(im)), 0)
		}, job.ReasonDiskConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, im)
			target := b.disks[0].Path
			tc.change(b)
			result, after := b.deploy(1)
			if got := job.Reason(result.Reason); got != tc.reason || after != job.Stay {
				t.Errorf("got %s (%s), after %q, want %s", got, result.Detail, after, tc.reason)
			}
			if data := read(t, target); !bytes.Equal(data, bytes.Repeat([]byte{0xa5}, len(data))) {
				t.Error("the target was written to")
			}
		})
	}
}

func (b *bench) copyOf(im *image) string {
	path := filepath.Join(b.dir, "copy")
	must(b.t, os.WriteFile(path, im.raw, 0o600))
	return path
}

func TestWipeConflicting(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	b := newBench(t, im)
	twin := b.add("twin", 32<<20, 0)
	splice(t, twin, b.copyOf(im), 0)
	b.order.WipeConflicting = true
	result, _ := b.deploy(1)
	if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || len(result.Warnings) != 1 || result.Warnings[0].Code != "other_disk_wiped" {
		t.Fatalf("got %v, want success with one warning", result)
	}
	f, err := os.Open(twin)
	must(t, err)
	defer f.Close()
	if found, err := disk.Probe(f, 32<<20); err != nil || len(found) != 0 {
		t.Errorf("twin: got %v, %v, want no signatures", found, err)
	}
}

func TestLastPartitionIsNotTheRoot(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript+"start=43008, size=2048, type=S\n"))
	result, _ := b.deploy(1)
	if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || len(result.Warnings) != 1 || result.Warnings[0].Code != "root_not_grown" {
		t.Errorf("got %v, want success with one warning", result)
	}
}

func TestFindLoader(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files []string
		named string
		want  string
	}{
		"fallback":   {[]string{"EFI/BOOT/BOOTX64.EFI"}, "", "/EFI/BOOT/BOOTX64.EFI"},
		"shim":       {[]string{"EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi", "EFI/debian/shimx64.efi"}, "", "/EFI/debian/shimx64.efi"},
		"grub":       {[]string{"EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi", "EFI/debian/shimaa64.efi"}, "", "/EFI/debian/grubx64.efi"},
		"systemd":    {[]string{"efi/Boot/bootx64.efi", "efi/systemd/systemd-bootx64.efi"}, "", "/efi/systemd/systemd-bootx64.efi"},
		"named":      {[]string{"EFI/BOOT/BOOTX64.EFI", "EFI/x/Own.efi"}, "/efi/x/own.efi", "/EFI/x/Own.efi"},
		"named gone": {[]string{"EFI/BOOT/BOOTX64.EFI"}, "/EFI/x/own.efi", "/EFI/BOOT/BOOTX64.EFI"},
		"none":       {[]string{"EFI/BOOT/BOOTAA64.EFI"}, "", ""},
	} {
		dir := t.TempDir()
		for _, f := range tc.files {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
		}
		got, err := findLoader(dir, tc.named, "amd64")
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, tc.want)
		}
	}
}

// TestEnter shows the decision alone; kexec itself is shown in a machine.
func TestEnter(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript))
	b.order.After = agent.After_AFTER_BOOT
	b.order.KexecForbidden = "the model cannot"
	b.machine.LoadKexec = func(context.Context, System) error { return errors.New("called") }
	result, after := b.deploy(1)
	got := result.GetDeploy()
	if after != job.Reboot || got.KexecRefused != "the model cannot" || got.EnteringBy != agent.EnteredBy_ENTERED_BY_FIRMWARE {
		t.Errorf("forbidden: got %v, after %q", got, after)
	}
}
