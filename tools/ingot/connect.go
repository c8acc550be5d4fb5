package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// target is a context file: the controller, its CA and our token.
type target struct {
	Address string `yaml:"address"`
	CAFile  string `yaml:"ca_file"`
	Token   string `yaml:"token"`
}

func (c *cli) contextPath() (string, error) {
	if c.contextFile != "" {
		return c.contextFile, nil
	}
	if env := os.Getenv("INGOT_CONTEXT"); env != "" {
		return env, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the context file: %w; name it with --context", err)
	}
	return filepath.Join(dir, "ingot", "context.yaml"), nil
}

func (c *cli) target() (target, error) {
	path, err := c.contextPath()
	if err != nil {
		return target{}, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return target{}, fmt.Errorf("no context file %s: start a lab with `ingot lab up`, or write one with address, ca_file and token", path)
	}
	if err != nil {
		return target{}, err
	}
	var t target
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&t); err != nil {
		return target{}, fmt.Errorf("read context file %s, which has address, ca_file and token: %w", path, err)
	}
	if t.Address == "" || t.CAFile == "" || t.Token == "" {
		return target{}, fmt.Errorf("context file %s must have address, ca_file and token", path)
	}
	if !filepath.IsAbs(t.CAFile) {
		t.CAFile = filepath.Join(filepath.Dir(path), t.CAFile)
	}
	return t, nil
}

// connect dials the controller; the caller closes.
func (c *cli) connect() (*grpc.ClientConn, error) {
	t, err := c.target()
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the controller's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", t.CAFile)
	}
	return grpc.NewClient(t.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
		grpc.WithPerRPCCredentials(bearer(t.Token)))
}

// with runs f with a connection that it closes.
func (c *cli) with(f func(*grpc.ClientConn) error) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close())
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }
