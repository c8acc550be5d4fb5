package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) image() *cobra.Command {
	return group("image", "Images: operating systems for disks", c.imageList(), c.imageShow(), c.imageImport(), c.imageDelete())
}

func (c *cli) imageList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List images", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list := &operator.ImageListResponse{}
			if err := pages(func(token string) (string, error) {
				page, err := operator.NewImageServiceClient(conn).ImageList(cmd.Context(), &operator.ImageListRequest{PageToken: token})
				list.Images = append(list.Images, page.GetImages()...)
				return page.GetNextPageToken(), err
			}); err != nil {
				return err
			}
			return c.show(list, func() {
				var rows [][]string
				for _, i := range list.GetImages() {
					rows = append(rows, []string{i.GetName(), i.GetVersion(), i.GetArchitecture(), i.GetKind(), size(i.GetSizeBytes()), size(i.GetPackedSizeBytes()), i.GetDigest()})
				}
				c.table("NAME VERSION ARCH KIND SIZE PACKED DIGEST", rows)
			})
		})
	}}
}

func (c *cli) imageShow() *cobra.Command {
	return &cobra.Command{Use: "show IMAGE", Short: "Show an image, by name or digest", Args: exactly("an image"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			i, err := operator.NewImageServiceClient(conn).ImageGet(cmd.Context(), &operator.ImageGetRequest{Image: args[0]})
			if err != nil {
				return err
			}
			return c.show(i, func() {
				c.facts("image", i.GetName(), "version", i.GetVersion(), "digest", i.GetDigest(), "architecture", i.GetArchitecture(), "kind", i.GetKind(),
					"size", size(i.GetSizeBytes()), "packed", size(i.GetPackedSizeBytes()), "sector", fmt.Sprint(i.GetSectorBytes()), "imported", clock(i.GetCreatedAt()))
			})
		})
	}}
}

func (c *cli) imageDelete() *cobra.Command {
	return &cobra.Command{Use: "delete IMAGE", Short: "Delete an image that no machine has", Args: exactly("an image"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			done, err := operator.NewImageServiceClient(conn).ImageDelete(cmd.Context(), &operator.ImageDeleteRequest{Image: args[0]})
			if err != nil {
				return err
			}
			return c.show(done, func() { fmt.Fprintf(c.out, "%s deleted\n", args[0]) })
		})
	}}
}

func (c *cli) imageImport() *cobra.Command {
	h := &operator.ImageHeader{}
	cmd := &cobra.Command{Use: "import NAME FILE", Short: "Import a disk image; - reads standard input", Args: exactly("a name", "a file"), RunE: func(cmd *cobra.Command, args []string) error {
		h.Name = args[0]
		in, total, err := c.openImage(args[1])
		if err != nil {
			return err
		}
		defer in.Close()
		h.SourceSizeBytes = uint64(total)
		return c.with(func(conn *grpc.ClientConn) error {
			image, err := c.upload(cmd, conn, h, in)
			if err != nil {
				return err
			}
			return c.show(image, func() { fmt.Fprintf(c.out, "%s %s\n", image.GetName(), image.GetDigest()) })
		})
	}}
	f := cmd.Flags()
	f.StringVar(&h.Format, "format", "raw", "raw, raw.gz, raw.xz, raw.zst, raw.lz4 or qcow2; checked against the file's first bytes")
	f.StringVar(&h.Architecture, "arch", "amd64", "architecture, in Debian's words")
	f.StringVar(&h.Version, "version", "", "version of the image")
	f.StringVar(&h.SourceSha256, "sha256", "", "refuse the file when it has another SHA-256")
	f.BoolVar(&h.KexecForbidden, "no-kexec", false, "never enter this image by kexec")
	return cmd
}

func (c *cli) openImage(path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(c.in), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// upload streams the header and the bytes. The controller may end early with
// the reason, which is then what CloseAndRecv gives.
func (c *cli) upload(cmd *cobra.Command, conn *grpc.ClientConn, h *operator.ImageHeader, in io.Reader) (*operator.Image, error) {
	stream, err := operator.NewImageServiceClient(conn).ImageImport(cmd.Context())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Header{Header: h}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	line := c.progressLine()
	defer line.end()
	buffer := make([]byte, 1<<20)
	var sent uint64
	for {
		n, err := io.ReadFull(in, buffer)
		if n > 0 {
			if err := stream.Send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Data{Data: buffer[:n]}}); err != nil {
				break
			}
			sent += uint64(n)
			if sent%(16<<20) == 0 {
				line.say(fmt.Sprintf("[import] %s of %s", size(sent), size(h.GetSourceSizeBytes())))
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the image: %w", err)
		}
	}
	return stream.CloseAndRecv()
}
