package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/proto/fault"
)

// userDataMost is the limit on user-data in bytes (1 MiB), a promise of the API.
const userDataMost = 1 << 20

// OperationCreate records a wish. It is refused (fault.Precondition, with what to
// do) when the machine is not approved, does not accept it now, or has an
// operation under way. The same request id of the same machine again gives the
// operation that it made; with another kind it is fault.Exists.
func (s *Store) OperationCreate(ctx context.Context, id machine.ID, kind machine.OperationKind, wish machine.Wish, requestID, actor string) (machine.Operation, error) {
	if err := wishFits(kind, wish); err != nil {
		return machine.Operation{}, err
	}
	var operation string
	err := s.tx(ctx, fmt.Sprintf("ask machine %s for %s", id, kind), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		if requestID != "" {
			var had machine.OperationKind
			err := tx.QueryRow(ctx, s.sql.Get("OperationByRequest"), id, requestID).Scan(&operation, &had)
			if err == nil && had != kind {
				return fault.New(fault.Exists, "request id %q was used for %s", cut(requestID, 80), had)
			}
			if err != pgx.ErrNoRows {
				return err
			}
		}
		if err := s.acceptable(ctx, tx, m, kind); err != nil {
			return err
		}
		if c := wish.Commission; c != nil {
			if err := s.disksVouched(ctx, tx, id, c.Vouched, actor); err != nil {
				return err
			}
		}
		operation, err = s.operationInsert(ctx, tx, m, kind, wish, requestID, actor)
		return err
	})
	if err != nil {
		return machine.Operation{}, err
	}
	s.changed()
	return s.OperationGet(ctx, operation)
}

func wishFits(kind machine.OperationKind, w machine.Wish) error {
	set := map[machine.OperationKind]bool{
		machine.OperationCommission: w.Commission != nil, machine.OperationDeploy: w.Deploy != nil,
		machine.OperationRelease: w.Release != nil, machine.OperationPower: w.Power != nil,
	}
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	if n != 1 || !set[kind] {
		return fault.New(fault.Invalid, "what is asked does not fit an operation %q", kind)
	}
	if w.Deploy != nil && len(w.Deploy.UserData) > userDataMost {
		return fault.New(fault.Invalid, "user-data has %d bytes, at most %d (1 MiB) are taken", len(w.Deploy.UserData), userDataMost)
	}
	return nil
}

// acceptable says why a wish is refused now, in a sentence for a person.
func (s *Store) acceptable(ctx context.Context, tx pgx.Tx, m row, kind machine.OperationKind) error {
	if !m.approved {
		return fault.New(fault.Precondition, "machine %s is not approved: ingot machine approve %s", m.id, m.id)
	}
	current, err := s.operationUnderWay(ctx, tx, m.operationID)
	if err != nil {
		return err
	}
	if current != nil {
		return fault.New(fault.Precondition, "machine %s has %s under way (operation %s): wait for it, or cancel it", m.id, current.Kind, current.ID)
	}
	if (machine.Machine{State: m.state, Outcome: m.outcome}).Accepts(kind) {
		if kind == machine.OperationDeploy {
			return s.deployableDisks(ctx, tx, m)
		}
		return nil
	}
	rule, _ := machine.RuleOf(m.state)
	accepts, how := rule.Accepts, string(m.state)
	if m.outcome == machine.OutcomeFailed || m.outcome == machine.OutcomeCancelled {
		accepts, how = rule.FailedAccepts, fmt.Sprintf("%s (%s)", m.state, m.outcome)
	}
	var words []string
	for _, a := range accepts {
		words = append(words, string(a))
	}
	slices.Sort(words)
	return fault.New(fault.Precondition, "machine %s is %s and cannot be asked for %s; it can be asked for: %s",
		m.id, how, kind, strings.Join(words, ", "))
}

