// Package generate makes the Go code and the OpenAPI description from the proto
// files. The command is tools/generate/cmd; `make generate` calls it. Outputs
// are committed, with the hash of their inputs beside them.
package generate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// HashFile holds InputHash of the committed outputs; relative to the root.
const HashFile = "proto/generated.sha256"

// plugins are the generators with their exact versions; part of the inputs.
var plugins = []string{
	"google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
	"google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
	"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0",
	"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv3@v2.33.0",
}

// InputHash is the hex SHA-256 over the generators' versions and over names and
// content of all proto files below root.
func InputHash(root string) (string, error) {
	files, err := protoFiles(root)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, strings.Join(plugins, "\n"))
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(root, "proto", f))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", f, len(data), data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func protoFiles(root string) ([]string, error) {
	dir := filepath.Join(root, "proto")
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".proto") {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	sort.Strings(files)
	return files, err
}

// Run installs the generators into a directory of their own, runs protoc and
// records the hash. Needs protoc 3.21 and its standard files (Debian packages
// protobuf-compiler and libprotobuf-dev).
func Run(ctx context.Context, root, binDir string) error {
	for _, p := range plugins {
		if err := run(ctx, root, []string{"GOBIN=" + binDir}, "go", "install", p); err != nil {
			return err
		}
	}
	files, err := protoFiles(root)
	if err != nil {
		return err
	}
	const mod = "module=github.com/ingot-metal/ingot"
	args := []string{"-I", "proto", "-I", "/usr/include",
		"--go_out=.", "--go_opt=" + mod, "--go-grpc_out=.", "--go-grpc_opt=" + mod,
		"--grpc-gateway_out=.", "--grpc-gateway_opt=" + mod}
	for _, f := range files {
		if !strings.HasPrefix(f, "google/") {
			args = append(args, f)
		}
	}
	path := "PATH=" + binDir + ":" + os.Getenv("PATH")
	if err := run(ctx, root, []string{path}, "protoc", args...); err != nil {
		return err
	}
	if err := run(ctx, root, []string{path}, "protoc", "-I", "proto", "-I", "/usr/include", "--openapiv3_out=proto", "operator/operator.proto"); err != nil {
		return err
	}
	hash, err := InputHash(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, HashFile), []byte(hash+"\n"), 0o644)
}

func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
