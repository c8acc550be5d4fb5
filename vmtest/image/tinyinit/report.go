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
	"net/url"
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

// errRefused says that the controller will never take this report.
var errRefused = errors.New("the controller refused the report")

// reportOnce posts the first-boot report that vendor-data asks for, unless an
// earlier boot of this instance did; it goes on until the controller has it,
// refuses it, or ctx ends.
func reportOnce(ctx context.Context, s seed, hostname string) error {
	if len(s.VendorData) == 0 {
		return nil
	}
	marker := filepath.Join(markerDir, markerName(s.InstanceID))
	if _, err := os.Stat(marker); err == nil {
		say("report-known", "instance_id", s.InstanceID)
		return nil
	}
	order, err := parseOrder(s.VendorData)
	if err != nil {
		return fmt.Errorf("read vendor-data: %w", err)
	}
	body, err := json.Marshal(order.report(hostname))
	if err != nil {
		return err
	}
	wait := reportPause
	for attempt := 1; ; attempt++ {
		err := order.post(ctx, body)
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

// order is what vendor-data says about the report.
type order struct {
	url, token, machineID, instanceID string
	roots                             *x509.CertPool
}

// parseOrder reads the shell assignments at the head of the report script and
// the CA certificate in it.
func parseOrder(vendorData []byte) (order, error) {
	values := map[string]string{}
	for line := range strings.Lines(string(vendorData)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if _, seen := values[name]; ok && !seen && strings.HasPrefix(name, "INGOT_") {
			values[name] = strings.Trim(value, `'`)
		}
	}
	o := order{
		url: values["INGOT_REPORT_URL"], token: values["INGOT_REPORT_TOKEN"],
		machineID: values["INGOT_MACHINE_ID"], instanceID: values["INGOT_INSTANCE_ID"],
		roots: x509.NewCertPool(),
	}
	for name, v := range map[string]string{"INGOT_REPORT_URL": o.url, "INGOT_REPORT_TOKEN": o.token, "INGOT_MACHINE_ID": o.machineID} {
		if v == "" {
			return o, fmt.Errorf("%s is not set", name)
		}
	}
	if u, err := url.Parse(o.url); err != nil || u.Scheme != "https" {
		return o, fmt.Errorf("INGOT_REPORT_URL %q is not an https address", o.url)
	}
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	from, to := bytes.Index(vendorData, []byte(begin)), bytes.LastIndex(vendorData, []byte(end))
	if from < 0 || to < from || !o.roots.AppendCertsFromPEM(vendorData[from:to+len(end)]) {
		return o, errors.New("it has no CA certificate")
	}
	return o, nil
}

func (o order) report(hostname string) metadata.Report {
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
		MachineID: o.machineID, InstanceID: o.instanceID, Hostname: hostname,
		BootID: readLine("/proc/sys/kernel/random/boot_id"), Kernel: release, Root: root, MACs: macs(),
	}
}

// post sends the report over TLS that only the pinned CA can vouch for.
func (o order) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+o.token)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // only to quote it
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout:
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