func (s *Store) operationInsert(ctx context.Context, tx pgx.Tx, m row, kind machine.OperationKind, wish machine.Wish, requestID, actor string) (string, error) {
	id := "op-" + randomWord(12)
	plain, err := json.Marshal(wish)
	if err != nil {
		return "", err
	}
	sealed, err := s.ring.Seal(plain, wishPlace(id))
	if err != nil {
		return "", err
	}
	var digest string
	var token []byte
	detail := map[string]string{"operation": id}
	if d := wish.Deploy; d != nil {
		digest, detail["image"] = d.ImageDigest, d.ImageDigest
		if d.ReportToken != "" {
			token = hash(d.ReportToken)
		}
		if err := s.imageInService(ctx, tx, digest); err != nil {
			return "", err
		}
	}
	if wish.Release != nil {
		detail["disks"] = strings.Join(wish.Release.DiskSerials, " ")
	}
	if wish.Power != nil {
		detail["action"] = wish.Power.Action
	}
	generation := m.wishGeneration + 1
	_, err = tx.Exec(ctx, s.sql.Get("OperationInsert"), id, m.id, kind, generation, sealed, digest, token, cut(requestID, 200), cut(actor, 200))
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("OperationBegin"), m.id, generation, id); err != nil {
		return "", err
	}
	if _, err := s.auditAdd(ctx, tx, actor, "machine."+string(kind), string(m.id), detail); err != nil {
		return "", err
	}
	return id, s.eventAdd(ctx, tx, m.id, machine.Event{
		Kind: machine.EventOperation, Text: fmt.Sprintf("%s asked for %s", actor, kind), Detail: detail,
	})
}

// imageInService keeps the image from being deleted under the wish.
func (s *Store) imageInService(ctx context.Context, tx pgx.Tx, digest string) error {
	var in bool
	err := tx.QueryRow(ctx, s.sql.Get("OperationImageInService"), digest).Scan(&in)
	if err == pgx.ErrNoRows || err == nil && !in {
		return fault.New(fault.Precondition, "image %s is not in service: ingot image list shows those that are", cut(digest, 80))
	}
	return err
}

func wishPlace(id string) string { return "operation.wish/" + id }

// OperationCancel asks that an operation end. It is refused when it has ended,
// or when the machine's state cannot be left half-way; the engine does the rest.
func (s *Store) OperationCancel(ctx context.Context, id, actor string) (machine.Operation, error) {
	err := s.tx(ctx, "cancel operation "+id, func(tx pgx.Tx) error {
		var owner machine.ID
		err := tx.QueryRow(ctx, s.sql.Get("OperationMachine"), id).Scan(&owner)
		if err == pgx.ErrNoRows {
			return noOperation(id)
		}
		if err != nil {
			return err
		}
		m, err := s.machineLock(ctx, tx, owner)
		if err != nil {
			return err
		}
		current, err := s.operationUnderWay(ctx, tx, id)
		if err != nil {
			return err
		}
		if current == nil {
			return fault.New(fault.Precondition, "operation %s has ended already", id)
		}
		rule, _ := machine.RuleOf(m.state)
		if m.outcome == machine.OutcomeRunning && rule.CancelRefused != "" {
			return fault.New(fault.Precondition, "machine %s is %s: %s", m.id, m.state, rule.CancelRefused)
		}
		if current.CancelAsked {
			return nil
		}
		return s.operationCancel(ctx, tx, m.id, *current, actor)
	})
	if err != nil {
		return machine.Operation{}, err
	}
	s.changed()
	return s.OperationGet(ctx, id)
}

func (s *Store) operationCancel(ctx context.Context, tx pgx.Tx, id machine.ID, o machine.Operation, actor string) error {
	if _, err := tx.Exec(ctx, s.sql.Get("OperationCancel"), o.ID); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql.Get("MachineNudge"), id); err != nil {
		return err
	}
	if _, err := s.auditAdd(ctx, tx, actor, "operation.cancel", string(id), map[string]string{"operation": o.ID}); err != nil {
		return err
	}
	return s.eventAdd(ctx, tx, id, machine.Event{
		Kind: machine.EventOperation, Text: fmt.Sprintf("%s asked to cancel %s", actor, o.Kind), Detail: map[string]string{"operation": o.ID},
	})
}

func noOperation(id string) error {
	return fault.New(fault.NotFound, "no operation %q: ingot operation list shows all", cut(id, 80))
}

