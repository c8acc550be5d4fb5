package api

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
	"github.com/ingot-metal/ingot/proto/hardware"
	"github.com/ingot-metal/ingot/proto/operator"
)

// filterPages bounds how many pages of the store one filtered list looks at; the
// list then ends early, with a token to go on.
const filterPages = 20

func (s *Server) find(ctx context.Context, word string) (machine.Machine, error) {
	if err := checkMachine(word); err != nil {
		return machine.Machine{}, err
	}
	return s.c.Store.MachineGet(ctx, word)
}

// MachineGet finds a machine by id, hostname or MAC.
func (s *Server) MachineGet(ctx context.Context, r *operator.MachineGetRequest) (*operator.Machine, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	return showMachine(m), nil
}

// MachineList lists machines by id.
func (s *Server) MachineList(ctx context.Context, r *operator.MachineListRequest) (*operator.MachineListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	want, err := parseFilter(r.GetFilter())
	if err != nil {
		return nil, err
	}
	list := "machines " + r.GetFilter()
	key, err := pageKey(list, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	answer := &operator.MachineListResponse{}
	for range filterPages {
		want.store.PageSize, want.store.PageToken = size, key
		page, next, err := s.c.Store.MachineList(ctx, want.store)
		if err != nil {
			return nil, err
		}
		for i, m := range page {
			if !want.match(m) {
				continue
			}
			answer.Machines = append(answer.Machines, showMachine(m))
			if len(answer.Machines) == size && (i < len(page)-1 || next != "") {
				answer.NextPageToken = pageToken(list, string(m.ID))
				return answer, nil
			}
		}
		if key = next; key == "" {
			break
		}
	}
	answer.NextPageToken = pageToken(list, key)
	return answer, nil
}

// MachineAdd makes a machine known; with commission it is asked for at once.
func (s *Server) MachineAdd(ctx context.Context, r *operator.MachineAddRequest) (*operator.Machine, error) {
	n, err := newMachine(r)
	if err != nil {
		return nil, err
	}
	m, err := s.c.Store.MachineAdd(ctx, n, auth.Actor(ctx))
	if err != nil || !r.GetCommission() {
		return showMachine(m), err
	}
	if _, err := s.ask(ctx, m.ID, machine.OperationCommission, machine.Wish{Commission: &machine.CommissionWish{}}, ""); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "machine %s was added, but not asked to commission (ingot machine commission %s)", m.ID, m.ID)
	}
	m, err = s.c.Store.MachineGet(ctx, string(m.ID))
	return showMachine(m), err
}

func newMachine(r *operator.MachineAddRequest) (store.NewMachine, error) {
	n := store.NewMachine{Hostname: r.GetHostname(), Architecture: r.GetArchitecture(), UUID: r.GetSystemUuid(), Pool: r.GetPool()}
	if n.Architecture == "" {
		n.Architecture = "amd64"
	}
	macs, err := checkMACs(r.GetMacs())
	err = errors.Join(err, checkHostname(n.Hostname), checkArchitecture(n.Architecture), checkUUID(n.UUID))
	if err != nil {
		return n, err
	}
	if n.Pool != "" {
		if err := checkPool(n.Pool); err != nil {
			return n, err
		}
	}
	n.MACs = macs
	if len(macs) == 0 && n.UUID == "" {
		return n, fault.New(fault.Invalid, "a machine is recognised by a MAC address or its system UUID: give at least one")
	}
	if r.GetBmc() != nil {
		if err := checkAccess(r.GetBmc()); err != nil {
			return n, err
		}
		n.BMC = bmcAccess(r.GetBmc())
	}
	return n, nil
}

func bmcAccess(a *operator.BMCAccess) *store.BMCAccess {
	return &store.BMCAccess{URL: a.GetUrl(), User: a.GetUser(), Password: seal.Secret(a.GetPassword()), CertificateSHA256: a.GetCertificateSha256()}
}

// MachineApprove approves and does nothing else.
func (s *Server) MachineApprove(ctx context.Context, r *operator.MachineApproveRequest) (*operator.Machine, error) {
	if err := checkHostname(r.GetHostname()); err != nil {
		return nil, err
	}
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	m, err = s.c.Store.MachineApprove(ctx, m.ID, r.GetHostname(), auth.Actor(ctx))
	if err != nil {
		return nil, err
	}
	return showMachine(m), nil
}

// MachineSet changes what an operator says of a machine.
func (s *Server) MachineSet(ctx context.Context, r *operator.MachineSetRequest) (*operator.Machine, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	if r.Pool == nil {
		return nil, fault.New(fault.Invalid, "nothing to change: name a pool")
	}
	if err := checkPool(r.GetPool()); err != nil {
		return nil, err
	}
	if err := s.c.Store.MachinePoolSet(ctx, m.ID, r.GetPool(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return s.MachineGet(ctx, &operator.MachineGetRequest{Machine: string(m.ID)})
}

// MachineDelete forgets a machine.
func (s *Server) MachineDelete(ctx context.Context, r *operator.MachineDeleteRequest) (*emptypb.Empty, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	if err := s.c.Store.MachineDelete(ctx, m.ID, r.GetForce(), auth.Actor(ctx)); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// MachineCollection is the newest inventory, as the agent sent it.
func (s *Server) MachineCollection(ctx context.Context, r *operator.MachineGetRequest) (*hardware.Collection, error) {
	m, err := s.find(ctx, r.GetMachine())
	if err != nil {
		return nil, err
	}
	payload, _, err := s.c.Store.CollectionGet(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	c := &hardware.Collection{}
	if err := proto.Unmarshal(payload, c); err != nil {
		return nil, fault.Wrap(fault.Precondition, err, "read the stored inventory of machine %s; commission it again", m.ID)
	}
	return c, nil
}
