package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/proto/operator"
)

const (
	// bmcTestLimit bounds all that a test asks of a BMC.
	bmcTestLimit = 20 * time.Second
	// bmcCloseLimit bounds the end of its session.
	bmcCloseLimit = 5 * time.Second
)

// BMCSet says how a machine's BMC is reached.
func (s *Server) BMCSet(ctx context.Context, r *operator.BMCSetRequest) (*operator.BMC, error) {
	if err := checkAccess(r.GetAccess()); err != nil {
		return nil, err
	}
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.BMCSet(ctx, m.ID, *bmcAccess(r.GetAccess()), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	m, err = s.c.Store.MachineGet(ctx, string(m.ID))
	return showBMC(m.BMC), err
}

// BMCTest talks to the BMC now. What it showed is kept (model, certificate on
// first use, error); the machine is not touched.
func (s *Server) BMCTest(ctx context.Context, r *operator.BMCTestRequest) (*operator.BMCTestResponse, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	a, known, err := s.c.Store.BMCAccess(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	begun := s.c.Now()
	state, seen, err := s.tryBMC(ctx, access(a.URL, a.User, a.Password.Reveal(), a.CertificateSHA256), known)
	answer := &operator.BMCTestResponse{Ok: err == nil, PowerState: state.String(), Elapsed: durationpb.New(s.c.Now().Sub(begun))}
	if err != nil {
		// A driver's error says what to do, and holds no credential.
		answer.Problem, seen.LastError = err.Error(), err.Error()
	} else if err := s.c.Store.PowerSet(ctx, m.ID, machine.PowerState(state.String())); err != nil {
		return nil, err
	}
	if err := s.c.Store.BMCSeen(ctx, m.ID, seen); err != nil {
		return nil, err
	}
	m, err = s.c.Store.MachineGet(ctx, string(m.ID))
	answer.Bmc = showBMC(m.BMC)
	return answer, err
}

// tryBMC reads power state and identity.
func (s *Server) tryBMC(ctx context.Context, a power.Access, seen machine.BMC) (state power.State, _ machine.BMC, err error) {
	ctx, cancel := context.WithTimeout(ctx, bmcTestLimit)
	defer cancel()
	seen.LastError = ""
	driver, err := s.c.Open(ctx, a)
	if err != nil {
		return state, seen, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), bmcCloseLimit)
		defer cancel()
		if err := driver.Close(closing); err != nil {
			s.log.Warn("end the session at a BMC", "err", err)
		}
	}()
	if state, err = driver.State(ctx); err != nil {
		return state, seen, err
	}
	who, err := driver.Identify(ctx)
	if err != nil {
		return state, seen, err
	}
	seen.Vendor, seen.Model, seen.Firmware, seen.CertificateSHA256 = who.Vendor, who.Model, who.Firmware, who.CertificateSHA256
	return state, seen, nil
}
