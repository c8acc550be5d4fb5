package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) image() *cobra.Command {
	return group("image", "Images: operating systems for disks",
		c.imageList(), c.imageShow(), c.imageImport(), c.imageExport(), c.imageVerify(), c.imageSign(), c.imageTrust(), c.imageKey(),
		c.imageDelete(), c.imagePrune())
}

// images reads a list to its end.
func images(cmd *cobra.Command, conn *grpc.ClientConn, name string) (*operator.ImageListResponse, error) {
	list := &operator.ImageListResponse{}
	err := pages(func(token string) (string, error) {
		page, err := operator.NewImageServiceClient(conn).ImageList(cmd.Context(), &operator.ImageListRequest{Name: name, PageToken: token})
		list.Images = append(list.Images, page.GetImages()...)
		return page.GetNextPageToken(), err
	})
	return list, err
}

func (c *cli) imageList() *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "list", Short: "List images", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			list, err := images(cmd, conn, name)
			if err != nil {
				return err
			}
			return c.show(list, func() {
				slices.SortStableFunc(list.GetImages(), func(a, b *operator.Image) int {
					return cmp.Or(strings.Compare(a.GetName(), b.GetName()), a.GetCreatedAt().AsTime().Compare(b.GetCreatedAt().AsTime()))
				})
				c.imageTable(list.GetImages())
			})
		})
	}}
	cmd.Flags().StringVar(&name, "name", "", "only of this name")
	return cmd
}

func (c *cli) imageTable(list []*operator.Image) {
	var rows [][]string
	for _, i := range list {
		var signed []string
		for _, s := range i.GetSignatures() {
			if s.GetTrustedBy() != "" {
				signed = append(signed, s.GetTrustedBy())
			}
		}
		rows = append(rows, []string{i.GetName(), i.GetVersion(), i.GetArchitecture(), i.GetKind(), size(i.GetSizeBytes()), size(i.GetPackedSizeBytes()),
			yes(i.GetPrivate(), "private"), strings.Join(signed, ","), used(i), i.GetDigest()})
	}
	c.table("NAME VERSION ARCH KIND SIZE PACKED ACCESS SIGNED-BY USED DIGEST", rows)
}

// used is by how many machines; the API names a hundred.
func used(i *operator.Image) string {
	n := len(i.GetInUseBy())
	if n >= 100 {
		return "100+"
	}
	return fmt.Sprint(n)
}

// imageLabel is what an image is called by.
func imageLabel(i *operator.Image) string {
	if i.GetVersion() == "" {
		return i.GetName()
	}
	return i.GetName() + "@" + i.GetVersion()
}

func (c *cli) imageShow() *cobra.Command {
	return &cobra.Command{Use: "show IMAGE", Short: "Show an image, by name, NAME@VERSION or digest", Args: exactly("an image"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			i, err := operator.NewImageServiceClient(conn).ImageGet(cmd.Context(), &operator.ImageGetRequest{Image: args[0]})
			if err != nil {
				return err
			}
			var others *operator.ImageListResponse
			if c.output != "json" {
				if others, err = images(cmd, conn, i.GetName()); err != nil {
					return err
				}
			}
			return c.show(i, func() { c.imageFacts(i, others.GetImages()) })
		})
	}}
}

