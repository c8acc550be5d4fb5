package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/imaging/fetch"
	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Copies is what a Puller must know of the other copies of images. Calls are
// allowed in parallel.
type Copies interface {
	// ImageSources gives the base URLs (https://host:port) of the other
	// controllers that have a complete copy, nearest first; none when there are
	// none, or no such image.
	ImageSources(ctx context.Context, d manifest.Digest) ([]string, error)
	// ImageCopyKeep records a pulled copy; false when the image is not in
	// service any more.
	ImageCopyKeep(ctx context.Context, d manifest.Digest) (bool, error)
	// ImageCopyDrop takes the record of a pulled copy back; false when it is the
	// only one there is, which has to stay.
	ImageCopyDrop(ctx context.Context, d manifest.Digest) (bool, error)
	// ImageCopiesPulled lists the copies that were pulled and not imported here.
	ImageCopiesPulled(ctx context.Context) ([]manifest.Digest, error)
}

// PullOptions for NewPuller. Copies, Signer, Name and Client are required.
type PullOptions struct {
	Copies Copies
	Signer *Signer
	Name   string       // this controller, as its links name it
	Client *http.Client // trusts the site's authority
	// MaxBytes bounds what pulled copies take together; 0: only the free space
	// does. The least recently used go first.
	MaxBytes uint64
	// Retry is for each source; the zero value gives up after 30 s of silence.
	Retry fetch.RetryOptions
}

// Puller gets images that other controllers have, each once however many
// machines ask for it, and lets them be read while they arrive:
//
//	machine ──range──► Handler ──not here──► pull ──ranges──► other controllers
//	        ◄──bytes as soon as their frames have matched──┘
//
// What a reader waits for is fetched first. A pull that breaks off keeps what
// has matched, and the next one goes on from there.
type Puller struct {
	store *Store
	o     PullOptions
	ctx   context.Context // ends the pulls
	end   context.CancelFunc
	wait  sync.WaitGroup

	room sync.Mutex // held while space is made and taken

	mu    sync.Mutex // guards the fields below
	pulls map[manifest.Digest]*pull
	count PullCount
}

// PullCount is what a Puller did since it was made.
type PullCount struct{ Begun, Done, Failed, Bytes, BadFrames uint64 }

// errArriving: the image is not here yet, and cannot be served now.
var errArriving = errors.New("the image is still on its way to this controller")

const (
	// pullAgain is how long a failed pull is not tried again.
	pullAgain = 5 * time.Second
	// pullPatience is how long a pull goes on without a byte from any source.
	pullPatience = 30 * time.Second
	// openWait bounds how long an answer waits for its pull to begin; an agent
	// waits 20 s for the first byte.
	openWait = 15 * time.Second
	// linkLife is for links between controllers, which are renewed as needed.
	linkLife = 10 * time.Minute
)

// NewPuller makes one for the store; Run or Close ends it.
func (s *Store) NewPuller(o PullOptions) *Puller {
	if o.Retry.Patience == 0 {
		o.Retry.Patience = pullPatience
	}
	p := &Puller{store: s, o: o, pulls: map[manifest.Digest]*pull{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	return p
}

// Run waits for ctx to end, and then for the pulls.
func (p *Puller) Run(ctx context.Context) error {
	<-ctx.Done()
	p.Close()
	return nil
}

// Close ends all pulls and waits for them.
func (p *Puller) Close() {
	p.mu.Lock()
	p.end() // and nobody begins one any more
	p.mu.Unlock()
	p.wait.Wait()
	p.o.Client.CloseIdleConnections()
}

// Count tells what was done.
func (p *Puller) Count() PullCount {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *Puller) add(f func(*PullCount)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.count)
}

// Manifest gives the canonical bytes of an image's manifest, from here or from
// another controller, and then begins to get its frames. ErrNotFound: nobody
// has it.
func (p *Puller) Manifest(ctx context.Context, d manifest.Digest) ([]byte, error) {
	data, err := p.store.ManifestBytes(d)
	if !errors.Is(err, ErrNotFound) {
		return data, err
	}
	pl, err := p.begin(d)
	if err != nil {
		return nil, err
	}
	select {
	case <-pl.known:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the manifest of image %s: %w", d, ctx.Err())
	}
	if pl.raw == nil {
		return nil, pl.failure()
	}
	return pl.raw, nil
}

// content opens a part of an image that is arriving, or makes it arrive.
func (p *Puller) content(ctx context.Context, d manifest.Digest, part string) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	if part == partManifest {
		data, err := p.Manifest(ctx, d)
		if err != nil {
			return nil, arriving(err)
		}
		return inMemory{bytes.NewReader(data)}, nil
	}
	pl, err := p.begin(d)
	if err != nil {
		return nil, arriving(err)
	}
	select {
	case <-pl.opened:
	case <-ctx.Done():
		return nil, arriving(ctx.Err())
	}
	f, err := pl.open()
	if err == nil {
		return f, nil
	}
	if c, err := p.store.content(d, part); err == nil {
		return c, nil // it has come meanwhile
	}
	return nil, arriving(err)
}

