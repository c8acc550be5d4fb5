package image

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/controller/image/egress"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Served tells of one answer, for counting.
type Served struct {
	Reader   Reader // zero when the link was bad
	Digest   manifest.Digest
	Part     string // "manifest" or "frames"
	Range    string // the request's Range header, at most 100 characters
	Private  bool
	Status   int
	Refused  string // one word of link, order, tls, certificate, unknown, busy; empty: served
	Bytes    int64  // of body that went out
	Sendfile int64  // of these, bytes that the kernel sent from the page cache
	Elapsed  time.Duration
}

// Serving is what Handler needs beside the images.
type Serving struct {
	Signer *Signer
	Access Access
	// Agent reads the machine and boot of a client certificate that is in order
	// (RFC 5280); nil: no private image is served.
	Agent func(*x509.Certificate) (machineID string, bootGeneration uint64, err error)
	// Puller gets images that are not here from other controllers; nil: none.
	Puller *Puller
	// Gate limits what is sent; nil: nothing is limited.
	Gate *egress.Gate
	// Subnet names the subnet of an address, for its limit; nil: /24 and /64.
	Subnet func(netip.Addr) string
	// Observe, if not nil, is called after each answer, from many goroutines.
	Observe func(Served)
}

const (
	// answersMost and answersOfOne bound the answers under way, in all and to
	// one reader: an agent asks for at most sixteen ranges together.
	answersMost  = 1024
	answersOfOne = 48
	// busyAgain is when to ask again who was turned away, in seconds.
	busyAgain = "2"
)

// Handler serves /images/<digest>/manifest and /images/<digest>/frames by GET
// and HEAD, with ranges (RFC 9110, section 14) and conditions (section 13). A
// digest is written without its "sha256:" or with it. One Handler serves plain
// HTTP and TLS; which of them an image may travel by, it decides itself.
type Handler struct {
	store *Store
	c     Serving
	mux   *http.ServeMux
	keep  *keeper
	slots *slots
	stall time.Duration
	open  atomic.Int64
}

// Handler makes the handler of a store's images.
func (s *Store) Handler(c Serving) *Handler {
	if c.Observe == nil {
		c.Observe = func(Served) {}
	}
	if c.Subnet == nil {
		c.Subnet = usualSubnet
	}
	h := &Handler{
		store: s, c: c, mux: http.NewServeMux(), slots: newSlots(answersMost, answersOfOne), stall: stallMost,
		keep: &keeper{access: c.Access, now: time.Now, answer: map[question]*answer{}},
	}
	h.mux.HandleFunc("GET /images/{digest}/manifest", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, partManifest) })
	h.mux.HandleFunc("GET /images/{digest}/frames", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, partFrames) })
	return h
}

