package relay

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzParseAsk: whatever is accepted says what it would say itself.
func FuzzParseAsk(f *testing.F) {
	hex := strings.Repeat("0a", 32)
	f.Add("GET", pathOf(hex), queryOf(0, 7), scheme+"m-1:1700000000:"+hex)
	f.Add("GET", pathOf(hex), "first=7&last=", scheme+":::")
	f.Add("POST", "/relay/", "", "")
	f.Fuzz(func(t *testing.T, method, path, query, token string) {
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Authorization": {token}}}
		a, err := parseAsk(r)
		if err != nil {
			return
		}
		if path != pathOf(a.digest) || query != queryOf(a.first, a.last) || method != "GET" || !validID(a.reader) ||
			!strings.HasPrefix(token, scheme+a.reader+":") || !strings.HasSuffix(token, ":"+a.mac) || a.first < 0 || a.expiry < 0 {
			t.Errorf("accepted %q %q %q %q as %+v", method, path, query, token, a)
		}
	})
}

// FuzzHandler: nobody without the key gets anything but 403.
func FuzzHandler(f *testing.F) {
	img := newImage(6)
	n, err := NewNode(img.m, img.digest, &floor{packed: img.packed}, Options{MachineID: "m", Key: testKey, RingBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close(f.Context()) })
	f.Add(pathOf(img.digest.Hex()), queryOf(0, 1), scheme+"m-1:99999999999:"+strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, path, query, token string) {
		w := httptest.NewRecorder()
		n.Handler().ServeHTTP(w, &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Authorization": {token}}})
		if w.Code != http.StatusForbidden || w.Body.String() != "forbidden\n" {
			t.Errorf("got %d %q for %q %q %q", w.Code, w.Body, path, query, token)
		}
	})
}

// FuzzParseRecord: a record that is accepted is the one that is due.
func FuzzParseRecord(f *testing.F) {
	f.Add(record{kind: kindFrame, frame: 7, position: 99}.append(nil), 7)
	f.Add(record{kind: kindEnd, reason: endGone, frame: 7}.append(nil), 7)
	f.Add([]byte("FFFFFFFFFFFFFFFF"), 0)
	f.Fuzz(func(t *testing.T, data []byte, due int) {
		r, err := parseRecord(data, due)
		if err != nil {
			return
		}
		if r.frame != due || string(r.append(nil)) != string(data[:recordBytes]) {
			t.Errorf("got %+v for %x, due %d", r, data, due)
		}
	})
}
