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
		return s.eventAdd(ctx, tx, id, machine.Event{
			Kind: machine.EventAgent, Text: fmt.Sprintf("agent of boot %d connected", bootGeneration), Detail: map[string]string{"controller": controllerID},
		})
	})
	if err == nil {
		s.changed()
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
		return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAgent, Text: fmt.Sprintf("agent of boot %d disconnected", bootGeneration)})
	})
	if err == nil {
		s.changed()
	}
	return err
}

// AgentStream says which stream of an agent is the machine's: a controller ends
// its own when it is another.
func (s *Store) AgentStream(ctx context.Context, id machine.ID) (bootGeneration, stream uint64, online bool, err error) {
	err = s.pool.QueryRow(ctx, s.sql.Get("AgentStream"), id).Scan(&bootGeneration, &stream, &online)
	if err == pgx.ErrNoRows {
		return 0, 0, false, noMachine(string(id))
	}
	return bootGeneration, stream, online, wrap(err, "look for the stream of machine %s", id)
}

// ControllerStart registers a controller and forgets the streams that its
// former run held.
func (s *Store) ControllerStart(ctx context.Context, id, name string) error {
	err := s.tx(ctx, "register controller "+id, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, s.sql.Get("ControllerStart"), id, name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.sql.Get("ControllerDropAgents"), id)
		return err
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
