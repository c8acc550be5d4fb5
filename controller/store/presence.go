package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
)

// AgentOnline records that a controller holds the stream of a boot of an agent.
// The number that comes back is the stream's: a newer stream of the machine has
// a higher one. stored is the highest report that the database has. fault.Stale
// when the boot is not the machine's current one.
func (s *Store) AgentOnline(ctx context.Context, id machine.ID, bootGeneration uint64, controllerID string) (stream, stored uint64, err error) {
	err = s.tx(ctx, "record the agent of machine "+string(id), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		if m.bootGeneration != bootGeneration {
			return staleBoot(id, bootGeneration, m.bootGeneration)
		}
		if err := tx.QueryRow(ctx, s.sql.Get("AgentOnline"), id, controllerID).Scan(&stream, &stored); err != nil {
			return err
		}
		return s.eventAfford(ctx, tx, id, machine.Event{
			Kind: machine.EventAgent, Text: fmt.Sprintf("agent of boot %d connected", bootGeneration), Detail: map[string]string{"controller": controllerID},
		})
	})
	if err == nil {
		s.changed(id)
	}
	return stream, stored, err
}

// AgentOffline records that a stream has ended. When a newer stream or boot is
// there, nothing changes.
func (s *Store) AgentOffline(ctx context.Context, id machine.ID, bootGeneration, stream uint64) error {
	err := s.tx(ctx, "record the end of a stream of machine "+string(id), func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, s.sql.Get("AgentOffline"), id, bootGeneration, stream)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return s.eventAfford(ctx, tx, id, machine.Event{Kind: machine.EventAgent, Text: fmt.Sprintf("agent of boot %d disconnected", bootGeneration)})
	})
	if err == nil {
		s.changed()
	}
	return err
}

// Standing is what the holder of a stream follows about its machine.
type Standing struct {
	Hostname string
	Approved bool
	State    machine.State
	Outcome  machine.Outcome
	Reason   machine.Reason
	// BootGeneration and Stream say whose the machine is: a controller ends its
	// own stream when it is another, or when it is not Online any more.
	BootGeneration uint64
	Stream         uint64
	Online         bool
	// Stored is the highest report of the boot that the database has.
	Stored uint64
}

// AgentStanding reads it, from one row.
func (s *Store) AgentStanding(ctx context.Context, id machine.ID) (Standing, error) {
	var a Standing
	err := s.pool.QueryRow(ctx, s.sql.Get("AgentStanding"), id).Scan(&a.Hostname, &a.Approved, &a.State, &a.Outcome, &a.Reason,
		&a.BootGeneration, &a.Stream, &a.Online, &a.Stored)
	if err == pgx.ErrNoRows {
		return a, noMachine(string(id))
	}
	return a, wrap(err, "look how machine %s stands", id)
}

// AgentsHeld gives a mark for each machine whose agent's stream a controller
// holds; it changes with all that the holder must know: whose the machine is, how
// it stands, which orders are open. One query for all, for who lost a wake-up.
func (s *Store) AgentsHeld(ctx context.Context, controllerID string) (map[machine.ID]string, error) {
	marks := map[machine.ID]string{}
	_, err := collect(ctx, s.pool, s.sql.Get("AgentsHeld"), func(r pgx.CollectableRow) (struct{}, error) {
		var id machine.ID
		var mark string
		err := r.Scan(&id, &mark)
		marks[id] = mark
		return struct{}{}, err
	}, controllerID)
	return marks, wrap(err, "look at the agents of controller %s", controllerID)
}

// ControllerStart registers a controller and forgets what its former run held:
// agents' streams, leases of machines, and claims of orders for BMCs, whose calls
// ended with it.
func (s *Store) ControllerStart(ctx context.Context, id, name string) error {
	err := s.tx(ctx, "register controller "+id, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("ControllerStart"), id, name); err != nil {
			return err
		}
		for _, name := range []string{"ControllerDropAgents", "ControllerDropLeases", "ControllerDropClaims"} {
			if _, err := tx.Exec(ctx, s.sql.Get(name), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.changed()
	}
	return err
}

// ControllerHeartbeat says that a controller lives; call it every few seconds.
// After twenty without one its agents count as offline, which is also written
// here, by whoever is alive.
func (s *Store) ControllerHeartbeat(ctx context.Context, id string) error {
	if _, err := s.pool.Exec(ctx, s.sql.Get("ControllerHeartbeat"), id); err != nil {
		return wrap(err, "send controller %s's heartbeat", id)
	}
	tag, err := s.pool.Exec(ctx, s.sql.Get("ControllerDropDead"))
	if err == nil && tag.RowsAffected() > 0 {
		s.log.Warn("agents of a controller that fell silent count as offline", "machines", tag.RowsAffected())
		s.changed()
	}
	return wrap(err, "look for controllers that fell silent")
}
