package relay

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// ask is a request for frames, as it came; nothing in it is believed yet.
type ask struct {
	digest      string // hexadecimal
	first, last int    // frames
	reader      string // machine id
	expiry      int64  // Unix time
	mac         string // hexadecimal
}

var errNotAsked = errors.New("no request for frames")

// pathOf is where the frames of an image are.
func pathOf(digestHex string) string { return "/relay/" + digestHex + "/frames" }

func queryOf(first, last int) string {
	return "first=" + strconv.Itoa(first) + "&last=" + strconv.Itoa(last)
}

// parseAsk accepts what this package itself would ask, to the letter.
func parseAsk(r *http.Request) (ask, error) {
	var a ask
	if r.Method != http.MethodGet || r.ContentLength != 0 || len(r.Header["Authorization"]) != 1 {
		return a, errNotAsked
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/relay/")
	a.digest, ok = cutSuffixIf(ok, rest, "/frames")
	if !ok || len(a.digest) != 64 {
		return a, errNotAsked
	}
	first, last, ok := strings.Cut(r.URL.RawQuery, "&")
	first, ok = cutPrefixIf(ok, first, "first=")
	last, ok = cutPrefixIf(ok, last, "last=")
	if !ok || !number(first, &a.first) || !number(last, &a.last) || a.first > a.last {
		return a, errNotAsked
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), scheme)
	parts := strings.Split(token, ":")
	if !ok || len(token) > maxID+96 || len(parts) != 3 || !validID(parts[0]) || len(parts[2]) != 64 {
		return a, errNotAsked
	}
	var expiry int
	if !number(parts[1], &expiry) {
		return a, errNotAsked
	}
	a.reader, a.expiry, a.mac = parts[0], int64(expiry), parts[2]
	return a, nil
}

// number reads a decimal without sign or leading zero, of at most 12 digits.
func number(s string, into *int) bool {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || len(s) > 12 || strconv.Itoa(n) != s {
		return false
	}
	*into = n
	return true
}

func cutPrefixIf(ok bool, s, prefix string) (string, bool) {
	rest, found := strings.CutPrefix(s, prefix)
	return rest, ok && found
}

func cutSuffixIf(ok bool, s, suffix string) (string, bool) {
	rest, found := strings.CutSuffix(s, suffix)
	return rest, ok && found
}
