package relay

import (
	"fmt"
	"math"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

// TestOneLiar: what one member says in bad faith, a hundred times a second, costs
// the others little, and does not end the relay. As bad as not to take part in the
// relay at all, and to read beside it, it may be: that nobody can forbid.
func TestOneLiar(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(s *sim, me machine.ID, say *State){
		"accuses whoever it can": func(s *sim, me machine.ID, say *State) {
			for _, n := range s.nodes {
				say.Failed, say.Failure = n.id, "stalled"
				s.group.Report(me, *say, s.now)
			}
		},
		"a ring without end":   func(_ *sim, _ machine.ID, say *State) { say.RingBytes = math.MaxUint64 },
		"has all of it":        func(_ *sim, _ machine.ID, say *State) { say.Position, say.RingBytes = math.MaxUint64, math.MaxUint64 },
		"faster than all":      func(_ *sim, _ machine.ID, say *State) { say.ReceivedBytes *= 1000 },
		"waits for ever":       func(_ *sim, _ machine.ID, say *State) { say.Waiting = true },
		"forwards and back":    func(s *sim, _ machine.ID, say *State) { say.Position = uint64(s.rng.Int64N(15e6)) },
		"begins again, always": func(s *sim, _ machine.ID, say *State) { say.ReceivedBytes = uint64(s.rng.Int64N(15e6)) },
	} {
		for _, at := range []int{0, 3, 20} {
			for uplink, most := range map[float64]float64{1: 2.2, 10: 1.4} {
				t.Run(fmt.Sprint(name, " ", at, " ", uplink), func(t *testing.T) {
					t.Parallel()
					s := newSim(t, 32, 1)
					s.uplink = uplink * s.link
					s.nodes[at].lie = lie
					got, egress := s.run(), s.egress/s.image
					if t.Logf("last/one %.2f, egress %.2f images, %d cuts", got, egress, s.group.Count().Reforms); got > most || egress > 2.5 {
						t.Errorf("the last took %.2f times as long as one, want at most %.1f; egress of %.2f images, want at most 2.5", got, most, egress)
					}
				})
			}
		}
	}
}
