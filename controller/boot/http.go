package boot

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"
)

// Config is what the HTTP side of booting needs.
type Config struct {
	// Files holds the boot files (FileKernel and the other names) at its top,
	// for example os.DirFS("build/boot"). Its files must be seekable.
	Files     fs.FS
	Directory Directory
	// Observer may be nil.
	Observer Observer
	// AgentAddress is the agents' gRPC listener as host:port. With an empty host
	// (":8443") the host is the one that the loader asked us by, which is right
	// wherever both listeners stand on the same addresses.
	AgentAddress string
	// CA is the SHA-256 of the DER of the agent CA's certificate in lower-case hex.
	CA string
	// Console and LogLevel are used for machines that have none of their own.
	Console  []string
	LogLevel string
	Log      *slog.Logger
	// Now is the controller's clock; nil means time.Now.
	Now func() time.Time
}

// Handler serves /boot/ over plain HTTP: boot script, kernel, initramfs,
// loaders. It must be reached without http.ServeMux in front of it, for that
// answers an unclean path such as //boot/vmlinuz with a redirect, which UEFI
// does not follow. Nothing served here but a boot session's nonce is a secret.
type Handler struct{ c Config }

// NewHandler makes a Handler.
func NewHandler(c Config) *Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	return &Handler{c: c}
}

type nobody struct{}

func (nobody) BootObserved(context.Context, Observation) {}

// NewServer returns an HTTP server for h with limits that suit booting: headers
// are small and prompt, a download may be as slow as the machine's link. A
// ReadTimeout would end the context of a slow download, so there is none.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// hostPattern is host or host:port as a loader may name us in its Host header:
// it ends up in a script, so nothing that iPXE could expand gets through.
var hostPattern = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are served here", http.StatusMethodNotAllowed)
		return
	}
	if len(r.URL.RawQuery) > 1024 || len(r.URL.Path) > 256 {
		http.Error(w, "address is too long", http.StatusRequestURITooLong)
		return
	}
	if !hostPattern.MatchString(r.Host) {
		http.Error(w, "Host header is not host or host:port", http.StatusBadRequest)
		return
	}
	name, ok := strings.CutPrefix(path.Clean("/"+r.URL.Path), filePrefix)
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch name {
	case path.Base(ScriptPath):
		h.script(w, r)
	case FileLocalBoot:
		h.localBoot(w, r)
	case FileKernel:
		h.file(w, r, name, mimeBlob, SeenKernel)
	case FileInitramfs:
		h.file(w, r, name, mimeBlob, SeenInitramfs)
	case FileIPXE, FileSNPOnly:
		h.file(w, r, name, mimeEFI, SeenLoader)
	default:
		http.NotFound(w, r)
	}
}

// query reads the query strictly: only these keys, each at most once.
func query(r *http.Request, keys ...string) (map[string]string, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	for k := range q {
		known := false
		for _, want := range keys {
			known = known || k == want
		}
		if !known {
			return nil, errors.New("query has an unknown key")
		}
	}
	return q, nil
}

// observe notes what a machine fetched. The MAC is a claim of the query.
func (h *Handler) observe(r *http.Request, mac net.HardwareAddr, uuid string, what What, detail string) {
	o := Observation{MAC: mac, UUID: uuid, What: what, Detail: detail, At: h.c.Now()}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.Addr = ap.Addr().Unmap()
	}
	h.c.Observer.BootObserved(r.Context(), o)
}
