package relay

import (
	"fmt"
	"math"
	"testing"

	"github.com/ingot-metal/ingot/controller/machine"
)

// TestOneLiar: what one member says in bad faith, a hundred times a second, costs
// the others little, and does not end the relay. On a narrow uplink one that takes
// no part in the relay, and reads beside it, costs half of that: nobody can forbid
// it.
func TestOneLiar(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(s *sim, me machine.ID, say *State){
		"accuses whoever it can": func(s *sim, me machine.ID, say *State) {
			for _, n := range s.nodes {
				say.Failed, say.Failure = n.id, "stalled"
				s.group.Report(me, *say, s.now)
			}
		},
		"a ring without end": func(_ *sim, _ machine.ID, say *State) { say.RingBytes = math.MaxUint64 },
		"has all of it":      func(_ *sim, _ machine.ID, say *State) { say.Position, say.RingBytes = math.MaxUint64, math.MaxUint64 },
		"faster than all":    func(_ *sim, _ machine.ID, say *State) { say.ReceivedBytes *= 1000 },
		"waits for ever":     func(_ *sim, _ machine.ID, say *State) { say.Waiting = true },
		"forwards and back":  func(s *sim, _ machine.ID, say *State) { say.Position = uint64(s.rng.Int64N(15e6)) },
		"serves slowly, and says that it reads fast": func(s *sim, me machine.ID, say *State) {
			s.find(me).speed = 1.0 / 16
			say.ReceivedBytes = uint64(s.now.Sub(s.find(me).joins).Seconds() * s.link)
		},
		"serves slowly, says that it is far": func(s *sim, me machine.ID, say *State) {
			s.find(me).speed = 1.0 / 16
			say.ReceivedBytes = uint64(s.now.Sub(s.find(me).joins).Seconds() * s.link)
			say.Position = say.ReceivedBytes
		},
		"begins again, always": func(s *sim, _ machine.ID, say *State) { say.ReceivedBytes = uint64(s.rng.Int64N(15e6)) },
	} {
		for _, at := range []int{0, 3, 20} {
			for _, uplink := range []float64{1, 10} {
				const most = 2.5
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
