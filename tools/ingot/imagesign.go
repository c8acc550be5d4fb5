package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/imaging/sign"
	"github.com/ingot-metal/ingot/proto/operator"
)

// passwordVariable holds the password of a secret key, for scripts.
const passwordVariable = "INGOT_MINISIGN_PASSWORD"

// signFlags say what to sign with.
type signFlags struct{ key, passwordFile, signature, remove string }

func (c *cli) imageSign() *cobra.Command {
	s := &signFlags{}
	cmd := &cobra.Command{Use: "sign IMAGE --key FILE", Short: "Sign an image's manifest here, with a minisign secret key, and give the signature to the controller",
		Args: exactly("an image"), RunE: func(cmd *cobra.Command, args []string) error {
			stated := 0
			for _, word := range []string{s.key, s.signature, s.remove} {
				if word != "" {
					stated++
				}
			}
			if stated != 1 {
				return usageError{errors.New("give one of --key FILE, --signature FILE and --remove KEYID")}
			}
			return c.with(func(conn *grpc.ClientConn) error {
				image, err := c.changeSignature(cmd, conn, s, args[0])
				if err != nil {
					return err
				}
				return c.show(image, func() { c.imageFacts(image, nil) })
			})
		}}
	f := cmd.Flags()
	f.StringVar(&s.key, "key", "", "file of the secret key; it stays here")
	f.StringVar(&s.passwordFile, "password-file", "", "file with the key's password (default $"+passwordVariable+", or asked for)")
	f.StringVar(&s.signature, "signature", "", "file of a signature made elsewhere: minisign -S -m manifest.json")
	f.StringVar(&s.remove, "remove", "", "forget the signature by the key with this id")
	return cmd
}

func (c *cli) changeSignature(cmd *cobra.Command, conn *grpc.ClientConn, s *signFlags, word string) (*operator.Image, error) {
	client := operator.NewImageServiceClient(conn)
	if s.remove != "" {
		return client.ImageUnsign(cmd.Context(), &operator.ImageUnsignRequest{Image: word, KeyId: s.remove})
	}
	image, err := client.ImageGet(cmd.Context(), &operator.ImageGetRequest{Image: word})
	if err != nil {
		return nil, err
	}
	var text []byte
	if s.signature != "" {
		if text, err = c.readFile(s.signature, sign.MaxSignatureBytes); err != nil {
			return nil, fmt.Errorf("read the signature: %w", err)
		}
	} else if text, err = c.makeSignature(cmd, conn, s, image); err != nil {
		return nil, err
	}
	// By its digest: a name may mean another image by now.
	return client.ImageSign(cmd.Context(), &operator.ImageSignRequest{Image: image.GetDigest(), Signature: text})
}

// makeSignature signs what the digest names and nothing else, and says what
// that is.
func (c *cli) makeSignature(cmd *cobra.Command, conn *grpc.ClientConn, s *signFlags, image *operator.Image) ([]byte, error) {
	canonical, m, err := c.manifestOf(cmd.Context(), conn, image.GetDigest())
	if err != nil {
		return nil, err
	}
	file, err := c.readFile(s.key, 4096)
	if err != nil {
		return nil, fmt.Errorf("read the secret key: %w", err)
	}
	secret, err := sign.OpenSecret(file, func() (string, error) { return c.keyPassword(s.passwordFile) })
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(c.errOut, "signing %s for %s, %s, %s, with key %s\n", clean(m.Name), m.Architecture, size(m.SizeBytes), image.GetDigest(), secret.Public().ID())
	return secret.Sign(canonical, fmt.Sprintf("timestamp:%d file:manifest.json image:%s", time.Now().Unix(), image.GetDigest()))
}