// OperationGet reads an operation with its steps.
func (s *Store) OperationGet(ctx context.Context, id string) (machine.Operation, error) {
	list, err := s.operationLoad(ctx, s.pool, []string{id})
	if err != nil {
		return machine.Operation{}, wrap(err, "read operation %s", id)
	}
	if list[id] == nil {
		return machine.Operation{}, noOperation(id)
	}
	return *list[id], nil
}

// OperationList lists operations, the newest first; an empty id means those of
// all machines. The token is empty after the last page.
func (s *Store) OperationList(ctx context.Context, id machine.ID, size int, token string) ([]machine.Operation, string, error) {
	size = pageSize(size)
	ids, err := collect(ctx, s.pool, s.sql.Get("OperationList"), pgx.RowTo[string], id, cut(token, 80), size+1)
	if err != nil {
		return nil, "", wrap(err, "list operations")
	}
	next := ""
	if len(ids) > size {
		ids, next = ids[:size], ids[size-1]
	}
	byID, err := s.operationLoad(ctx, s.pool, ids)
	if err != nil {
		return nil, "", wrap(err, "list operations")
	}
	var list []machine.Operation
	for _, id := range ids {
		if byID[id] != nil {
			list = append(list, *byID[id])
		}
	}
	return list, next, nil
}

// operationUnderWay reads an operation that has not ended; nil when it has, or
// when id is empty.
func (s *Store) operationUnderWay(ctx context.Context, q querier, id string) (*machine.Operation, error) {
	if id == "" {
		return nil, nil
	}
	list, err := s.operationLoad(ctx, q, []string{id})
	if err != nil {
		return nil, wrap(err, "read operation %s", id)
	}
	if o := list[id]; o != nil && !o.State.Ended() {
		return o, nil
	}
	return nil, nil
}

// operationStop ends an operation and supersedes its orders, unless it has ended.
func (s *Store) operationStop(ctx context.Context, tx pgx.Tx, id string, state machine.OperationState, reason machine.Reason, detail string) error {
	if id == "" {
		return nil
	}
	if _, err := tx.Exec(ctx, s.sql.Get("OperationStop"), id, state, reason, cut(detail, 4000)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, s.sql.Get("OperationSupersedeOrders"), id)
	return err
}

func (s *Store) operationLoad(ctx context.Context, q querier, ids []string) (map[string]*machine.Operation, error) {
	byID := map[string]*machine.Operation{}
	if len(ids) == 0 {
		return byID, nil
	}
	list, err := collect(ctx, q, s.sql.Get("OperationByID"), s.scanOperation, ids)
	if err != nil {
		return nil, err
	}
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	_, err = collect(ctx, q, s.sql.Get("OperationSteps"), func(r pgx.CollectableRow) (struct{}, error) {
		var id string
		var step machine.StepRecord
		var finished *time.Time
		err := r.Scan(&id, &step.Name, &step.State, &step.Detail, &step.StartedAt, &finished)
		step.StartedAt, step.FinishedAt = step.StartedAt.UTC(), instant(finished)
		if o := byID[id]; o != nil {
			o.Steps = append(o.Steps, step)
		}
		return struct{}{}, err
	}, ids)
	if err != nil {
		return nil, err
	}
	_, err = collect(ctx, q, s.sql.Get("OperationDeployments"), func(r pgx.CollectableRow) (struct{}, error) {
		_, d, err := scanDeployment(r)
		if o := byID[d.OperationID]; o != nil {
			o.Deployed = &d
		}
		return struct{}{}, err
	}, ids)
	return byID, err
}

func (s *Store) scanOperation(r pgx.CollectableRow) (machine.Operation, error) {
	var o machine.Operation
	var sealed []byte
	var finished *time.Time
	err := r.Scan(&o.ID, &o.MachineID, &o.Kind, &o.State, &o.WishGeneration, &sealed, &o.Phase, &o.Reason, &o.Detail,
		&o.RequestID, &o.RequestedBy, &o.CancelAsked, &o.CreatedAt, &finished)
	if err != nil {
		return o, err
	}
	o.CreatedAt, o.FinishedAt = o.CreatedAt.UTC(), instant(finished)
	plain, err := s.open(sealed, wishPlace(o.ID))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(plain, &o.Wish)
}
