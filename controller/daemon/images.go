package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/image/egress"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// addressesMost bounds what a controller says of where it is reached.
	addressesMost = 16
	// othersMost is how many other controllers a machine is told of.
	othersMost = 3
	// manifestWait bounds getting a manifest from another controller.
	manifestWait = 20 * time.Second
)

// serveImages makes the one handler that all ports share.
func (h *house) serveImages(m *meter) {
	h.handler = h.images.Handler(image.Serving{
		Signer: h.signer, Access: h.store, Puller: h.puller, Gate: egress.NewGate(h.c.egress), Subnet: h.subnetOf, Observe: m.served,
		Agent: func(cert *x509.Certificate) (string, uint64, error) {
			who, err := h.authority.VerifyAgent(cert, time.Now(), false)
			return who.MachineID, who.BootGeneration, err
		},
	})
	m.images(h.handler, h.puller)
}

// subnetOf is the subnet of a segment of ours, or the usual size.
func (h *house) subnetOf(a netip.Addr) string {
	for _, s := range h.segs {
		if s.address.Contains(a) {
			return s.address.Masked().String()
		}
	}
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // an address without that many bits is its own subnet
	return p.String()
}

// newPuller makes what gets images from the other controllers of the database.
// Their listeners have certificates of the one authority.
func (h *house) newPuller() *image.Puller {
	roots := x509.NewCertPool()
	roots.AddCert(h.authority.Certificate)
	return h.images.NewPuller(image.PullOptions{
		Copies: siteCopies{h.store, h.id}, Signer: h.signer, Name: h.id, MaxBytes: h.c.cache,
		Client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots},
			DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		}},
	})
}

// siteCopies is the store as image.Puller needs it.
type siteCopies struct {
	store *store.Store
	id    string // this controller
}

// ImageSources implements image.Copies.
func (c siteCopies) ImageSources(ctx context.Context, d manifest.Digest) ([]string, error) {
	places, err := c.store.ImageCopyPlaces(ctx, d.Hex(), c.id)
	var urls []string
	for _, p := range places {
		urls = append(urls, p.APIURLs[:min(len(p.APIURLs), addressesMost)]...)
	}
	return urls, err
}

// ImageCopyKeep implements image.Copies.
func (c siteCopies) ImageCopyKeep(ctx context.Context, d manifest.Digest) (bool, error) {
	return c.store.ImageCopyKeep(ctx, d.Hex(), c.id)
}

// ImageCopyDrop implements image.Copies.
func (c siteCopies) ImageCopyDrop(ctx context.Context, d manifest.Digest) (bool, error) {
	return c.store.ImageCopyDrop(ctx, d.Hex(), c.id)
}

// ImageCopiesPulled implements image.Copies.
func (c siteCopies) ImageCopiesPulled(ctx context.Context) ([]manifest.Digest, error) {
	list, err := c.store.ImageCopiesPulled(ctx, c.id)
	var out []manifest.Digest
	for _, text := range list {
		d, err := manifest.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, err
}

// place is where this controller is reached.
func (h *house) place() store.Place {
	p := store.Place{ControllerID: h.id, BootPort: h.c.BootPort, ReportPort: h.c.ReportPort}
	for _, s := range h.segs {
		p.Addresses = append(p.Addresses, s.address)
	}
	if len(p.Addresses) == 0 {
		p.Addresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}
	}
	host, apiPort, err := net.SplitHostPort(h.c.Listen)
	if err != nil {
		return p // Check refused it
	}
	hosts := []string{host}
	if a, err := netip.ParseAddr(host); err != nil || a.IsUnspecified() {
		hosts = h.routable()
	}
	for _, host := range hosts[:min(len(hosts), addressesMost)] {
		p.APIURLs = append(p.APIURLs, "https://"+net.JoinHostPort(host, apiPort))
	}
	return p
}

// routable lists this host's addresses that others can reach, those of the
// segments last: there machines boot, and controllers rather meet elsewhere.
func (h *house) routable() []string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		h.log.Warn("list this host's addresses", "err", err)
	}
	var near, boot []string
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || !p.Addr().IsGlobalUnicast():
		case slices.ContainsFunc(h.segs, func(s segment) bool { return s.address.Addr() == p.Addr() }):
			boot = append(boot, p.Addr().String())
		default:
			near = append(near, p.Addr().String())
		}
	}
	if len(near)+len(boot) == 0 {
		return []string{"127.0.0.1"}
	}
	return append(near, boot...)
}

// copies are the images as agents' orders need them.
type copies struct{ h *house }

// ManifestRead gives the canonical manifest of an image, from here or from
// another controller, whose frames then begin to come.
func (c copies) ManifestRead(ctx context.Context, digest string) ([]byte, error) {
	d, err := parseDigest(digest)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, manifestWait)
	defer cancel()
	data, err := c.h.puller.Manifest(ctx, d)
	return data, fault.Wrap(fault.Unavailable, err, "read the manifest of image %s", digest)
}

// FrameURLs implements agentapi.Images: plain HTTP for public images, whose truth
// is their hash, and TLS for private ones.
func (c copies) FrameURLs(ctx context.Context, digest string, r image.Reader, host string, expires time.Time) ([]string, error) {
	d, err := parseDigest(digest)
	if err != nil {
		return nil, err
	}
	private, err := c.h.store.ImagePrivate(ctx, d.Hex())
	if err != nil {
		return nil, err
	}
	places, err := c.h.store.ImageCopyPlaces(ctx, d.Hex(), c.h.id)
	if err != nil {
		return nil, err
	}
	path := c.h.signer.Sign(image.FramesPath(d), r, expires)
	link := func(host string, boot, report int) string {
		if private {
			return "https://" + net.JoinHostPort(host, port(report)) + path
		}
		return "http://" + net.JoinHostPort(host, port(boot)) + path
	}
	urls := []string{link(host, c.h.c.BootPort, c.h.c.ReportPort)}
	for _, p := range nearest(places, host) {
		urls = append(urls, link(p.host, p.BootPort, p.ReportPort))
	}
	return urls, nil
}

type reachable struct {
	store.Place
	host string
	far  int
}

// nearest gives each controller's address for a machine that reaches us at host,
// those in its subnet first.
func nearest(places []store.Place, host string) []reachable {
	here, err := netip.ParseAddr(host)
	var out []reachable
	for _, p := range places {
		best := reachable{Place: p, far: 2}
		for _, a := range p.Addresses {
			far := 1
			if err == nil && a.Contains(here) {
				far = 0
			}
			if !a.Addr().IsLoopback() || (err == nil && here.IsLoopback()) {
				if far < best.far {
					best.host, best.far = a.Addr().String(), far
				}
			}
		}
		if best.host != "" {
			out = append(out, best)
		}
	}
	slices.SortStableFunc(out, func(a, b reachable) int { return cmp.Compare(a.far, b.far) })
	return out[:min(len(out), othersMost)]
}