// arriving keeps ErrNotFound; whatever else it is, passes.
func arriving(err error) error {
	if errors.Is(err, ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: %v", errArriving, err)
}

// begin finds the pull of an image, or starts it. One that failed a moment ago
// is not tried again at once.
func (p *Puller) begin(d manifest.Digest) (*pull, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	if pl := p.pulls[d]; pl != nil {
		if !over(pl.done) {
			return pl, nil
		}
		err := pl.failure()
		if err != nil && time.Since(pl.ended) < pullAgain {
			return nil, err
		}
		// Who asks may have looked for the copy just before it was put in its place.
		if _, statErr := os.Stat(p.store.path(d)); err == nil && statErr == nil {
			return pl, nil
		}
	}
	for other, pl := range p.pulls { // those that ended are of no more use
		if over(pl.done) && time.Since(pl.ended) >= pullAgain {
			delete(p.pulls, other)
		}
	}
	pl := newPull(p, d)
	p.pulls[d] = pl
	p.count.Begun++
	p.wait.Go(func() { p.run(pl) })
	return pl, nil
}

func (p *Puller) run(pl *pull) {
	log := p.store.log.With("image", string(pl.digest))
	start := time.Now()
	err := pl.run(p.ctx)
	pl.finish(err)
	if err != nil {
		p.add(func(c *PullCount) { c.Failed++ })
		if p.ctx.Err() == nil {
			log.Warn("image not pulled", "err", err)
		}
		return
	}
	p.add(func(c *PullCount) { c.Done++ })
	log.Info("image pulled from another controller", "packed_bytes", pl.manifest.PackedSizeBytes, "elapsed", time.Since(start))
}

// sources are the other controllers as one source, and their manifests' links.
func (p *Puller) sources(ctx context.Context, d manifest.Digest) (fetch.Source, []string, error) {
	bases, err := p.o.Copies.ImageSources(ctx, d)
	if err != nil {
		return nil, nil, fmt.Errorf("look who has image %s: %w", d, err)
	}
	var list []fetch.Source
	var manifests []string
	for _, base := range bases {
		link := func(path string) string {
			return base + p.o.Signer.Sign(path, Reader{Controller: p.o.Name}, time.Now().Add(linkLife))
		}
		src, err := fetch.NewHTTP(link(FramesPath(d)), fetch.HTTPOptions{Client: p.o.Client, Renew: func(context.Context) (string, error) {
			return link(FramesPath(d)), nil
		}})
		if err != nil {
			p.store.log.Warn("controller's address is of no use", "err", err)
			continue
		}
		list, manifests = append(list, src), append(manifests, link(ManifestPath(d)))
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("image %s: %w, and no other that can be reached has one", d, ErrNotFound)
	}
	return fetch.NewRetry(fetch.NewMirrors(list...), p.o.Retry), manifests, nil
}
