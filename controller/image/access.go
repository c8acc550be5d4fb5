package image

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/imaging/manifest"
)

// Access decides what a machine may read, beyond a link that is in order.
// Calls are allowed in parallel.
type Access interface {
	// ImageGrant tells what the reader's order lets it read of an image, by the
	// hex of its digest. An error means that nobody can tell now.
	ImageGrant(ctx context.Context, r Reader, digest string) (Grant, error)
}

// Grant is an answer of Access.
type Grant struct {
	// Refused says why not; empty: it may.
	Refused string
	// Private images travel only by TLS, to the machine's own certificate.
	Private bool
	// Owner shares the sending rate with other owners.
	Owner string
}

const (
	// grantFresh is how long an answer is good: a cancelled deploy stops
	// reading within that time.
	grantFresh = 3 * time.Second
	// grantOutage is how long who was allowed goes on while nobody can tell.
	grantOutage = 10 * time.Minute
	// grantWait bounds one question.
	grantWait = 5 * time.Second
	// grantsKept bounds the answers in memory.
	grantsKept = 8192
)

// errUnknown: nobody can tell whether a reader may read.
var errUnknown = errors.New("who may read is not known at the moment")

// keeper remembers answers of Access for a short time, so that a machine that
// asks for a thousand ranges costs a question in a few seconds.
type keeper struct {
	access Access
	now    func() time.Time

	mu     sync.Mutex // guards answers
	answer map[question]*answer
}

type question struct {
	reader Reader
	digest manifest.Digest
}

type answer struct {
	mu        sync.Mutex // held while one asks for all
	known     bool
	grant     Grant
	confirmed time.Time // when Access said so
	asked     time.Time
}

func (k *keeper) grant(ctx context.Context, r Reader, d manifest.Digest) (Grant, error) {
	a := k.find(question{r, d})
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := k.now(); a.known && now.Sub(a.asked) < grantFresh && now.Sub(a.confirmed) < grantOutage {
		return a.grant, nil
	}
	asking, cancel := context.WithTimeout(ctx, grantWait)
	defer cancel()
	grant, err := k.access.ImageGrant(asking, r, d.Hex())
	now := k.now()
	switch {
	case err == nil:
		a.known, a.grant, a.confirmed, a.asked = true, grant, now, now
		return grant, nil
	case a.known && a.grant.Refused == "" && now.Sub(a.confirmed) < grantOutage:
		a.asked = now
		return a.grant, nil
	}
	return Grant{}, errors.Join(errUnknown, err)
}

func (k *keeper) find(q question) *answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.answer[q]; a != nil {
		return a
	}
	if len(k.answer) >= grantsKept {
		k.thin()
	}
	a := &answer{}
	k.answer[q] = a
	return a
}

// thin makes room: first the old ones go, then any. Links are signed, so
// strangers cannot fill this.
func (k *keeper) thin() {
	for _, all := range []bool{false, true} {
		for q, a := range k.answer {
			if !a.mu.TryLock() {
				continue
			}
			if all || k.now().Sub(a.confirmed) > grantOutage {
				delete(k.answer, q)
			}
			a.mu.Unlock()
			if all && len(k.answer) < grantsKept/2 {
				return
			}
		}
		if len(k.answer) < grantsKept {
			return
		}
	}
}