const (
	partManifest = "manifest"
	partFrames   = "frames"
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Open is how many answers are under way.
func (h *Handler) Open() int64 { return h.open.Load() }

func usualSubnet(a netip.Addr) string {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

// serve checks the link before it tells whether there is such an image.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, part string) {
	h.open.Add(1)
	defer h.open.Add(-1)
	start := time.Now()
	w.Header().Set("Cache-Control", "private, no-store")
	out := &flow{ResponseWriter: w, ctx: r.Context(), plain: r.TLS == nil, stall: h.stall, status: http.StatusOK}
	seen := Served{Part: part, Range: clip(r.Header.Get("Range"), 100)}
	reader, err := h.c.Signer.Check(r.URL.Path, r.URL.Query())
	if err != nil {
		seen.Refused = "link"
		http.Error(out, err.Error()+": ask the controller for a new one", http.StatusForbidden)
	} else {
		seen.Reader = reader
		h.known(out, r, &seen)
	}
	seen.Status, seen.Bytes, seen.Sendfile, seen.Elapsed = out.status, out.bytes, out.sendfile, time.Since(start)
	h.c.Observe(seen)
}

// known answers whoever has a good link.
func (h *Handler) known(w *flow, r *http.Request, seen *Served) {
	digest, err := manifest.ParseDigest(r.PathValue("digest"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	seen.Digest = digest
	name := seen.Reader.MachineID + "/" + seen.Reader.Controller
	if !h.slots.take(name) {
		seen.Refused = "busy"
		h.later(w, "too many answers are under way")
		return
	}
	defer h.slots.free(name)
	grant, ok := h.may(w, r, seen)
	if !ok {
		return
	}
	h.answer(w, r, seen, grant)
}

// later tells a client to ask again, here or elsewhere.
func (h *Handler) later(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", busyAgain)
	http.Error(w, why+": ask again", http.StatusServiceUnavailable)
}

// may decides whether the reader gets this image over this connection; when not,
// it has been told.
func (h *Handler) may(w *flow, r *http.Request, seen *Served) (Grant, bool) {
	if seen.Reader.Controller != "" {
		if r.TLS == nil {
			seen.Refused = "tls"
			http.Error(w, "controllers read images by TLS only", http.StatusForbidden)
		}
		return Grant{Owner: "controllers"}, r.TLS != nil
	}
	grant, err := h.keep.grant(r.Context(), seen.Reader, seen.Digest)
	if err != nil {
		if r.Context().Err() == nil {
			h.store.log.Warn("image not served", "machine_id", seen.Reader.MachineID, "image", string(seen.Digest), "err", err)
		}
		seen.Refused = "unknown"
		h.later(w, errUnknown.Error())
		return grant, false
	}
	seen.Private = grant.Private
	switch {
	case grant.Refused != "":
		seen.Refused = "order"
		http.Error(w, "the link is good no more: "+grant.Refused, http.StatusForbidden)
	case !grant.Private:
		return grant, true
	case r.TLS == nil:
		seen.Refused = "tls"
		http.Error(w, "this image is private and travels by TLS only: use the https link of the order", http.StatusForbidden)
	default:
		if err := h.certified(r, seen.Reader); err != nil {
			seen.Refused = "certificate"
			http.Error(w, "this image is private: "+err.Error(), http.StatusForbidden)
			return grant, false
		}
		return grant, true
	}
	return grant, false
}

// certified checks that the connection is the machine's own, of this boot.
func (h *Handler) certified(r *http.Request, reader Reader) error {
	if h.c.Agent == nil || len(r.TLS.PeerCertificates) == 0 {
		return errors.New("show the agent's client certificate")
	}
	id, boot, err := h.c.Agent(r.TLS.PeerCertificates[0])
	if err != nil {
		return errors.New("the client certificate is not one of this site that is in force")
	}
	if id != reader.MachineID || boot != reader.BootGeneration {
		return errors.New("the client certificate is of another machine or boot than the link")
	}
	return nil
}

func (h *Handler) answer(w *flow, r *http.Request, seen *Served, grant Grant) {
	// One range is all that anybody here asks for, and many small ones are a
	// known way to keep a server busy.
	if strings.Contains(r.Header.Get("Range"), ",") {
		http.Error(w, "ask for one range at a time", http.StatusRequestedRangeNotSatisfiable)
		return
	}
	c, err := h.content(r.Context(), seen.Digest, seen.Part, seen.Reader)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, fs.ErrNotExist):
		http.Error(w, ErrNotFound.Error(), http.StatusNotFound)
		return
	case errors.Is(err, errArriving):
		h.store.log.Warn("image not served yet", "image", string(seen.Digest), "err", err)
		h.later(w, "this controller is still getting the image")
		return
	case err != nil:
		h.store.log.Error("image unreadable", "image", string(seen.Digest), "err", err)
		http.Error(w, "the image cannot be read", http.StatusInternalServerError)
		return
	}
	defer c.Close()
	w.Header().Set("ETag", `"`+seen.Digest.Hex()+"-"+seen.Part+`"`)
	w.Header().Set("Content-Type", map[string]string{partManifest: "application/json", partFrames: "application/zstd"}[seen.Part])
	w.gate, w.flow = h.c.Gate, egress.Flow{Owner: grant.Owner}
	if seen.Reader.Controller == "" {
		w.flow.Subnet, w.flow.Machine = h.subnet(r), seen.Reader.MachineID
		w.still = func(ctx context.Context) error { return h.still(ctx, seen) }
	}
	w.begin()
	http.ServeContent(w, r, "", time.Time{}, c)
	w.end()
}

// still asks again during a long answer, so that a deploy that was cancelled
// stops reading in the middle of a range.
func (h *Handler) still(ctx context.Context, seen *Served) error {
	grant, err := h.keep.grant(ctx, seen.Reader, seen.Digest)
	if err == nil && grant.Refused != "" {
		err = errors.New(grant.Refused)
	}
	if err != nil {
		seen.Refused = "order"
	}
	return err
}

func (h *Handler) subnet(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return h.c.Subnet(a.Unmap())
}

func clip(s string, most int) string { return s[:min(len(s), most)] }
