package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/controller/metadata"
	"golang.org/x/sys/unix"
)

const (
	markerDir      = "/var/lib/ingot-tiny"
	reportTimeout  = 15 * time.Second
	reportPause    = time.Second // doubled up to reportPauseMax, with jitter
	reportPauseMax = 30 * time.Second
)

// errRefused says that the controller will never take this report: its answers
// are those of metadata.ReportHandler.
var errRefused = errors.New("the controller refused the report")

// reportOnce posts the first-boot report that vendor-data asks for, unless an
// earlier boot of this instance did; it goes on until the controller has it,
// refuses it, or ctx ends.
func reportOnce(ctx context.Context, s seed, hostname string) error {
	if !bytes.Contains(s.VendorData, []byte("INGOT_REPORT_URL=")) {
		return nil // a deploy that asks for no proof
	}
	marker := filepath.Join(markerDir, markerName(s.InstanceID))
	if _, err := os.Stat(marker); err == nil {
		say("report-known", "instance_id", s.InstanceID)
		return nil
	}
	to, err := metadata.ParseReport(s.VendorData)
	if err != nil {
		return err
	}
	body, err := json.Marshal(report(to, hostname))
	if err != nil {
		return err
	}
	wait := reportPause
	for attempt := 1; ; attempt++ {
		err := post(ctx, to, body)
		if err == nil {
			break
		}
		say("report-failed", "attempt", strconv.Itoa(attempt), "err", err.Error())
		if errors.Is(err, errRefused) {
			return err
		}
		if err := pause(ctx, wait/2+rand.N(wait)); err != nil {
			return fmt.Errorf("report first boot: %w", err)
		}
		wait = min(2*wait, reportPauseMax)
	}
	say("reported", "instance_id", s.InstanceID)
	return writeMarker(marker)
}

// report says what this system is.
func report(to metadata.ReportTo, hostname string) metadata.Report {
	var release string
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	var root string
	for word := range strings.FieldsSeq(readLine("/proc/cmdline")) {
		if v, ok := strings.CutPrefix(word, "root="); ok {
			root = v
		}
	}
	return metadata.Report{
		MachineID: to.MachineID, InstanceID: to.InstanceID, Hostname: hostname,
		BootID: readLine("/proc/sys/kernel/random/boot_id"), Kernel: release, Root: root, MACs: macs(),
	}
}

// post sends the report over TLS that only the pinned CA can vouch for.
func post(ctx context.Context, to metadata.ReportTo, body []byte) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(to.CAPEM) {
		return fmt.Errorf("%w: its CA certificate cannot be read", errRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+to.Token)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // only to quote it
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return nil
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %s: %s", errRefused, resp.Status, bytes.TrimSpace(answer))
	}
	return fmt.Errorf("the controller answered %s: %s", resp.Status, bytes.TrimSpace(answer))
}

// markerName is a file name for any instance-id.
func markerName(instanceID string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
	}
	if instanceID != "" && len(instanceID) <= 100 && !strings.ContainsFunc(instanceID, func(r rune) bool { return !plain(r) }) {
		return instanceID
	}
	return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(instanceID)))
}

// writeMarker remembers the report so that a power cut does not lose it.
func writeMarker(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("remember the report: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("remember the report: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("remember the report: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
