package egress

import "time"

// bucket holds bytes that may be sent. A nil one is without limit.
type bucket struct {
	rate  float64 // bytes a second
	most  float64
	level float64 // negative: overdrawn
	at    time.Time
}

func newBucket(rate int64) *bucket {
	if rate <= 0 {
		return nil
	}
	return &bucket{rate: float64(rate), most: float64(rate) / 10, level: float64(rate) / 10}
}

func (b *bucket) fill(now time.Time) {
	if !b.at.IsZero() && now.After(b.at) {
		b.level = min(b.most, b.level+now.Sub(b.at).Seconds()*b.rate)
	}
	if now.After(b.at) {
		b.at = now
	}
}

// wait is the time until something may be sent; 0: now.
func (b *bucket) wait(now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.fill(now)
	if b.level >= 0 {
		return 0
	}
	return max(time.Duration(-b.level/b.rate*float64(time.Second)), time.Microsecond)
}

func (b *bucket) spend(now time.Time, bytes int64) {
	if b == nil {
		return
	}
	b.fill(now)
	b.level -= float64(bytes)
}

func (b *bucket) full(now time.Time) bool {
	b.fill(now)
	return b.level >= b.most
}
