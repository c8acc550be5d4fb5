package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

const (
	scheme = "Ingot-Relay "
	// tokenLife is how long a token is good; maxTokenLife how far its end may
	// lie ahead, so that clocks may differ by a minute.
	tokenLife    = time.Minute
	maxTokenLife = 2 * time.Minute
	maxID        = 128
)

// validID tells whether s can be a machine id: it travels in a header, between
// colons.
func validID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

// mac covers the image, both machines and the end: a token is good for nothing
// else.
func mac(key []byte, digest manifest.Digest, server, reader string, expiry int64) string {
	h := hmac.New(sha256.New, key)
	for _, part := range []string{"ingot relay 1", digest.Hex(), server, reader, strconv.FormatInt(expiry, 10)} {
		h.Write([]byte(part)) // of a hash: never an error
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// authorization is the header with which this machine asks the peer.
func (n *Node) authorization(peer string) string {
	expiry := n.opts.Now().Add(tokenLife).Unix()
	return scheme + n.opts.MachineID + ":" + strconv.FormatInt(expiry, 10) + ":" +
		mac(n.opts.Key, n.digest, peer, n.opts.MachineID, expiry)
}

// admits tells whether a request may be answered at all.
func (n *Node) admits(a ask) bool {
	good := mac(n.opts.Key, n.digest, n.opts.MachineID, a.reader, a.expiry)
	left := time.Unix(a.expiry, 0).Sub(n.opts.Now())
	return hmac.Equal([]byte(good), []byte(a.mac)) && a.digest == n.digest.Hex() && left > 0 && left <= maxTokenLife
}