func (c *cli) imageFacts(i *operator.Image, all []*operator.Image) {
	holes := ""
	if i.GetHoleBytes() > 0 {
		holes = fmt.Sprintf("%s (%d %%), never fetched", size(i.GetHoleBytes()), 100*i.GetHoleBytes()/max(i.GetSizeBytes(), 1))
	}
	c.facts("image", i.GetName(), "version", i.GetVersion(), "digest", i.GetDigest(), "architecture", i.GetArchitecture(), "kind", i.GetKind(),
		"size", size(i.GetSizeBytes()), "holes", holes, "packed", size(i.GetPackedSizeBytes()), "sector", fmt.Sprint(i.GetSectorBytes()),
		"frame", size(uint64(i.GetFrameBytes())), "imported", clock(i.GetCreatedAt()), "kexec", yes(!i.GetKexec(), "forbidden"),
		"access", yes(i.GetPrivate(), "private: over TLS only"), "copies", strings.Join(i.GetCopies(), " "), "in use by", strings.Join(i.GetInUseBy(), " "))
	var rows [][]string
	for _, s := range i.GetSignatures() {
		by := s.GetTrustedBy()
		if by == "" {
			by = "nobody that is trusted"
		}
		rows = append(rows, []string{s.GetKeyId(), by, s.GetComment()})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("SIGNATURE BY COMMENT", rows)
	}
	rows = nil
	for _, o := range all {
		if o.GetDigest() != i.GetDigest() {
			rows = append(rows, []string{imageLabel(o), o.GetArchitecture(), clock(o.GetCreatedAt()), used(o), o.GetDigest()})
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("OTHER ARCH IMPORTED USED DIGEST", rows)
	}
	for _, w := range i.GetWarnings() {
		fmt.Fprintf(c.out, "\nwarning: %s\n", clean(w))
	}
}

func (c *cli) imageVerify() *cobra.Command {
	return &cobra.Command{Use: "verify IMAGE", Short: "Read every frame of the controller's copy and compare it with the manifest", Args: exactly("an image"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			stream, err := operator.NewImageServiceClient(conn).ImageVerify(cmd.Context(), &operator.ImageGetRequest{Image: args[0]})
			if err != nil {
				return err
			}
			line := c.progressLine()
			defer line.end()
			last := &operator.ImageVerifyResponse{}
			for {
				got, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				last = got
				line.say(fmt.Sprintf("[verify] %s of %s", size(got.GetDoneBytes()), size(got.GetTotalBytes())))
			}
			line.end()
			if !last.GetVerified() {
				return fmt.Errorf("verify %s: the controller ended without a verdict", args[0])
			}
			return c.show(last, func() {
				fmt.Fprintf(c.out, "%s is whole: all of its %s are what the manifest says\n", args[0], size(last.GetTotalBytes()))
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

func (c *cli) imagePrune() *cobra.Command {
	req := &operator.ImagePruneRequest{}
	var yes bool
	cmd := &cobra.Command{Use: "prune [NAME]", Short: "Delete old versions that no machine has", Args: atMostOne, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			req.Name = args[0]
		}
		if req.Keep < 1 {
			return usageError{errors.New("--keep 0 would delete the newest version too; use ingot image delete")}
		}
		return c.with(func(conn *grpc.ClientConn) error {
			ask := func(dry bool) (*operator.ImagePruneResponse, error) {
				return operator.NewImageServiceClient(conn).ImagePrune(cmd.Context(), &operator.ImagePruneRequest{Name: req.Name, Keep: req.Keep, DryRun: dry})
			}
			plan, err := ask(true)
			if err != nil {
				return err
			}
			if req.DryRun || len(plan.GetImages()) == 0 {
				return c.show(plan, func() { c.prunePlan(plan, "would be deleted") })
			}
			if !yes {
				c.prunePlan(plan, "would be deleted")
				if err := c.confirm("Delete "+count(len(plan.GetImages()))+"?", "--yes"); err != nil {
					return err
				}
			}
			done, err := ask(false)
			if err != nil {
				return err
			}
			return c.show(done, func() { c.prunePlan(done, "deleted") })
		})
	}}
	cmd.Flags().Uint32Var(&req.Keep, "keep", 1, "versions to keep of each name and architecture, the newest")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "show only")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func count(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}

func (c *cli) prunePlan(plan *operator.ImagePruneResponse, what string) {
	if n := len(plan.GetImages()); n > 0 {
		c.imageTable(plan.GetImages())
		fmt.Fprintf(c.out, "%s %s, %s\n", count(n), what, size(plan.GetFreedBytes()))
	} else {
		fmt.Fprintln(c.out, "there is no old version that nobody has")
	}
	for _, i := range plan.GetInUse() {
		fmt.Fprintf(c.out, "%s for %s stays: %s machines have it\n", imageLabel(i), i.GetArchitecture(), used(i))
	}
}
