package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/operator"
)

// exportSuffixes tell a format by what a file is called.
var exportSuffixes = []struct{ suffix, format string }{
	{".raw.gz", "raw.gz"}, {".raw.zst", "raw.zst"}, {".gz", "raw.gz"}, {".zst", "raw.zst"}, {".raw", "raw"}, {".img", "raw"},
	{".qcow2", "qcow2"}, {".tar", bundleFormat}, {".json", "manifest"},
}

func (c *cli) imageExport() *cobra.Command {
	var format string
	var force bool
	cmd := &cobra.Command{Use: "export IMAGE FILE", Short: "Write an image into a file; - writes standard output", Args: exactly("an image", "a file"),
		Long: "Write an image into a file: its disk (raw, raw.gz, raw.zst, qcow2), a bundle of frames, manifest and signatures\n" +
			"(ingot image import takes it back with the same digest), or the manifest alone, which signatures are made of.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if format == "" {
				for _, s := range exportSuffixes {
					if format == "" && strings.HasSuffix(args[1], s.suffix) {
						format = s.format
					}
				}
			}
			if format == "" {
				return usageError{fmt.Errorf("%s does not tell a format: say --format raw, raw.gz, raw.zst, qcow2, bundle or manifest", args[1])}
			}
			return c.with(func(conn *grpc.ClientConn) error {
				req := &operator.ImageExportRequest{Image: args[0], Format: format}
				if args[1] == "-" {
					return c.export(cmd.Context(), conn, req, c.out)
				}
				return c.exportFile(cmd.Context(), conn, req, args[1], force)
			})
		}}
	cmd.Flags().StringVar(&format, "format", "", "raw, raw.gz, raw.zst, qcow2, bundle or manifest (default: as the file is called)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	return cmd
}

// exportFile makes the file whole or not at all.
func (c *cli) exportFile(ctx context.Context, conn *grpc.ClientConn, req *operator.ImageExportRequest, path string, force bool) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && !force {
		return errors.Join(fmt.Errorf("%s is there already; --force replaces it", path), err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	out := &sparse{file: f, holes: req.GetFormat() == "raw"}
	if err := c.export(ctx, conn, req, out); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(out.finish(), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	fmt.Fprintf(c.errOut, "%s: %s\n", path, size(uint64(out.at)))
	return nil
}

// export streams the bytes. Without the whole of them it is an error.
func (c *cli) export(ctx context.Context, conn *grpc.ClientConn, req *operator.ImageExportRequest, out io.Writer) error {
	stream, err := operator.NewImageServiceClient(conn).ImageExport(ctx, req)
	if err != nil {
		return err
	}
	line := c.progressLine()
	defer line.end()
	var done, told uint64
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(part.GetData()); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		if done += uint64(len(part.GetData())); done-told >= 16<<20 {
			told = done
			line.say("[export] " + size(done))
		}
	}
}

// sparse leaves holes in a new file where blocks of zeros are.
type sparse struct {
	file  *os.File
	holes bool
	at    int64
}

// zeros is a block of the size that filesystems allocate by.
var zeros [4096]byte

func (s *sparse) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, len(zeros)-int(s.at%int64(len(zeros))))
		if piece := p[done : done+n]; !s.holes || !bytes.Equal(piece, zeros[:n]) {
			if _, err := s.file.WriteAt(piece, s.at); err != nil {
				return done, err
			}
		}
		s.at += int64(n)
		done += n
	}
	return done, nil
}

func (s *sparse) finish() error { return s.file.Truncate(s.at) }

// manifestOf fetches an image's canonical manifest and makes sure that it is the
// one that the digest names.
func (c *cli) manifestOf(ctx context.Context, conn *grpc.ClientConn, digest string) ([]byte, *manifest.Manifest, error) {
	d, err := manifest.ParseDigest(digest)
	if err != nil {
		return nil, nil, err
	}
	var data bytes.Buffer
	if err := c.export(ctx, conn, &operator.ImageExportRequest{Image: digest, Format: "manifest"}, &bounded{&data}); err != nil {
		return nil, nil, err
	}
	m, err := manifest.ParseVerified(data.Bytes(), d)
	if err != nil {
		return nil, nil, fmt.Errorf("the controller's manifest of %s: %w", digest, err)
	}
	return data.Bytes(), m, nil
}

// bounded holds no more than a manifest may have.
type bounded struct{ *bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > manifest.MaxBytes {
		return 0, fmt.Errorf("more than the %d bytes that a manifest may have", manifest.MaxBytes)
	}
	return b.Buffer.Write(p)
}