func (c *cli) keyPassword(path string) (string, error) {
	if path != "" {
		data, err := c.readFile(path, 4096)
		if err != nil {
			return "", fmt.Errorf("read the key's password: %w", err)
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
	if word, ok := os.LookupEnv(passwordVariable); ok {
		return word, nil
	}
	word, err := c.password("Password of the secret key: ")
	if err != nil {
		return "", fmt.Errorf("the secret key has a password, and it cannot be asked for (%w): give --password-file FILE or $%s", err, passwordVariable)
	}
	return word, nil
}

// publicKey reads a public key that is written out, or a file of one.
func (c *cli) publicKey(word string) (sign.Key, error) {
	if key, err := sign.ParseKey(word); err == nil {
		return key, nil
	}
	data, err := c.readFile(word, 1024)
	if err != nil {
		return sign.Key{}, fmt.Errorf("%.80q is neither a minisign public key nor a file of one: %w", word, err)
	}
	return sign.ParseKey(string(data))
}

// proveSource checks a file's own signature before it is sent, and has the
// controller refuse another file than the one that was checked.
func (c *cli) proveSource(i *importFlags, path string, in io.Reader) error {
	if i.key == "" {
		if i.signature != "" {
			return usageError{errors.New("--minisign-signature needs --minisign-key")}
		}
		return nil
	}
	file, ok := in.(io.ReadSeeker)
	if !ok {
		return usageError{errors.New("standard input cannot be read twice, to check its signature first; import a file")}
	}
	key, err := c.publicKey(i.key)
	if err != nil {
		return err
	}
	if i.signature == "" {
		i.signature = path + ".minisig"
	}
	text, err := c.readFile(i.signature, sign.MaxSignatureBytes)
	if err != nil {
		return fmt.Errorf("read the signature of %s: %w", path, err)
	}
	s, err := sign.ParseSignature(text)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, ok, err = s.OfStream(key, io.TeeReader(file, sum))
	if err == nil && !ok {
		err = fmt.Errorf("%s is not signed by key %s", path, key.ID())
	}
	if err != nil {
		return err
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if want := strings.ToLower(i.header.SourceSha256); want != "" && want != got {
		return fmt.Errorf("%s has SHA-256 %s, want %s", path, got, want)
	}
	i.header.SourceSha256 = got
	_, err = file.Seek(0, io.SeekStart)
	return err
}

func (c *cli) imageKey() *cobra.Command {
	var secretPath, publicPath string
	var bare bool
	generate := &cobra.Command{Use: "generate", Short: "Make a key pair to sign images with, as minisign -G does", Args: exactly(), RunE: func(*cobra.Command, []string) error {
		word := ""
		if !bare {
			var err error
			if word, err = c.newPassword(); err != nil {
				return err
			}
		}
		secret, err := sign.NewSecret()
		if err != nil {
			return err
		}
		file, err := secret.File(word)
		if err != nil {
			return err
		}
		if err := newFile(secretPath, file, 0o600); err != nil {
			return err
		}
		if err := newFile(publicPath, secret.Public().File(), 0o644); err != nil {
			return errors.Join(err, os.Remove(secretPath))
		}
		fmt.Fprintf(c.out, "key %s: secret in %s, public in %s\n%s\n", secret.Public().ID(), secretPath, publicPath, secret.Public())
		return nil
	}}
	f := generate.Flags()
	f.StringVar(&secretPath, "key", "ingot.key", "file of the secret key; it must not be there")
	f.StringVar(&publicPath, "public", "ingot.pub", "file of the public key; it must not be there")
	f.BoolVar(&bare, "no-password", false, "keep the secret key without a password")
	return group("key", "Keys that sign images", generate)
}

func (c *cli) newPassword() (string, error) {
	if word, ok := os.LookupEnv(passwordVariable); ok && word != "" {
		return word, nil
	}
	word, err := c.password("Password for the new key: ")
	if err != nil {
		return "", fmt.Errorf("no password can be asked for (%w): give $%s, or --no-password", err, passwordVariable)
	}
	if word == "" {
		return "", usageError{errors.New("an empty password is none: say --no-password if you mean that")}
	}
	again, err := c.password("Once more: ")
	if err == nil && again != word {
		err = errors.New("the two passwords differ")
	}
	return word, err
}

// newFile writes a file that must not be there.
func newFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and keys are not written over; name other files with --key and --public", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (c *cli) imageTrust() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the keys whose signatures of images count", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			keys, err := operator.NewImageServiceClient(conn).TrustedKeyList(cmd.Context(), &operator.TrustedKeyListRequest{})
			if err != nil {
				return err
			}
			return c.show(keys, func() {
				var rows [][]string
				for _, k := range keys.GetKeys() {
					rows = append(rows, []string{k.GetName(), k.GetKeyId(), k.GetPublicKey(), clock(k.GetCreatedAt()), k.GetCreatedBy()})
				}
				c.table("NAME KEY PUBLIC SINCE BY", rows)
			})
		})
	}}
	add := &cobra.Command{Use: "add NAME KEY|FILE", Short: "Trust a minisign public key", Args: exactly("a name", "a public key or its file"), RunE: func(cmd *cobra.Command, args []string) error {
		key, err := c.publicKey(args[1])
		if err != nil {
			return err
		}
		return c.with(func(conn *grpc.ClientConn) error {
			k, err := operator.NewImageServiceClient(conn).TrustedKeyAdd(cmd.Context(), &operator.TrustedKeyAddRequest{Name: args[0], PublicKey: key.String()})
			if err != nil {
				return err
			}
			return c.show(k, func() { fmt.Fprintf(c.out, "%s (key %s) is trusted\n", k.GetName(), k.GetKeyId()) })
		})
	}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Trust a key no more", Args: exactly("a name"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			done, err := operator.NewImageServiceClient(conn).TrustedKeyDelete(cmd.Context(), &operator.TrustedKeyDeleteRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return c.show(done, func() { fmt.Fprintf(c.out, "%s is not trusted any more; what is deployed stays\n", args[0]) })
		})
	}}
	return group("trust", "Trust: whose signatures of images count", list, add, remove)
}
