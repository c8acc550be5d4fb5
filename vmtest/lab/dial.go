package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// target is the context file that a lab writes for the command line.
type target struct {
	Address string `yaml:"address"`
	CAFile  string `yaml:"ca_file"`
	Token   string `yaml:"token"`
}

// Dial connects to the lab's API from the host. The caller closes.
func (c *Client) Dial() (*grpc.ClientConn, error) {
	data, err := os.ReadFile(ContextFile(c.dir))
	if err != nil {
		return nil, err
	}
	var t target
	if err := yaml.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("read %s: %w", ContextFile(c.dir), err)
	}
	return dial(t.Address, t.CAFile, t.Token)
}

// dial connects with the CA pinned and the token in every call.
func dial(address, caFile, token string) (*grpc.ClientConn, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
		grpc.WithPerRPCCredentials(bearer(token)))
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }
