package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/controller/metadata"
)

// reports is a store of one token.
type reports struct {
	token string
	got   []metadata.Report
}

func (r *reports) ReportAccept(_ context.Context, token string, report metadata.Report) error {
	if token != r.token {
		return metadata.ErrUnknownToken
	}
	r.got = append(r.got, report)
	return nil
}

func TestPostIsTakenByController(t *testing.T) {
	t.Parallel()
	store := &reports{token: "0123456789abcdef"}
	server := httptest.NewTLSServer(metadata.NewReportHandler(store, slog.New(slog.DiscardHandler)))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	to := metadata.ReportTo{URL: server.URL, Token: store.token, CAPEM: ca, MachineID: "k3f9", InstanceID: "i-1"}

	want := report(to, "web1")
	body, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := post(t.Context(), to, body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metadata.Report{want}, store.got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	wrong := to
	wrong.Token = "another-token-00"
	if err := post(t.Context(), wrong, body); !errors.Is(err, errRefused) {
		t.Errorf("unknown token: got error %v, want %v", err, errRefused)
	}
	server.Close()
	if err := post(t.Context(), to, body); err == nil || errors.Is(err, errRefused) {
		t.Errorf("controller away: got error %v, want one that is worth another try", err)
	}
}

func TestPostTrustsOnlyThePinnedCA(t *testing.T) {
	t.Parallel()
	store := &reports{token: "0123456789abcdef"}
	server := httptest.NewTLSServer(metadata.NewReportHandler(store, slog.New(slog.DiscardHandler)))
	defer server.Close()
	to := metadata.ReportTo{URL: server.URL, Token: store.token, CAPEM: otherCA(t), MachineID: "k3f9", InstanceID: "i-1"}
	body, err := json.Marshal(report(to, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	err = post(t.Context(), to, body)
	var untrusted *tls.CertificateVerificationError
	if !errors.As(err, &untrusted) || len(store.got) != 0 {
		t.Errorf("got error %v and %d reports, want an untrusted certificate and none", err, len(store.got))
	}
}

func TestMarkerName(t *testing.T) {
	t.Parallel()
	for in, plain := range map[string]bool{"i-1": true, "": false, "..": false, "a/b": false, "a\x00": false} {
		if got := markerName(in) == in; got != plain {
			t.Errorf("markerName(%q) = %q, want unchanged: %v", in, markerName(in), plain)
		}
	}
}

// otherCA is a certificate that has nothing to do with the server's.
func otherCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
