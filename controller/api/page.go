package api

import (
	"crypto/sha256"
	"encoding/base64"
	"unicode/utf8"

	"github.com/ingot-metal/ingot/proto/fault"
)

// Sizes of a page.
const (
	defaultPage = 100
	maxPage     = 500
)

// pageOf bounds a page size; 0 means the default.
func pageOf(asked int32) (int, error) {
	if asked < 0 {
		return 0, fault.New(fault.Invalid, "page size %d: want 1 to %d, or 0 for %d", asked, maxPage, defaultPage)
	}
	if asked == 0 {
		return defaultPage, nil
	}
	return min(int(asked), maxPage), nil
}

// Page tokens are the key of the last row, made opaque, and bound to what they
// page through: a token of another list is refused. A list is known by a hash,
// for its name holds the filter, which may be long.
func pageToken(list, key string) string {
	if key == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(listHead(list) + key))
}

func listHead(list string) string {
	sum := sha256.Sum256([]byte(list))
	return string(sum[:8])
}

func pageKey(list, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	head := listHead(list)
	if err != nil || len(token) > 400 || len(raw) <= len(head) || string(raw[:len(head)]) != head || !utf8.Valid(raw[len(head):]) {
		return "", fault.New(fault.Invalid, "page token %.40q is not one that this list gave; leave it out to begin anew", token)
	}
	return string(raw[len(head):]), nil
}
