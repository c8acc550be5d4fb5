package power

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Options tune an Opener; zero values are the defaults named.
type Options struct {
	CallTimeout  time.Duration // of one try of one call; 30 s
	LeaseMargin  time.Duration // a call ends so long before its caller's deadline; 500 ms
	Tries        int           // of a call that fails temporarily; 3
	RetryPause   time.Duration // before the second try, then doubling; 250 ms
	PerSecond    float64       // calls to one BMC; 10
	Burst        int           // 10
	BreakerAfter int           // failed calls in a row; 4
	BreakerPause time.Duration // 30 s
	Quirks       Quirks        // nil: BuiltinQuirks
}

func (o Options) withDefaults() (Options, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.CallTimeout, 30*time.Second)
	def(&o.LeaseMargin, 500*time.Millisecond)
	def(&o.RetryPause, 250*time.Millisecond)
	def(&o.BreakerPause, 30*time.Second)
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.PerSecond == 0 {
		o.PerSecond = 10
	}
	if o.Burst == 0 {
		o.Burst = 10
	}
	if o.BreakerAfter == 0 {
		o.BreakerAfter = 4
	}
	if o.Quirks == nil {
		q, err := BuiltinQuirks()
		if err != nil {
			return o, err
		}
		o.Quirks = q
	}
	return o, nil
}

// Opener opens drivers, and remembers for each BMC what must outlive one
// driver: whose turn it is, the rate limit, the breaker, learned latencies.
// One Opener serves a whole controller.
type Opener struct {
	factories Factories
	opts      Options

	mu   sync.Mutex
	bmcs map[string]*bmc
}

// bmc is what is kept for one address.
type bmc struct {
	gate    *gate
	limiter *rate.Limiter
	breaker *breaker
	latency *Latency

	mu     sync.Mutex
	used   time.Time
	shared map[accessKey]*sharedDriver // by access
}

// sharedDriver is one driver, so one session, for all who opened it.
type sharedDriver struct {
	driver Driver
	users  int
}

// maxBMCs bounds the memory of an Opener; the BMC unused for longest is
// forgotten when there are more.
const maxBMCs = 100_000

// NewOpener makes an Opener for the schemes named in f.
func NewOpener(f Factories, o Options) (*Opener, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Opener{factories: f, opts: o, bmcs: make(map[string]*bmc)}, nil
}

// Open gives a driver for a BMC, with all wrappers around it. It checks a and
// does not talk to the BMC yet. Drivers opened with the same access share one
// session, which ends when the last of them is closed.
func (o *Opener) Open(ctx context.Context, a Access, log *slog.Logger) (Driver, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open power driver: %w", err)
	}
	t, err := o.target(a)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t.Log = log.With(keyBMC, t.Address())
	make := o.factories[t.URL.Scheme]
	if t.URL.Host == "" { // no BMC, nothing to share or to protect
		d, err := make(t)
		if err != nil {
			return nil, err
		}
		return &layered{inner: d, addr: t.Address(), layers: []layer{logged(t.Log)}, latency: new(Latency), close: d.Close}, nil
	}
	b := o.bmc(t.Address())
	key := keyOf(a)
	shared, err := b.take(key, func() (Driver, error) { return make(t) })
	if err != nil {
		return nil, err
	}
	return o.wrap(t, b, key, shared), nil
}

// wrap puts the layers around a driver, outermost first.
func (o *Opener) wrap(t Target, b *bmc, key accessKey, s *sharedDriver) Driver {
	addr := t.Address()
	var once sync.Once
	var failed error
	return &layered{
		inner: s.driver, addr: addr, latency: b.latency,
		layers: []layer{
			logged(t.Log),
			b.breaker.layer(key),
			retry(o.opts.Tries, o.opts.RetryPause, o.opts.LeaseMargin),
			b.gate.layer,
			limited(addr, b.limiter),
			limitTime(addr, o.opts.CallTimeout, o.opts.LeaseMargin),
			learned(b.latency),
		},
		close: func(ctx context.Context) error {
			once.Do(func() { failed = b.release(ctx, key) })
			return failed
		},
	}
}

// target checks an Access.
func (o *Opener) target(a Access) (Target, error) {
	u, err := url.Parse(a.URL)
	if err != nil {
		return Target{}, fmt.Errorf("BMC address: not a URL; write for instance ipmi://10.0.0.7 or redfish://10.0.0.7")
	}
	if u.User != nil {
		return Target{}, fmt.Errorf("BMC address: user and password go into their own fields, not into the URL")
	}
	if o.factories[u.Scheme] == nil {
		return Target{}, fmt.Errorf("BMC address %s: scheme %q is not known, use one of %s",
			u.Redacted(), u.Scheme, strings.Join(slices.Sorted(maps.Keys(o.factories)), ", "))
	}
	pin := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(a.CertificateSHA256))
	if raw, err := hex.DecodeString(pin); err != nil || (len(raw) != 0 && len(raw) != sha256.Size) {
		return Target{}, fmt.Errorf("BMC certificate fingerprint %q: want the SHA-256 of the certificate, 64 hex digits", Clean(a.CertificateSHA256))
	}
	return Target{URL: u, User: a.User, Password: a.Password, Pin: pin, Quirks: o.opts.Quirks}, nil
}

// Address names a BMC in errors, logs and as a key: scheme and host.
func (t Target) Address() string {
	if t.URL.Host == "" {
		return t.URL.Scheme
	}
	return t.URL.Scheme + "://" + strings.ToLower(t.URL.Host)
}

// accessKey tells apart who may share a session: one address with one set of
// credentials.
type accessKey [sha256.Size]byte

func keyOf(a Access) accessKey {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", a.URL, a.User, a.Password.Reveal(), a.CertificateSHA256))
}

// bmc finds or makes what is kept for addr.
func (o *Opener) bmc(addr string) *bmc {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.bmcs[addr]
	if b == nil {
		if len(o.bmcs) >= maxBMCs {
			o.forgetOldest()
		}
		b = &bmc{
			gate:    newGate(addr),
			limiter: rate.NewLimiter(rate.Limit(o.opts.PerSecond), o.opts.Burst),
			breaker: &breaker{bmc: addr, after: o.opts.BreakerAfter, pause: o.opts.BreakerPause},
			latency: new(Latency),
			shared:  make(map[accessKey]*sharedDriver),
		}
		o.bmcs[addr] = b
	}
	b.mu.Lock()
	b.used = time.Now()
	b.mu.Unlock()
	return b
}

// forgetOldest drops the BMC unused for longest that no driver is open for.
// o.mu is held.
func (o *Opener) forgetOldest() {
	var oldest string
	var when time.Time
	for addr, b := range o.bmcs {
		b.mu.Lock()
		if len(b.shared) == 0 && (oldest == "" || b.used.Before(when)) {
			oldest, when = addr, b.used
		}
		b.mu.Unlock()
	}
	delete(o.bmcs, oldest)
}

func (b *bmc) take(key accessKey, open func() (Driver, error)) (*sharedDriver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.shared[key]; s != nil {
		s.users++
		return s, nil
	}
	d, err := open()
	if err != nil {
		return nil, err
	}
	s := &sharedDriver{driver: d, users: 1}
	b.shared[key] = s
	return s, nil
}

// release closes the session with its last user. Waiting for the gate keeps a
// logout from running beside a call of another access.
func (b *bmc) release(ctx context.Context, key accessKey) error {
	b.mu.Lock()
	s := b.shared[key]
	s.users--
	last := s.users == 0
	if last {
		delete(b.shared, key)
	}
	b.mu.Unlock()
	if !last {
		return nil
	}
	return s.driver.Close(ctx)
}
