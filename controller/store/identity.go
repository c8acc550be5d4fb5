package store

import (
	"context"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// Identity is what an agent says about the machine that it runs on. All of it
// is a claim; the nonce is what proves anything.
type Identity struct {
	// BootMAC is the address that the firmware booted from: the session's.
	BootMAC net.HardwareAddr
	// NICs by permanent address; only MAC and LocallyAdministered are read. At
	// most 64.
	NICs         []machine.NIC
	UUID         string
	Serial       string
	Architecture string // Debian's name; empty: amd64
	BootMode     machine.BootMode
	BootID       string // the kernel's

	uuid *string // UUID when it means something
}

const (
	nicsMost       = 64
	unapprovedMost = 10000
)

func (who Identity) checked() (Identity, error) {
	if len(who.NICs) > nicsMost {
		return who, fault.New(fault.Invalid, "an agent may name at most %d network interfaces, not %d", nicsMost, len(who.NICs))
	}
	for _, n := range who.NICs {
		if len(n.MAC) < 6 || len(n.MAC) > 20 {
			return who, fault.New(fault.Invalid, "%q is not the address of a network interface", n.MAC)
		}
	}
	if who.BootMode != "" && who.BootMode != machine.BootModeBIOS && who.BootMode != machine.BootModeUEFI {
		return who, fault.New(fault.Invalid, "boot mode %q is neither bios nor uefi", cut(string(who.BootMode), 20))
	}
	if who.Architecture == "" {
		who.Architecture = "amd64"
	}
	var err error
	if who.uuid, err = parseUUID(who.UUID); err != nil {
		who.uuid = nil // firmware writes what it likes; the MAC decides
	}
	return who, nil
}

// permanent lists the addresses that identify the machine.
func (who Identity) permanent() [][]byte {
	out := [][]byte{}
	for _, n := range who.NICs {
		if !n.LocallyAdministered && !local(n.MAC) {
			out = append(out, n.MAC)
		}
	}
	return out
}

// identify finds the machine, or makes one. A MAC decides, that of the boot
// before others; a UUID only where no permanent MAC speaks against it.
func (s *Store) identify(ctx context.Context, tx pgx.Tx, who Identity) (machine.ID, []machine.Warning, error) {
	byMAC, err := collect(ctx, tx, s.sql.Get("SessionMatchMAC"), func(r pgx.CollectableRow) (machine.ID, error) {
		var id machine.ID
		var booted bool
		return id, r.Scan(&id, &booted)
	}, who.permanent(), []byte(who.BootMAC))
	if err != nil {
		return "", nil, err
	}
	byUUID, err := s.matchUUID(ctx, tx, who)
	if err != nil {
		return "", nil, err
	}
	if len(byMAC) > 0 {
		return byMAC[0], sharing(byMAC[0], append(byMAC[1:], ids(byUUID)...)), nil
	}
	permanent := len(who.permanent()) > 0
	if len(byUUID) == 1 && (!permanent || !byUUID[0].permanent) {
		return byUUID[0].id, nil, nil
	}
	id, err := s.enrol(ctx, tx, who)
	return id, sharing(id, ids(byUUID)), err
}

type uuidMatch struct {
	id        machine.ID
	permanent bool // it has a permanent MAC of its own
}

func (s *Store) matchUUID(ctx context.Context, tx pgx.Tx, who Identity) ([]uuidMatch, error) {
	if who.uuid == nil {
		return nil, nil
	}
	return collect(ctx, tx, s.sql.Get("SessionMatchUUID"), func(r pgx.CollectableRow) (uuidMatch, error) {
		var m uuidMatch
		return m, r.Scan(&m.id, &m.permanent)
	}, []string{*who.uuid, swapped(*who.uuid)})
}

func ids(list []uuidMatch) []machine.ID {
	var out []machine.ID
	for _, m := range list {
		out = append(out, m.id)
	}
	return out
}

// sharing warns of other machines that have something of this one's identity.
func sharing(id machine.ID, others []machine.ID) []machine.Warning {
	var out []machine.Warning
	seen := map[machine.ID]bool{id: true}
	for _, o := range others {
		if !seen[o] {
			seen[o] = true
			out = append(out, conflict("it shares a UUID or a network address with machine %s; its own network addresses decided", o))
		}
	}
	return out
}

// conflicts warns of facts that differ from what the machine is known by.
func conflicts(m row, who Identity) []machine.Warning {
	var out []machine.Warning
	if who.uuid != nil && m.uuid != "" && m.uuid != *who.uuid && swapped(m.uuid) != *who.uuid {
		out = append(out, conflict("its UUID is %s now and was %s; its network addresses decided", *who.uuid, m.uuid))
	}
	if who.Serial != "" && m.serial != "" && m.serial != who.Serial {
		out = append(out, conflict("its serial is %q now and was %q; its network addresses decided", cut(who.Serial, 80), m.serial))
	}
	return out
}

func conflict(format string, args ...any) machine.Warning {
	return machine.Warning{Code: string(machine.ReasonIdentityConflict), Text: fmt.Sprintf(format, args...)}
}

// enrol makes a machine that nobody has approved.
func (s *Store) enrol(ctx context.Context, tx pgx.Tx, who Identity) (machine.ID, error) {
	var unapproved int
	if err := tx.QueryRow(ctx, s.sql.Get("MachineUnapprovedCount")).Scan(&unapproved); err != nil {
		return "", err
	}
	if unapproved >= unapprovedMost {
		return "", fault.New(fault.Exhausted, "%d machines wait for approval; approve or delete some first", unapproved)
	}
	id := newMachineID()
	_, err := tx.Exec(ctx, s.sql.Get("MachineInsert"), id, "machine-"+string(id), false, who.uuid, who.Architecture, machine.DefaultPool)
	return id, err
}

// nicsSeen brings the machine's NICs up to date with what the agent named. A
// permanent address that another machine had has moved: the warning is there.
func (s *Store) nicsSeen(ctx context.Context, tx pgx.Tx, m row, who Identity) error {
	if _, err := tx.Exec(ctx, s.sql.Get("NICBootClear"), m.id); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, n := range append([]machine.NIC{{MAC: who.BootMAC, LocallyAdministered: local(who.BootMAC)}}, who.NICs...) {
		if seen[string(n.MAC)] {
			continue
		}
		seen[string(n.MAC)] = true
		repeats := n.LocallyAdministered || local(n.MAC)
		if mine, err := s.nicTake(ctx, tx, m.id, n.MAC, repeats); err != nil || !mine {
			if err != nil {
				return err
			}
			continue
		}
		boot := string(n.MAC) == string(who.BootMAC)
		if _, err := tx.Exec(ctx, s.sql.Get("NICSeen"), m.id, m.siteID, []byte(n.MAC), sixBytes(n.MAC), repeats, boot); err != nil {
			return err
		}
	}
	return nil
}

// nicTake makes a permanent address free for a machine; false when it stays with
// another one.
func (s *Store) nicTake(ctx context.Context, tx pgx.Tx, id machine.ID, mac net.HardwareAddr, repeats bool) (mine bool, err error) {
	if repeats {
		return true, nil
	}
	if _, err := tx.Exec(ctx, s.sql.Get("NICTakeOver"), id, []byte(mac)); err != nil {
		return false, err
	}
	var elsewhere bool
	err = tx.QueryRow(ctx, s.sql.Get("NICPermanentElsewhere"), id, []byte(mac)).Scan(&elsewhere)
	return !elsewhere, err
}
