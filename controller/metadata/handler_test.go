package metadata

import (
	"net/http/httptest"
	"strings"
	"testing"
)

const goodReport = `{"machine_id":"k3f9","instance_id":"i-1","hostname":"h","boot_id":"b","kernel":"6.1","root":"","ssh_host_keys":[],"macs":["52:54:00:00:00:01"]}`

func post(h *ReportHandler, tok, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", ReportPath, strings.NewReader(body))
	if tok != "" {
		r.Header.Set("Authorization", "Bearer "+tok)
	}
	r.Header.Set("Content-Type", kind)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestReportHandler(t *testing.T) {
	t.Parallel()
	const json = "application/json"
	tests := []struct {
		name, tok, kind, body string
		want                  int
	}{
		{"good", token, json, goodReport, 200},
		{"charset", token, json + "; charset=utf-8", goodReport, 200},
		{"no token", "", json, goodReport, 401},
		{"unknown token", "tok_unknown-0123456789", json, goodReport, 403},
		{"malformed token", "a b", json, goodReport, 403},
		{"form", token, "application/x-www-form-urlencoded", goodReport, 415},
		{"not JSON", token, json, "x", 400},
		{"empty", token, json, "", 400},
		{"unknown field", token, json, strings.Replace(goodReport, `"root"`, `"rooot"`, 1), 400},
		{"two documents", token, json, goodReport + goodReport, 400},
		{"control character", token, json, strings.Replace(goodReport, `"h"`, `"h\u001b[2J"`, 1), 400},
		{"bad MAC", token, json, strings.Replace(goodReport, "52:54", "zz", 1), 400},
		{"too many MACs", token, json, strings.Replace(goodReport, `"macs":[`, `"macs":[`+strings.Repeat(`"52:54:00:00:00:02",`, 64), 1), 400},
		{"too large", token, json, strings.Replace(goodReport, `"h"`, `"`+strings.Repeat("h", maxReport)+`"`, 1), 413},
		{"deep", token, json, strings.Repeat("[", 30000), 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			book := &ledger{}
			w := post(NewReportHandler(book, quiet()), tt.tok, tt.kind, tt.body)
			if w.Code != tt.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.want)
			}
			if tt.want != 200 && len(book.taken) != 0 {
				t.Error("a refused report was stored")
			}
		})
	}
}

func TestReportAgain(t *testing.T) {
	t.Parallel()
	book := &ledger{}
	h := NewReportHandler(book, quiet())
	first := post(h, token, "application/json", goodReport)
	again := post(h, token, "application/json", goodReport)
	if first.Code != 200 || again.Code != 200 || first.Body.String() != again.Body.String() {
		t.Errorf("same report again: got %d %q, want the same answer as %d %q", again.Code, again.Body, first.Code, first.Body)
	}
	used := post(h, token, "application/json", strings.Replace(goodReport, `"h"`, `"other"`, 1))
	unknown := post(h, "tok_unknown-0123456789", "application/json", goodReport)
	if used.Code != 403 || unknown.Body.String() != used.Body.String() {
		t.Errorf("got %d %q and %q, want 403 without telling which", used.Code, used.Body, unknown.Body)
	}
}
