//go:build vm

package scenario

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
	"github.com/ingot-metal/ingot/vmtest/lab"
	"github.com/ingot-metal/ingot/vmtest/lan"
	"github.com/ingot-metal/ingot/vmtest/qemu"
)

const mib = 1 << 20

// specs are the machines of all scenarios.
var specs = []lab.Spec{
	{Name: "path", Firmware: qemu.UEFI, ROM: true, Disks: []lab.DiskSpec{{Bus: qemu.VirtioBlk, SizeBytes: 1024 * mib}}},
	{Name: "bios", Firmware: qemu.BIOS, NICs: 2, Disks: []lab.DiskSpec{{Bus: qemu.SCSI, SizeBytes: 512 * mib}}},
	{Name: "http", Firmware: qemu.UEFIHTTP, Protocol: "redfish", Disks: []lab.DiskSpec{{Bus: qemu.NVMe, SizeBytes: 512 * mib}}},
	{Name: "plug", Firmware: qemu.BIOS, Disks: []lab.DiskSpec{{Bus: qemu.VirtioBlk, SizeBytes: 512 * mib}}},
	{Name: "stranger", Firmware: qemu.BIOS, Disks: []lab.DiskSpec{{Bus: qemu.VirtioBlk, SizeBytes: 256 * mib}}},
	{Name: "diskless", Firmware: qemu.BIOS},
	relaySpec(0), relaySpec(1), relaySpec(2), relaySpec(3), relaySpec(4),
}

// relaySpec is one of the machines that are deployed at once.
func relaySpec(i int) lab.Spec {
	return lab.Spec{Name: relayed[i], Firmware: qemu.BIOS, Disks: []lab.DiskSpec{{Bus: qemu.VirtioBlk, SizeBytes: 256 * mib}}}
}

// world is the lab and a connection to its controller; one for all tests.
var world struct {
	lab   *lab.Lab
	conn  *grpc.ClientConn
	image string // digest of the tiny system
	raw   string // the file it was imported from
}

func TestMain(m *testing.M) {
	code, err := inNamespace(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		code = 1
	}
	os.Exit(code)
}

// inNamespace runs the tests in a namespace of their own: the first process
// only starts the second one and waits for it.
func inNamespace(m *testing.M) (int, error) {
	if os.Getenv("INGOT_SCENARIO_INSIDE") == "" {
		return again()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := up(ctx); err != nil {
		return 1, errors.Join(err, down())
	}
	stopped := context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "scenario: interrupted", down())
		os.Exit(1)
	})
	code := m.Run()
	stopped()
	return code, down()
}

func again() (int, error) {
	cmd := lan.Command(context.Background(), os.Args[0], os.Args[1:]...)
	cmd.Env = append(cmd.Env, "INGOT_SCENARIO_INSIDE=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, lan.Explain(err)
}

func up(ctx context.Context) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "build", "scenario")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(dir, "lab.log"))
	if err != nil {
		return err
	}
	specs[2].Tree = vendorTree(root, "dell-poweredge-r750.tar.gz")
	world.lab, err = lab.Up(ctx, lab.Config{
		Dir: dir, Programs: filepath.Join(root, "bin"), BootDir: filepath.Join(root, "build", "boot"), Machines: specs,
		Log: slog.New(slog.NewTextHandler(logFile, nil)),
	})
	if err != nil {
		return err
	}
	if world.conn, err = world.lab.Controller().Dial(); err != nil {
		return err
	}
	world.raw = filepath.Join(root, "build", "images", "tiny.raw")
	image, err := importImage(ctx, "tiny", world.raw)
	if err != nil {
		return fmt.Errorf("import the tiny system: %w", err)
	}
	world.image = image.GetDigest()
	return nil
}

// vendorTree finds a vendor's Redfish tree, which is kept beside the checkout and
// not in it. Without it the built-in tree is used, and that is said.
func vendorTree(root, name string) string {
	path := filepath.Join(root, "..", "shared", "redfish-trees", name)
	if _, err := os.Stat(path); err != nil {
		fmt.Printf("no vendor's Redfish tree at %s: the built-in one is used\n", path)
		return ""
	}
	return path
}

func down() error {
	var errs []error
	if world.conn != nil {
		errs = append(errs, world.conn.Close())
	}
	if world.lab != nil {
		errs = append(errs, world.lab.Close())
	}
	return errors.Join(errs...)
}

func importImage(ctx context.Context, name, path string) (*operator.Image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	stream, err := operator.NewImageServiceClient(world.conn).ImageImport(ctx)
	if err != nil {
		return nil, err
	}
	header := &operator.ImageHeader{Name: name, Architecture: "amd64", Format: "raw", SourceSizeBytes: uint64(len(data))}
	err = stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Header{Header: header}})
	for len(data) > 0 && err == nil {
		n := min(len(data), mib)
		err = stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Data{Data: data[:n]}})
		data = data[n:]
	}
	return stream.CloseAndRecv()
}

func stateWord(s operator.State) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATE_"))
}
