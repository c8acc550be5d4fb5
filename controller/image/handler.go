package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Served tells of one answer, for a machine's timeline and for counting.
type Served struct {
	MachineID string
	Digest    manifest.Digest
	Part      string // "manifest" or "frames"
	Range     string // the request's Range header, at most 100 characters
	Status    int
	Bytes     int64 // of body that went out
	Elapsed   time.Duration
}

// slowest is the rate below which an answer is cut off, in bytes a second: a
// machine asks again from where it stands, a dead peer does not hold a file open.
const slowest = 64 << 10

// Handler serves /images/<digest>/manifest and /images/<digest>/frames by GET
// and HEAD, with ranges, to whoever has a link by signer. A digest is written
// without its "sha256:" or with it. observe, if not nil, is called after each
// answer to a good link, from many goroutines.
func (s *Store) Handler(signer *Signer, observe func(Served)) http.Handler {
	if observe == nil {
		observe = func(Served) {}
	}
	h := &handler{store: s, signer: signer, observe: observe}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images/{digest}/manifest", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, "manifest") })
	mux.HandleFunc("GET /images/{digest}/frames", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, "frames") })
	return mux
}

type handler struct {
	store   *Store
	signer  *Signer
	observe func(Served)
}

// serve checks the link before it tells whether there is such an image.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, part string) {
	start := time.Now()
	w.Header().Set("Cache-Control", "private, no-store")
	machineID, err := h.signer.Check(r.URL.Path, r.URL.Query())
	if err != nil {
		http.Error(w, err.Error()+": ask the controller for a new one", http.StatusForbidden)
		return
	}
	counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
	digest, err := manifest.ParseDigest(r.PathValue("digest"))
	if err != nil {
		http.Error(counted, err.Error(), http.StatusNotFound)
	} else {
		h.answer(counted, r, digest, part)
	}
	h.observe(Served{
		MachineID: machineID, Digest: digest, Part: part, Range: clip(r.Header.Get("Range"), 100),
		Status: counted.status, Bytes: counted.bytes, Elapsed: time.Since(start),
	})
}

func (h *handler) answer(w *countingWriter, r *http.Request, digest manifest.Digest, part string) {
	// One range is all that anybody here asks for, and many small ones are a
	// known way to keep a server busy.
	if strings.Contains(r.Header.Get("Range"), ",") {
		http.Error(w, "ask for one range at a time", http.StatusRequestedRangeNotSatisfiable)
		return
	}
	content, size, err := h.open(digest, part)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, fs.ErrNotExist):
		http.Error(w, ErrNotFound.Error(), http.StatusNotFound)
		return
	case err != nil:
		h.store.log.Error("image unreadable", "image", string(digest), "err", err)
		http.Error(w, "the image cannot be read", http.StatusInternalServerError)
		return
	}
	if c, ok := content.(io.Closer); ok {
		defer c.Close()
	}
	w.Header().Set("ETag", `"`+digest.Hex()+"-"+part+`"`)
	w.Header().Set("Content-Type", map[string]string{"manifest": "application/json", "frames": "application/zstd"}[part])
	// Not every writer has deadlines (tests' recorders do not); then there is none.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(time.Minute + time.Duration(size/slowest)*time.Second))
	http.ServeContent(w, r, "", time.Time{}, content)
}

func (h *handler) open(digest manifest.Digest, part string) (io.ReadSeeker, int64, error) {
	if part == "manifest" {
		data, err := h.store.ManifestBytes(digest)
		return bytes.NewReader(data), int64(len(data)), err
	}
	f, err := os.Open(filepath.Join(h.store.path(digest), pack.FramesFile))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// countingWriter keeps ReadFrom, by which net/http sends files from the page
// cache without copying them through this process.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *countingWriter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

func (c *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}

func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func clip(s string, most int) string { return s[:min(len(s), most)] }
