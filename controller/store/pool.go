package store

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// poolsMost is how many pools there can be.
const poolsMost = 1000

// Pool is machines under one policy.
type Pool struct {
	Name                string
	RequireSignedImages bool
	CreatedAt           time.Time
	Machines            uint64
}

func noPool(name string) error {
	return fault.New(fault.NotFound, "no pool is named %q: ingot pool list shows all", cut(name, 80))
}

// PoolList lists the pools by name.
func (s *Store) PoolList(ctx context.Context) ([]Pool, error) { return s.pools(ctx, "") }

// PoolGet finds a pool; fault.NotFound when there is none of that name.
func (s *Store) PoolGet(ctx context.Context, name string) (Pool, error) {
	list, err := s.pools(ctx, name)
	if err != nil {
		return Pool{}, err
	}
	if name == "" || len(list) == 0 {
		return Pool{}, noPool(name)
	}
	return list[0], nil
}

// pools lists one by its name, or all.
func (s *Store) pools(ctx context.Context, name string) ([]Pool, error) {
	list, err := collect(ctx, s.pool, s.sql.Get("PoolList"), func(r pgx.CollectableRow) (Pool, error) {
		var p Pool
		err := r.Scan(&p.Name, &p.RequireSignedImages, &p.CreatedAt, &p.Machines)
		p.CreatedAt = p.CreatedAt.UTC()
		return p, err
	}, cut(name, 80))
	return list, wrap(err, "list pools")
}

// poolThere makes sure that a pool is there, and stays while tx lasts.
func (s *Store) poolThere(ctx context.Context, tx pgx.Tx, name string) error {
	return onePool(tx.QueryRow(ctx, s.sql.Get("PoolThere"), name), name)
}

// poolLock also keeps machines from being put into it.
func (s *Store) poolLock(ctx context.Context, tx pgx.Tx, name string) error {
	return onePool(tx.QueryRow(ctx, s.sql.Get("PoolLock"), name), name)
}

func onePool(row pgx.Row, name string) error {
	var n string
	err := row.Scan(&n)
	if err == pgx.ErrNoRows {
		return noPool(name)
	}
	return err
}

// PoolAdd makes a pool. A name that is there is fault.Exists.
func (s *Store) PoolAdd(ctx context.Context, p Pool, actor string) error {
	err := s.tx(ctx, "add pool "+p.Name, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, s.sql.Get("PoolCount")).Scan(&n); err != nil {
			return err
		}
		if n >= poolsMost {
			return fault.New(fault.Exhausted, "there are %d pools, and no more can be", n)
		}
		if _, err := tx.Exec(ctx, s.sql.Get("PoolInsert"), p.Name, p.RequireSignedImages); err != nil {
			return exists(err, "there is a pool named %q already", p.Name)
		}
		return s.poolAudit(ctx, tx, actor, "pool.add", p.Name, &p.RequireSignedImages)
	})
	if err == nil {
		s.changed()
	}
	return err
}

// PoolSet changes what is not nil.
func (s *Store) PoolSet(ctx context.Context, name string, requireSigned *bool, actor string) error {
	err := s.tx(ctx, "change pool "+name, func(tx pgx.Tx) error {
		if err := s.poolLock(ctx, tx, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("PoolSet"), name, requireSigned); err != nil {
			return err
		}
		return s.poolAudit(ctx, tx, actor, "pool.set", name, requireSigned)
	})
	if err == nil {
		s.changed()
	}
	return err
}

func (s *Store) poolAudit(ctx context.Context, tx pgx.Tx, actor, action, name string, requireSigned *bool) error {
	detail := map[string]string{}
	if requireSigned != nil {
		detail["require_signed_images"] = strconv.FormatBool(*requireSigned)
	}
	_, err := s.auditAdd(ctx, tx, actor, action, name, detail)
	return err
}

// PoolDelete forgets a pool without machines. The default pool stays.
func (s *Store) PoolDelete(ctx context.Context, name, actor string) error {
	if name == machine.DefaultPool {
		return fault.New(fault.Precondition, "the pool %s is where machines are that nobody put elsewhere; it stays", name)
	}
	err := s.tx(ctx, "delete pool "+name, func(tx pgx.Tx) error {
		if err := s.poolLock(ctx, tx, name); err != nil {
			return err
		}
		in, err := collect(ctx, tx, s.sql.Get("PoolMachines"), pgx.RowTo[string], name)
		if err != nil {
			return err
		}
		if len(in) > 0 {
			return fault.New(fault.Precondition, "pool %s has %s: put them elsewhere first (ingot machine set ID --pool NAME)", name, someMachines(in))
		}
		if _, err := tx.Exec(ctx, s.sql.Get("PoolDelete"), name); err != nil {
			return err
		}
		return s.poolAudit(ctx, tx, actor, "pool.delete", name, nil)
	})
	if err == nil {
		s.changed()
	}
	return err
}

// MachinePoolSet puts a machine into a pool. What it has stays; the pool's policy
// holds from the next order on.
func (s *Store) MachinePoolSet(ctx context.Context, id machine.ID, pool, actor string) error {
	err := s.tx(ctx, "put machine "+string(id)+" into a pool", func(tx pgx.Tx) error {
		if _, err := s.machineLock(ctx, tx, id); err != nil {
			return err
		}
		if err := s.poolThere(ctx, tx, pool); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("MachinePoolSet"), id, pool); err != nil {
			return err
		}
		if _, err := s.auditAdd(ctx, tx, actor, "machine.set", string(id), map[string]string{"pool": pool}); err != nil {
			return err
		}
		return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAudit, Text: "put into pool " + pool + " by " + actor, Detail: map[string]string{"pool": pool}})
	})
	if err == nil {
		s.changed()
	}
	return err
}
