package image

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/image/egress"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// BenchmarkServe sends a file of 256 MiB over loopback: as public images go, with
// rates that do not bind, and as private ones go.
func BenchmarkServe(b *testing.B) {
	s := open(b, b.TempDir())
	img := mustImport(b, s, sample(4<<20))
	if err := os.Truncate(filepath.Join(s.path(img.Digest), pack.FramesFile), 256<<20); err != nil {
		b.Fatal(err)
	}
	signer, err := NewSigner(nil, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		gate *egress.Gate
		tls  bool
	}{"plain": {}, "limited": {gate: egress.NewGate(egress.Limits{Site: 1 << 40, Machine: 1 << 40})}, "tls": {tls: true}} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewUnstartedServer(s.Handler(Serving{Signer: signer, Access: &access{}, Gate: c.gate}))
			if c.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			link := server.URL + signer.Sign(FramesPath(img.Digest), m1, time.Now().Add(time.Hour))
			b.SetBytes(256 << 20)
			buf := make([]byte, 1<<20)
			for b.Loop() {
				resp, err := server.Client().Get(link)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp, err)
				}
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buf); n != 256<<20 || err != nil {
					b.Fatal(n, err)
				}
				resp.Body.Close()
			}
		})
	}
}
