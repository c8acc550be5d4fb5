package metadata

import (
	"bytes"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files")

func seed(t *testing.T) Seed {
	return Seed{
		InstanceID: "k3f9-7", Hostname: "web-1.example", SSHKeys: []string{"ssh-ed25519 AAAAC3Nza ann: \"x\" # y"},
		UserData: []byte("#!/bin/sh\r\n\x00\xff"),
		Network:  Network{BootMAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, OtherMACs: []net.HardwareAddr{{0x52, 0x54, 0, 0, 0, 2}}},
		Report:   &ReportTo{URL: "https://10.0.0.1:8443/v1/report", Token: token, CAPEM: mustPEM(t), MachineID: "k3f9"},
	}
}

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	files, err := seed(t).Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		golden := filepath.Join("testdata", f.Name)
		if *update {
			if err := os.WriteFile(golden, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(f.Data), string(want)); d != "" {
			t.Errorf("%s: got - want +\n%s", golden, d)
		}
	}
}

func TestRenderKeepsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	s := seed(t)
	files, err := s.Render()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(files[1].Data, s.UserData) || files[1].Name != "user-data" {
		t.Errorf("user-data: got %q, want it byte for byte", files[1].Data)
	}
	var meta struct {
		Keys []string `yaml:"public-keys"`
		Name string   `yaml:"local-hostname"`
		ID   string   `yaml:"instance-id"`
	}
	if err := yaml.Unmarshal(files[0].Data, &meta); err != nil || meta.Name != s.Hostname || meta.ID != s.InstanceID || !cmp.Equal(meta.Keys, s.SSHKeys) {
		t.Errorf("meta-data: got %+v, %v", meta, err)
	}
	s.Report, s.Network, s.UserData = nil, Network{}, nil
	files, err = s.Render()
	if err != nil || len(files) != 3 || len(files[1].Data) != 0 || string(files[2].Data) != "#cloud-config\n{}\n" {
		t.Errorf("without report and network: got %v, %v", files, err)
	}
}

func TestSeedIsRefusedByName(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Seed)
		want   string
	}{
		"hostname with newline":   {func(s *Seed) { s.Hostname = "a\nb" }, "hostname"},
		"hostname empty":          {func(s *Seed) { s.Hostname = "" }, "hostname"},
		"hostname hyphen":         {func(s *Seed) { s.Hostname = "a-.b" }, "hostname"},
		"hostname underscore":     {func(s *Seed) { s.Hostname = "a_b" }, "hostname"},
		"hostname long":           {func(s *Seed) { s.Hostname = strings.Repeat("a", 64) }, "hostname"},
		"hostname address":        {func(s *Seed) { s.Hostname = "10.0.0.1" }, "address"},
		"hostname umlaut":         {func(s *Seed) { s.Hostname = "jörg" }, "hostname"},
		"user-data of 5 MB":       {func(s *Seed) { s.UserData = make([]byte, 5<<20) }, "1 MiB"},
		"user-data one too large": {func(s *Seed) { s.UserData = make([]byte, MaxUserData+1) }, "1 MiB"},
		"instance id":             {func(s *Seed) { s.InstanceID = "a b" }, "instance id"},
		"key with newline":        {func(s *Seed) { s.SSHKeys = []string{"ssh-rsa A\nssh-rsa B"} }, "SSH key 1"},
		"private key":             {func(s *Seed) { s.SSHKeys = []string{"-----BEGIN OPENSSH PRIVATE KEY-----"} }, "private key"},
		"report over http":        {func(s *Seed) { s.Report.URL = "http://a/" }, "https"},
		"report URL with quote":   {func(s *Seed) { s.Report.URL = "https://a/'; reboot '" }, "https"},
		"report token":            {func(s *Seed) { s.Report.Token = "short'token'0123456" }, "token"},
		"report CA":               {func(s *Seed) { s.Report.CAPEM = []byte("INGOT_CA_PEM\nreboot") }, "CA"},
		"machine id":              {func(s *Seed) { s.Report.MachineID = "'" }, "machine id"},
	} {
		s := seed(t)
		tt.change(&s)
		files, err := s.Render()
		if err == nil || files != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that names %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "short'token") {
			t.Errorf("%s: the error shows the token: %v", name, err)
		}
	}
	s := seed(t)
	if s.UserData = make([]byte, MaxUserData); s.Validate() != nil {
		t.Errorf("user-data of exactly 1 MiB: got %v, want it accepted", s.Validate())
	}
}
