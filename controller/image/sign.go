package image

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Errors of Signer.Check.
var (
	ErrSignature = errors.New("the link is not signed by this site")
	ErrExpired   = errors.New("the link has expired")
)

// names of the query parameters of a signed link
const (
	paramMachine    = "machine"
	paramOrder      = "order"
	paramBoot       = "boot"
	paramController = "controller"
	paramExpires    = "expires"
	paramSignature  = "signature"
)

// Reader is whom a link is made for: one order of one boot of a machine, or
// another controller of the site, and then the first three are zero.
type Reader struct {
	MachineID      string
	OrderID        int64
	BootGeneration uint64
	Controller     string
}

// Signer makes and checks links that let one reader read one path for a short
// time: HMAC-SHA256 over path, reader and expiry, the same for GET and HEAD.
// Controllers that share a key accept each other's links.
type Signer struct {
	keys [][]byte
	now  func() time.Time
}

// NewSigner signs with the first key and accepts all of them, so that a key can
// be replaced. Each has at least 32 bytes. now is the clock; nil: time.Now.
func NewSigner(now func() time.Time, keys ...[]byte) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("sign image links: there is no key")
	}
	for _, key := range keys {
		if len(key) < 32 {
			return nil, fmt.Errorf("sign image links: a key has %d bytes, want 32 or more", len(key))
		}
	}
	if now == nil {
		now = time.Now
	}
	return &Signer{keys: keys, now: now}, nil
}

// ManifestPath and FramesPath are what to sign for an image.
func ManifestPath(d manifest.Digest) string { return "/images/" + d.Hex() + "/manifest" }

// FramesPath is the path of the packed file.
func FramesPath(d manifest.Digest) string { return "/images/" + d.Hex() + "/frames" }

// Sign gives the path with the query that Check wants, to be appended to a
// controller's base URL. expires is rounded down to seconds.
func (s *Signer) Sign(path string, r Reader, expires time.Time) string {
	query := r.query()
	query.Set(paramExpires, strconv.FormatInt(expires.Unix(), 10))
	query.Set(paramSignature, base64.RawURLEncoding.EncodeToString(mac(s.keys[0], path, query)))
	return path + "?" + query.Encode()
}

func (r Reader) query() url.Values {
	if r.Controller != "" {
		return url.Values{paramController: {r.Controller}}
	}
	return url.Values{
		paramMachine: {r.MachineID}, paramOrder: {strconv.FormatInt(r.OrderID, 10)}, paramBoot: {strconv.FormatUint(r.BootGeneration, 10)},
	}
}

// Check gives the reader of a link that is ours and still good, or ErrSignature
// or ErrExpired. The signature is compared in constant time and before anything
// else is said.
func (s *Signer) Check(path string, query url.Values) (Reader, error) {
	got, err := base64.RawURLEncoding.DecodeString(query.Get(paramSignature))
	if err != nil {
		return Reader{}, ErrSignature
	}
	ok := false
	for _, key := range s.keys {
		ok = hmac.Equal(got, mac(key, path, query)) || ok
	}
	if !ok {
		return Reader{}, ErrSignature
	}
	seconds, err := strconv.ParseInt(query.Get(paramExpires), 10, 64)
	if err != nil {
		return Reader{}, ErrSignature
	}
	if !s.now().Before(time.Unix(seconds, 0)) {
		return Reader{}, ErrExpired
	}
	if c := query.Get(paramController); c != "" {
		return Reader{Controller: c}, nil
	}
	r := Reader{MachineID: query.Get(paramMachine)}
	order, errOrder := strconv.ParseInt(query.Get(paramOrder), 10, 64)
	boot, errBoot := strconv.ParseUint(query.Get(paramBoot), 10, 64)
	if r.MachineID == "" || errOrder != nil || errBoot != nil {
		return Reader{}, ErrSignature
	}
	r.OrderID, r.BootGeneration = order, boot
	return r, nil
}

// mac puts the length before each part, so that no two links look alike.
func mac(key []byte, path string, query url.Values) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("ingot image link 2"))
	for _, part := range []string{path, query.Get(paramMachine), query.Get(paramOrder), query.Get(paramBoot), query.Get(paramController), query.Get(paramExpires)} {
		fmt.Fprintf(h, "\n%d:%s", len(part), part)
	}
	return h.Sum(nil)
}
