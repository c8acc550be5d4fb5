package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ingot-metal/ingot/initramfs/cmdline"
)

// maxLocalBoot bounds the loader that is held in memory to be patched.
const maxLocalBoot = 8 << 20

func parseQuery(raw string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("query is malformed")
	}
	out := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) != 1 {
			return nil, errors.New("query names a key twice")
		}
		out[k] = v[0]
	}
	return out, nil
}

// file sends one boot file, with ranges (RFC 9110 section 14). The query may
// say which machine asks; it only serves the timeline.
func (h *Handler) file(w http.ResponseWriter, r *http.Request, name, mime string, what What) {
	q, err := query(r, "mac")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var mac net.HardwareAddr
	if q["mac"] != "" {
		if mac, err = ParseMAC(q["mac"]); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	f, st, err := h.open(name)
	if err != nil {
		h.missing(w, r, mac, name, err)
		return
	}
	defer f.Close()
	h.send(w, r, sending{name: name, mime: mime, mac: mac, what: what, modified: st.ModTime(), size: st.Size()}, f)
}

func (h *Handler) open(name string) (io.ReadSeekCloser, fs.FileInfo, error) {
	f, err := h.c.Files.Open(name)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	rs, ok := f.(io.ReadSeekCloser)
	if err == nil && (!ok || !st.Mode().IsRegular()) {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return rs, st, nil
}

// missing answers for a boot file that was not built or not installed.
func (h *Handler) missing(w http.ResponseWriter, r *http.Request, mac net.HardwareAddr, name string, err error) {
	h.c.Log.Error("boot file cannot be read; build it with make boot", "file", name, "err", err)
	h.observe(r, mac, "", SeenFailure, name+" is missing on the controller: build it with make boot")
	http.Error(w, name+" is missing on the controller", http.StatusNotFound)
}

type sending struct {
	name, mime string
	mac        net.HardwareAddr
	what       What
	modified   time.Time
	size       int64
}

// send writes content and notes it once it was sent whole.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, s sending, content io.ReadSeeker) {
	w.Header().Set("Content-Type", s.mime)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	count := &counter{ResponseWriter: w}
	http.ServeContent(count, r, s.name, s.modified, content)
	if r.Method == http.MethodGet && count.n == s.size {
		h.observe(r, s.mac, "", s.what, fmt.Sprintf("%s, %d bytes by HTTP", s.name, s.size))
	}
}

// counter counts the bytes of a response's body. Unwrap and ReadFrom keep
// sendfile for kernel and initramfs.
type counter struct {
	http.ResponseWriter
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.n += n
	return n, err
}

// localBoot sends the loader of one installed system, made for its partition.
func (h *Handler) localBoot(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "guid", "path", "mac")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var mac net.HardwareAddr
	if q["mac"] != "" {
		if mac, err = ParseMAC(q["mac"]); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	f, st, err := h.open(FileLocalBoot)
	if err != nil {
		h.missing(w, r, mac, FileLocalBoot, err)
		return
	}
	defer f.Close()
	image, err := io.ReadAll(io.LimitReader(f, maxLocalBoot+1))
	if err != nil || len(image) > maxLocalBoot {
		h.c.Log.Error("read boot file", "file", FileLocalBoot, "bytes", len(image), "err", err)
		http.Error(w, FileLocalBoot+" on the controller cannot be used", http.StatusInternalServerError)
		return
	}
	patched, err := cmdline.PatchLocalboot(image, q["guid"], q["path"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.send(w, r, sending{name: FileLocalBoot, mime: mimeEFI, mac: mac, what: SeenLocalBoot, modified: st.ModTime(), size: int64(len(patched))}, bytes.NewReader(patched))
}
