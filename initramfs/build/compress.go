package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// zstdArgs: level 19 packs the modules into 12.7 MB where the best level of the
// Go library needs 14.6, for 27 seconds of one core; so its output is cached. Higher
// levels ask the booting kernel for a window that small machines lack. One
// thread, because the bytes must not depend on the number of cores.
var zstdArgs = []string{"-19", "--single-thread", "--no-progress", "-q", "-c"}

// compress packs raw as one zstd frame, padded with zeros to a multiple of four
// bytes so that another archive may follow (the kernel skips zeros between
// archives). Results are kept in cacheDir under the hash of their input.
func compress(ctx context.Context, raw []byte, cacheDir string) ([]byte, error) {
	sum := sha256.New()
	sum.Write(raw)
	sum.Write([]byte(strings.Join(zstdArgs, " ")))
	kept := filepath.Join(cacheDir, hex.EncodeToString(sum.Sum(nil))+".zst")
	if data, err := os.ReadFile(kept); err == nil {
		return data, nil
	}
	cmd := exec.CommandContext(ctx, "zstd", zstdArgs...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(raw), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("compress the initramfs: %w: install the package zstd", err)
		}
		return nil, fmt.Errorf("compress the initramfs: zstd: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	for stdout.Len()%4 != 0 {
		stdout.WriteByte(0)
	}
	if err := writeFile(kept, stdout.Bytes()); err != nil {
		return nil, err
	}
	return stdout.Bytes(), nil
}

// writeFile puts a file in place at once, so that no reader sees half of it.
func writeFile(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
