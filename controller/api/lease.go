package api

import (
	"context"

	"github.com/ingot-metal/ingot/proto/operator"
)

// LeaseList lists addresses given by DHCP, in the order in which they were
// first given.
func (s *Server) LeaseList(ctx context.Context, r *operator.LeaseListRequest) (*operator.LeaseListResponse, error) {
	size, err := pageOf(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	key, err := pageKey("leases", r.GetPageToken())
	if err != nil {
		return nil, err
	}
	leases, next, err := s.c.Store.LeaseList(ctx, size, key)
	if err != nil {
		return nil, err
	}
	answer := &operator.LeaseListResponse{NextPageToken: pageToken("leases", next)}
	for _, l := range leases {
		answer.Leases = append(answer.Leases, &operator.Lease{
			Address: l.Address.String(), Mac: l.Client.HardwareAddr.String(), MachineId: string(l.MachineID), Hostname: l.Hostname,
			Stage: string(l.Stage), ExpiresAt: at(l.ExpiresAt), Active: l.Active,
		})
	}
	return answer, nil
}
