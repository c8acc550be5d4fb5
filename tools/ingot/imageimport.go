package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/imaging/pack"
	"github.com/ingot-metal/ingot/proto/operator"
)

// importFlags are what image import takes beside its words.
type importFlags struct {
	header     operator.ImageHeader
	key        string // a minisign public key, or a file of one
	keyURL     string
	signature  string // a file
	yes        bool
	archStated bool
}

func (c *cli) imageImport() *cobra.Command {
	i := &importFlags{}
	cmd := &cobra.Command{Use: "import NAME FILE|URL|-", Short: "Import a disk image; - reads standard input; the controller fetches a URL", Args: exactly("a name", "a file or URL"),
		Long: "Import a disk image. The format is recognised by the first bytes and confirmed by you, unless --format states it.\n" +
			"A bundle (ingot image export --format bundle) comes with its digest and its signatures.",
		RunE: func(cmd *cobra.Command, args []string) error {
			i.header.Name, i.archStated = args[0], cmd.Flags().Changed("arch")
			return c.with(func(conn *grpc.ClientConn) error {
				image, err := c.importFrom(cmd, conn, i, args[1])
				if err != nil {
					return err
				}
				return c.show(image, func() {
					fmt.Fprintf(c.out, "%s %s\n", imageLabel(image), image.GetDigest())
					if image.GetTrimmedBytes() > 0 {
						fmt.Fprintf(c.out, "trimmed: %s of free blocks were left out\n", size(image.GetTrimmedBytes()))
					}
					for _, w := range image.GetWarnings() {
						fmt.Fprintf(c.errOut, "warning: %s\n", clean(w))
					}
				})
			})
		}}
	f := cmd.Flags()
	f.StringVar(&i.header.Format, "format", string(pack.Auto), "auto, raw, raw.gz, raw.xz, raw.zst, raw.lz4, qcow2 or bundle; checked against the first bytes")
	f.StringVar(&i.header.Architecture, "arch", "amd64", "architecture, in Debian's words")
	f.StringVar(&i.header.Version, "version", "", "version of the image; then it is NAME@VERSION")
	f.StringVar(&i.header.SourceSha256, "sha256", "", "refuse the source when it has another SHA-256")
	f.StringVar(&i.key, "minisign-key", "", "public key, or a file of one: refuse the source when this key did not sign it")
	f.StringVar(&i.keyURL, "minisign-url", "", "where its signature is (default: the URL with .minisig behind it)")
	f.StringVar(&i.signature, "minisign-signature", "", "file of its signature (default: FILE.minisig)")
	f.BoolVar(&i.header.Private, "private", false, "machines are given it over TLS only")
	f.BoolVar(&i.header.KexecForbidden, "no-kexec", false, "never enter this image by kexec")
	f.BoolVar(&i.header.Trim, "trim", false, "leave out the free blocks of ext4 filesystems: smaller, and not its source byte for byte")
	f.BoolVar(&i.yes, "yes", false, "take the recognised format without asking")
	return cmd
}

func isURL(word string) bool {
	return strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://")
}

func (c *cli) importFrom(cmd *cobra.Command, conn *grpc.ClientConn, i *importFlags, from string) (*operator.Image, error) {
	if isURL(from) {
		return c.importURL(cmd, conn, i, from)
	}
	if scheme, _, ok := strings.Cut(from, "://"); ok {
		return nil, usageError{fmt.Errorf("%s: only http and https are fetched, not %s", from, scheme)}
	}
	if i.keyURL != "" {
		return nil, usageError{errors.New("--minisign-url is for a URL; give --minisign-signature FILE")}
	}
	in, total, err := c.openImage(from)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := c.proveSource(i, from, in); err != nil {
		return nil, err
	}
	body := bufio.NewReaderSize(in, pack.RecogniseBytes)
	if err := c.chooseFormat(i, from, body); err != nil {
		return nil, err
	}
	i.header.SourceSizeBytes = uint64(total)
	if i.header.Format == bundleFormat && !i.archStated {
		i.header.Architecture = ""
	}
	return c.upload(cmd, conn, &i.header, body)
}

const bundleFormat = "bundle"

// chooseFormat recognises the format and has it confirmed. What a raw disk
// starts with is the word of whoever wrote to it, so only a raw disk is taken
// for one without a question.
func (c *cli) chooseFormat(i *importFlags, from string, body *bufio.Reader) error {
	if i.header.Format != string(pack.Auto) && i.header.Format != "" {
		return nil
	}
	first, err := body.Peek(pack.RecogniseBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the image: %w", err)
	}
	format, evidence, err := pack.Recognise(first)
	if isTar(first) {
		format, evidence, err = bundleFormat, "it is a tar", nil
	}
	switch {
	case err != nil && format == "":
		return fmt.Errorf("%s: %w; state its format with --format", from, err)
	case err == nil && format == pack.Raw:
		i.header.Format = string(format)
		return nil
	case format == pack.QCOW2:
		evidence += ", which a raw disk may do too"
	}
	if !i.yes {
		if err := c.confirm(fmt.Sprintf("%s looks like %s (%s). Import it as that?", from, format, evidence), "--format "+string(format)+" or --yes"); err != nil {
			return err
		}
	}
	i.header.Format = string(format)
	return nil
}

// isTar knows POSIX's magic number.
func isTar(first []byte) bool {
	return len(first) >= 512 && bytes.Equal(first[257:262], []byte("ustar"))
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
	if !info.Mode().IsRegular() {
		return f, 0, nil
	}
	return f, info.Size(), nil
}

// importURL lets the controller fetch the image, and shows how far it is.
func (c *cli) importURL(cmd *cobra.Command, conn *grpc.ClientConn, i *importFlags, from string) (*operator.Image, error) {
	req := &operator.ImageImportURLRequest{Header: &i.header, Url: from, MinisignUrl: i.keyURL}
	if i.signature != "" {
		return nil, usageError{errors.New("--minisign-signature is for a file; give --minisign-url URL")}
	}
	if i.key != "" {
		key, err := c.publicKey(i.key)
		if err != nil {
			return nil, err
		}
		req.MinisignKey = key.String()
	}
	stream, err := operator.NewImageServiceClient(conn).ImageImportURL(cmd.Context(), req)
	if err != nil {
		return nil, err
	}
	line := c.progressLine()
	defer line.end()
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the controller ended the import without a word")
		}
		if err != nil {
			return nil, err
		}
		if got.GetImage() != nil {
			return got.GetImage(), nil
		}
		text := fmt.Sprintf("[%s] %s", got.GetPhase(), size(got.GetDoneBytes()))
		if got.GetTotalBytes() > 0 {
			text += " of " + size(got.GetTotalBytes())
		}
		line.say(text)
	}
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
