package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"unicode"
)

// ReportPath is where ReportHandler is served, over TLS.
const ReportPath = "/v1/report"

const (
	// maxReport bounds the body of a report, in bytes.
	maxReport = 64 << 10
	// maxItems and maxItem bound its lists, by count and bytes.
	maxItems, maxItem = 64, 512
)

// ReportHandler takes first-boot reports: POST, JSON as in Report, and the
// token as "Authorization: Bearer". Answers: 200 for a report that was stored,
// now or earlier; 400 for one that is malformed; 401 without a token; 403 for
// any token that does not pay for it, without saying why; 503 to try again.
type ReportHandler struct {
	reports Reports
	log     *slog.Logger
}

// NewReportHandler makes a ReportHandler.
func NewReportHandler(reports Reports, log *slog.Logger) *ReportHandler {
	return &ReportHandler{reports: reports, log: log}
}

// ServeHTTP implements http.Handler.
func (h *ReportHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST is served here", http.StatusMethodNotAllowed)
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "a report token is needed", http.StatusUnauthorized)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	report, err := readReport(http.MaxBytesReader(w, r.Body, maxReport))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, fmt.Sprintf("report is larger than %d bytes", maxReport), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.accept(w, r, token, report)
}

func (h *ReportHandler) accept(w http.ResponseWriter, r *http.Request, token string, report Report) {
	log := h.log.With("machine_id", report.MachineID, "ip", r.RemoteAddr)
	err := ErrUnknownToken
	if len(token) >= 16 && len(token) <= 256 && only(token, alnum+"-_.") {
		err = h.reports.ReportAccept(r.Context(), token, report)
	}
	switch {
	case err == nil:
		log.Info("first boot reported", "instance_id", report.InstanceID, "hostname", report.Hostname)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{\"accepted\":true}\n") // the client asks again if this is lost
	case errors.Is(err, ErrUnknownToken), errors.Is(err, ErrUsed):
		log.Warn("first-boot report refused", "err", err)
		http.Error(w, "the report token does not pay for this report", http.StatusForbidden)
	default:
		log.Error("first-boot report not stored", "err", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the report could not be stored now, try again", http.StatusServiceUnavailable)
	}
}

// readReport reads one strict JSON document.
func readReport(body io.Reader) (Report, error) {
	var r Report
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("read report: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return r, errors.Join(errors.New("read report: something follows the JSON object"), err)
	}
	return r, r.Validate()
}

// Validate bounds what a report may hold; the values are claims and text for
// people, so only their form is checked.
func (r Report) Validate() error {
	errs := []error{checkWord("machine_id", r.MachineID), checkWord("instance_id", r.InstanceID)}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"hostname", r.Hostname, 253}, {"boot_id", r.BootID, 64}, {"kernel", r.Kernel, 128}, {"root", r.Root, maxItem}} {
		errs = append(errs, checkText(f.name, f.value, f.most))
	}
	if len(r.SSHHostKeys) > maxItems || len(r.MACs) > maxItems {
		errs = append(errs, fmt.Errorf("ssh_host_keys and macs may hold %d entries each", maxItems))
		return errors.Join(errs...)
	}
	for _, k := range r.SSHHostKeys {
		errs = append(errs, checkText("ssh_host_keys", k, maxItem))
	}
	for _, m := range r.MACs {
		if _, err := net.ParseMAC(m); err != nil || len(m) > 64 {
			errs = append(errs, fmt.Errorf("macs: %.40q is not a hardware address", m))
		}
	}
	return errors.Join(errs...)
}

func checkText(name, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%s has %d bytes, the limit is %d", name, len(s), most)
	}
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return fmt.Errorf("%s holds a character that cannot be printed", name)
	}
	return nil
}
