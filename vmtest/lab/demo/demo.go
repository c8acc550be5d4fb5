// Package demo sends the machines of a lab down their whole path, through the
// operators' API and nothing else, shows it live, and judges it by what the
// BMC simulator really saw.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
	"github.com/ingot-metal/ingot/vmtest/lab"
)

// Config of a demo.
type Config struct {
	Lab     *lab.Client
	Image   string // raw disk image
	BootDir string // for the size of what travels at a boot
	Result  string // file for the Result as JSON
	Once    bool   // tear the lab down at the end
	Out     io.Writer
}

// Machine is what became of one machine. Phases are in seconds.
type Machine struct {
	Name         string             `json:"name"`
	Firmware     string             `json:"firmware"`
	POSTs        int                `json:"posts"`
	POSTsTotal   int                `json:"posts_total"`
	Kexec        bool               `json:"kexec"`
	State        string             `json:"state"`
	ImageDigest  string             `json:"image_digest"`
	Phases       map[string]float64 `json:"phases"`
	BytesFetched uint64             `json:"bytes_fetched"`
	BytesWritten uint64             `json:"bytes_written"`
	Warnings     []string           `json:"warnings"`
}

// Result is what a demo leaves.
type Result struct {
	OK               bool      `json:"ok"`
	Machines         []Machine `json:"machines"`
	BootPayloadBytes int64     `json:"boot_payload_bytes"`
}

// limit bounds a whole demo; one on two busy cores takes some minutes.
const limit = 40 * time.Minute

// demo is one run.
type demo struct {
	cfg    Config
	conn   *grpc.ClientConn
	image  *operator.Image
	began  time.Time
	mu     sync.Mutex
	names  map[string]string // of machines, by id
	status lab.Status
}

// Run runs the demo on a lab that is up. With Once the lab is torn down,
// whatever happened. An error says what of the promise did not hold.
func Run(ctx context.Context, cfg Config) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if cfg.Once {
		defer func() {
			down, done := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer done()
			err = errors.Join(err, cfg.Lab.Down(down))
		}()
	}
	d := &demo{cfg: cfg, began: time.Now(), names: map[string]string{}}
	if err := d.connect(ctx); err != nil {
		return err
	}
	defer d.conn.Close()
	events, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { d.follow(events); close(followed) }()
	machines, err := d.path(ctx)
	stop()
	<-followed
	result := Result{Machines: machines, BootPayloadBytes: payload(cfg.BootDir)}
	problems := append(judge(machines), err)
	result.OK = errors.Join(problems...) == nil
	d.table(result)
	if err := result.write(cfg.Result); err != nil {
		return err
	}
	if !cfg.Once && result.OK {
		d.farewell()
	}
	return errors.Join(problems...)
}

func (d *demo) connect(ctx context.Context) error {
	var err error
	if d.status, err = d.cfg.Lab.Status(ctx); err != nil {
		return err
	}
	d.conn, err = d.cfg.Lab.Dial()
	return err
}

// path imports the image and sends all machines down their path at once.
func (d *demo) path(ctx context.Context) ([]Machine, error) {
	d.say("importing %s", d.cfg.Image)
	var err error
	if d.image, err = d.importImage(ctx); err != nil {
		return nil, fmt.Errorf("import the image: %w", err)
	}
	d.say("image %s: %.0f MiB, packed %.0f MiB", d.image.GetDigest(), mib(d.image.GetSizeBytes()), mib(d.image.GetPackedSizeBytes()))
	machines := make([]Machine, len(d.status.Machines))
	var all errgroup.Group
	for i, m := range d.status.Machines {
		all.Go(func() error {
			// The first one goes the whole circle.
			err := d.machine(ctx, m, i == 0, &machines[i])
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			return nil
		})
	}
	return machines, all.Wait()
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

func (d *demo) importImage(ctx context.Context) (*operator.Image, error) {
	f, err := os.Open(d.cfg.Image)
	if err != nil {
		return nil, fmt.Errorf("%w; run make images", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stream, err := operator.NewImageServiceClient(d.conn).ImageImport(ctx)
	if err != nil {
		return nil, err
	}
	header := &operator.ImageHeader{Name: "debian-12", Version: "demo", Architecture: "amd64", Format: "raw", SourceSizeBytes: uint64(info.Size())}
	err = stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Header{Header: header}})
	buffer := make([]byte, 1<<20)
	for err == nil {
		var n int
		n, err = io.ReadFull(f, buffer)
		if n > 0 {
			if sendErr := stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Data{Data: buffer[:n]}}); sendErr != nil {
				break // the reason is what CloseAndRecv gives
			}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

// Forget removes an earlier run's result: it must not stand for one that ends
// before it has any.
func Forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the result of an earlier demo: %w", err)
	}
	return nil
}

func (r Result) write(path string) error {
	if r.Machines == nil {
		r.Machines = []Machine{} // a list in JSON, too
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
