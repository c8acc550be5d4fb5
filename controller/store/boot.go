package store

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/machine"
)

// The contracts of the rooms that the store serves.
var (
	_ boot.Directory = (*Store)(nil)
	_ boot.Leases    = (*Store)(nil)
	_ boot.Observer  = (*Store)(nil)
)

// BootTarget implements boot.Directory; what is started is
// machine.BootTargetOf's decision.
func (s *Store) BootTarget(ctx context.Context, mac net.HardwareAddr, uuid string) (boot.Target, error) {
	id, err := s.bootMatch(ctx, mac, uuid)
	if err != nil {
		return boot.Target{}, wrap(err, "look for the machine that boots from %s", mac)
	}
	if id == "" {
		return boot.Target{Kind: boot.TargetAgent}, nil
	}
	list, err := s.machineLoad(ctx, s.pool, []string{string(id)})
	if err != nil || len(list) == 0 {
		return boot.Target{Kind: boot.TargetAgent}, wrap(err, "read machine %s", id)
	}
	m := list[0].Machine
	target := boot.Target{Kind: boot.TargetAgent, MachineID: string(id)}
	current, err := s.operationUnderWay(ctx, s.pool, m.OperationID)
	if err != nil {
		return boot.Target{}, err
	}
	if machine.BootTargetOf(m, current) == machine.BootDisk {
		target.Kind = boot.TargetDisk
		target.Disk = boot.DiskTarget{
			FirmwareMode: boot.FirmwareMode(m.BootMode), PartitionGUID: m.Deployed.LoaderPartitionGUID, LoaderPath: m.Deployed.LoaderPath,
		}
	}
	return target, nil
}

// bootMatch names the machine that has the MAC; where several have it (it is
// locally administered) or none, the UUID decides. "" when unknown.
func (s *Store) bootMatch(ctx context.Context, mac net.HardwareAddr, uuid string) (machine.ID, error) {
	canonical, err := parseUUID(uuid)
	if err != nil {
		canonical = nil // a loader's claim; the MAC may do
	}
	type match struct {
		id   machine.ID
		uuid string
	}
	list, err := collect(ctx, s.pool, s.sql.Get("BootMatch"), func(r pgx.CollectableRow) (match, error) {
		var m match
		return m, r.Scan(&m.id, &m.uuid)
	}, []byte(mac))
	if err != nil {
		return "", err
	}
	if len(list) == 1 {
		return list[0].id, nil
	}
	if canonical == nil {
		return "", nil
	}
	for _, m := range list {
		if m.uuid == *canonical || m.uuid == swapped(*canonical) {
			return m.id, nil
		}
	}
	byUUID, err := collect(ctx, s.pool, s.sql.Get("BootMatchUUID"), pgx.RowTo[machine.ID], []string{*canonical, swapped(*canonical)})
	if err != nil || len(byUUID) != 1 || len(list) > 0 {
		return "", err
	}
	return byUUID[0], nil
}
