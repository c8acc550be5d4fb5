package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// sources are all that decides how an image is put together; a change to any of
// them makes new images.
//
//go:embed *.go debian.sh
var sources embed.FS

// cache is a directory of finished images, each under the key of its inputs.
type cache struct {
	dir string
	log *slog.Logger
}

// get returns the path of the file NAME-KEY.EXT, and makes it when it is not
// there: build gets an empty work directory and the path to write. The file
// appears only when it is complete, and two builds never run at once.
func (c cache) get(ctx context.Context, name, key, ext string, build func(ctx context.Context, r runner, workDir, path string) error) (string, error) {
	final := filepath.Join(c.dir, name+"-"+key+ext)
	if exists(final) {
		return final, nil
	}
	unlock, err := c.lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(final) {
		return final, nil
	}
	workDir, err := os.MkdirTemp(c.dir, "."+name+"-")
	if err != nil {
		return "", fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(workDir)
	// mmdebstrap's mapped users must reach what stands in it.
	if err := os.Chmod(workDir, 0o755); err != nil {
		return "", err
	}
	started := time.Now()
	c.log.Info("image build started", "image", name)
	made := filepath.Join(workDir, "made"+ext)
	if err := build(ctx, newRunner(c.log, workDir), workDir, made); err != nil {
		return "", fmt.Errorf("build image %s: %w", name, err)
	}
	if err := os.Rename(made, final); err != nil {
		return "", fmt.Errorf("keep image %s: %w", name, err)
	}
	c.log.Info("image build done", "image", name, "path", final, "elapsed", time.Since(started))
	return final, nil
}

// lock waits until no other process builds the same thing in this directory.
func (c cache) lock(name string) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make image cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock image cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock image cache: %w", errors.Join(err, f.Close()))
	}
	return func() { f.Close() }, nil // the lock goes with the file
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sourceKey is a hash over this package's sources, only those named if any are,
// and over further inputs.
func sourceKey(inputs []string, only ...string) (string, error) {
	h := sha256.New()
	names := only
	if len(names) == 0 {
		all, err := fs.Glob(sources, "*")
		if err != nil {
			return "", err
		}
		names = all
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := sources.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("hash image sources: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
	}
	for _, in := range inputs {
		fmt.Fprintf(h, "%d\n%s", len(in), in)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
