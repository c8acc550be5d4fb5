package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ingot-metal/ingot/controller/ipam"
)

const (
	// knownLeases and limitedClients bound what is remembered, per generation;
	// two generations are kept, so that forgetting costs nothing.
	knownLeases    = 32768
	limitedClients = 8192
	// clientRate is packets a second from one hardware address, clientBurst what
	// a firmware that starts may send at once.
	clientRate, clientBurst = 5, 20
)

// generations is a map of bounded size: when the young half is full, the old
// one is forgotten. Not safe for parallel use.
type generations[V any] struct {
	max        int
	young, old map[string]V
}

func (g *generations[V]) get(k string) (V, bool) {
	if v, ok := g.young[k]; ok {
		return v, true
	}
	v, ok := g.old[k]
	return v, ok
}

func (g *generations[V]) put(k string, v V) {
	if len(g.young) >= g.max {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = make(map[string]V)
	}
	g.young[k] = v
}

func (g *generations[V]) drop(k string) {
	delete(g.young, k)
	delete(g.old, k)
}

// memory is what this process acknowledged. It only serves to go on with a
// lease for its remaining time while the store is away.
type memory struct {
	mu     sync.Mutex
	leases generations[ipam.Lease] // guarded by mu
}

func newMemory() *memory { return &memory{leases: generations[ipam.Lease]{max: knownLeases}} }

func (m *memory) keep(l ipam.Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases.put(l.Client.Key(), l)
}

func (m *memory) forget(c ipam.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases.drop(c.Key())
}

// find returns the lease that was acknowledged to this client for this address
// and has not expired.
func (m *memory) find(c ipam.Client, a netip.Addr, now time.Time) (ipam.Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.leases.get(c.Key())
	return l, ok && l.Address == a && l.Expires.Sub(now) >= time.Second
}

// limiter keeps one client from occupying all workers.
type limiter struct {
	mu      sync.Mutex
	clients generations[*rate.Limiter] // guarded by mu
}

func newLimiter() *limiter {
	return &limiter{clients: generations[*rate.Limiter]{max: limitedClients}}
}

func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lim, ok := l.clients.get(key)
	if !ok {
		lim = rate.NewLimiter(clientRate, clientBurst)
		l.clients.put(key, lim)
	}
	return lim.AllowN(now, 1)
}
