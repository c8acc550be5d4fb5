package relay

import (
	"fmt"
	"testing"
	"time"
)

func TestModelOfManyReceivers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		n      int
		uplink float64
		slow   []int
		killed float64 // share
		stall  time.Duration
		most   float64 // times one node
		egress float64 // images
	}{
		{"alone", 1, 1, nil, 0, 0, 1.05, 1.05},
		{"eight", 8, 1, nil, 0, 0, 1.3, 2},
		{"many", 64, 1, nil, 0, 0, 1.5, 4},
		{"many, wide uplink", 64, 10, nil, 0, 0, 1.5, 4},
		{"two slow", 32, 1, []int{2, 9}, 0, 0, 1.5, 4},
		{"two slow of many", 64, 10, []int{1, 30}, 0, 0, 1.5, 4},
		{"slow head", 32, 1, []int{0}, 0, 0, 1.6, 4},
		{"killed", 64, 1, nil, 0.15, 0, 1.5, 4},
		{"killed, wide uplink", 64, 10, nil, 0.15, 0, 1.5, 4},
		{"both", 64, 10, []int{3, 20}, 0.15, 0, 1.7, 5},
		{"power cuts", 64, 1, nil, 0.15, time.Second, 2.5, 4},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(c.name, " ", seed), func(t *testing.T) {
				t.Parallel()
				s := newSim(t, c.n, seed)
				s.stall = c.stall
				s.uplink = c.uplink * s.link
				for _, i := range c.slow {
					s.nodes[i].speed = 1.0 / 8
				}
				begin := s.now
				for i := range int(c.killed * float64(c.n)) {
					n := s.nodes[(i*6+4)%c.n]
					n.dies = begin.Add(time.Duration(2000+s.rng.IntN(4000)) * time.Millisecond)
				}
				got := s.run()
				count := s.group.Count()
				t.Logf("last/one %.2f, egress %.2f images, %d cuts", got, s.egress/s.image, count.Reforms)
				if got > c.most {
					t.Errorf("the last healthy node took %.2f times as long as one, want at most %.2f", got, c.most)
				}
				if e := s.egress / s.image; e > c.egress {
					t.Errorf("egress of %.2f images, want at most %.2f", e, c.egress)
				}
			})
		}
	}
}
