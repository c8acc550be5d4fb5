package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// loaded is a machine with what only snapshots show.
type loaded struct {
	machine.Machine
	bootSeenAt   time.Time
	bootSeenWhat string
}

// machineLoad reads machines whole, by id order. Ids that are not there are left
// out.
func (s *Store) machineLoad(ctx context.Context, q querier, ids []string) ([]loaded, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	list, err := collect(ctx, q, s.sql.Get("MachineLoad"), scanMachine, ids)
	if err != nil {
		return nil, err
	}
	byID := map[machine.ID]*machine.Machine{}
	for i := range list {
		byID[list[i].ID] = &list[i].Machine
	}
	for _, part := range []func(context.Context, querier, []string, map[machine.ID]*machine.Machine) error{
		s.loadNICs, s.loadDisks, s.loadDiskData, s.loadBMCs, s.loadDeployments,
	} {
		if err := part(ctx, q, ids, byID); err != nil {
			return nil, err
		}
	}
	for i := range list {
		list[i].Warnings = append(list[i].Warnings, dataWarning(list[i].Machine)...)
	}
	return list, nil
}

// collect runs a query and scans each row with f.
func collect[T any](ctx context.Context, q querier, sql string, f func(pgx.CollectableRow) (T, error), args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, f)
}

func scanMachine(r pgx.CollectableRow) (loaded, error) {
	var m loaded
	var warnings []byte
	var deadline, seen, bootSeen *time.Time
	var online *bool
	err := r.Scan(&m.ID, &m.Hostname, &m.ProjectID, &m.SiteID, &m.Approved, &m.State, &m.Outcome, &m.Reason, &m.Detail,
		&m.StateSince, &deadline, &m.WishGeneration, &m.BootGeneration, &m.LeaseToken, &m.OperationID,
		&m.Architecture, &m.BootMode, &m.UUID, &m.Serial, &m.Vendor, &m.Product, &m.MemoryBytes, &m.CPUThreads,
		&m.PowerState, &online, &seen, &warnings, &m.CreatedAt, &bootSeen, &m.bootSeenWhat, &m.Pool)
	if err != nil {
		return m, err
	}
	m.StateSince, m.CreatedAt = m.StateSince.UTC(), m.CreatedAt.UTC()
	m.DeadlineAt, m.AgentSeenAt, m.bootSeenAt = instant(deadline), instant(seen), instant(bootSeen)
	m.AgentOnline = online != nil && *online
	if err := json.Unmarshal(warnings, &m.Warnings); err != nil {
		return m, fmt.Errorf("read warnings of machine %s: %w", m.ID, err)
	}
	if len(m.Warnings) == 0 {
		m.Warnings = nil
	}
	return m, nil
}

func (s *Store) loadNICs(ctx context.Context, q querier, ids []string, into map[machine.ID]*machine.Machine) error {
	_, err := collect(ctx, q, s.sql.Get("MachineLoadNICs"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var n machine.NIC
		var addr []byte
		err := r.Scan(&id, &n.ID, &n.Name, &addr, &n.LocallyAdministered, &n.SpeedBitsPerSecond, &n.LinkUp, &n.Driver,
			&n.BootNIC, &n.Neighbour, &n.Address)
		n.MAC = net.HardwareAddr(addr)
		if m := into[id]; m != nil {
			m.NICs = append(m.NICs, n)
		}
		return struct{}{}, err
	}, ids)
	return err
}

func (s *Store) loadDisks(ctx context.Context, q querier, ids []string, into map[machine.ID]*machine.Machine) error {
	_, err := collect(ctx, q, s.sql.Get("MachineLoadDisks"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var d machine.Disk
		err := r.Scan(&id, &d.ID, &d.Name, &d.Serial, &d.WWN, &d.ByPath, &d.Model, &d.SizeBytes, &d.SectorBytes, &d.Kind,
			&d.Health, &d.ReadOnly, &d.Removable)
		if m := into[id]; m != nil {
			m.Disks = append(m.Disks, d)
		}
		return struct{}{}, err
	}, ids)
	return err
}

func (s *Store) loadBMCs(ctx context.Context, q querier, ids []string, into map[machine.ID]*machine.Machine) error {
	_, err := collect(ctx, q, s.sql.Get("MachineLoadBMCs"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var b machine.BMC
		err := r.Scan(&id, &b.URL, &b.User, &b.CertificateSHA256, &b.Vendor, &b.Model, &b.Firmware, &b.LastError)
		if m := into[id]; m != nil {
			m.BMC = &b
		}
		return struct{}{}, err
	}, ids)
	return err
}

func (s *Store) loadDeployments(ctx context.Context, q querier, ids []string, into map[machine.ID]*machine.Machine) error {
	_, err := collect(ctx, q, s.sql.Get("MachineLoadDeployments"), func(r pgx.CollectableRow) (struct{}, error) {
		id, d, err := scanDeployment(r)
		if m := into[id]; m != nil {
			m.Deployed = &d
		}
		return struct{}{}, err
	}, ids)
	return err
}

func scanDeployment(r pgx.CollectableRow) (id machine.ID, d machine.Deployment, err error) {
	var proven *time.Time
	err = r.Scan(&id, &d.OperationID, &d.ImageDigest, &d.ImageName, &d.DiskSerial, &d.InstanceID, &d.Proof, &proven,
		&d.BootPath, &d.BootPathDetail, &d.EnteredBy, &d.LoaderPartitionGUID, &d.LoaderPath,
		&d.BytesFetched, &d.BytesWritten, &d.FlushedAfter, &d.VerifiedAfter, &d.BytesKept, &d.BytesFromPeers)
	d.ProvenAt = instant(proven)
	return id, d, err
}

// parseUUID checks a UUID; nil when there is none, or one that firmware makers
// leave in place of one.
func parseUUID(text string) (*string, error) {
	if text == "" {
		return nil, nil
	}
	u, err := uuid.Parse(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%q is not a UUID", cut(text, 80))
	}
	if meaningless(u) {
		return nil, nil
	}
	canonical := u.String()
	return &canonical, nil
}

func meaningless(u uuid.UUID) bool {
	same := true
	for _, b := range u {
		same = same && b == u[0]
	}
	// The second is what a well-known firmware shows when nobody set one.
	return same || strings.EqualFold(u.String(), "03000200-0400-0500-0006-000700080009")
}

// swapped is the UUID with its first three fields in the other byte order
// (SMBIOS 2.6 changed it; some firmware did not).
func swapped(canonical string) string {
	u, err := uuid.Parse(canonical)
	if err != nil {
		return canonical
	}
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
	return u.String()
}
