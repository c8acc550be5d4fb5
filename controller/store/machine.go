package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
)

// MachineFilter narrows a list; zero values do not.
type MachineFilter struct {
	State     machine.State
	Approved  *bool
	ProjectID int64
	Hostname  string // * stands for any letters
	Pool      string
	MAC       net.HardwareAddr
	// PageSize is at most 500; 0 means 100. PageToken is what the last page
	// returned, empty for the first one.
	PageSize  int
	PageToken string
}

// NewMachine is what an operator says about a machine before it is seen.
type NewMachine struct {
	Hostname     string // empty: made from the id
	Architecture string // empty: amd64
	UUID         string
	MACs         []net.HardwareAddr
	BMC          *BMCAccess
	Pool         string // empty: machine.DefaultPool
}

// BMCAccess is how a BMC is reached, with the password.
type BMCAccess struct {
	URL               string
	User              string
	Password          seal.Secret
	CertificateSHA256 string
}

// MachineGet finds a machine by id, hostname or MAC. A word that fits several
// machines (a repeated, locally administered MAC) is fault.Invalid.
func (s *Store) MachineGet(ctx context.Context, word string) (machine.Machine, error) {
	id, err := s.machineFind(ctx, word)
	if err != nil {
		return machine.Machine{}, err
	}
	list, err := s.machineLoad(ctx, s.pool, []string{string(id)})
	if err != nil {
		return machine.Machine{}, wrap(err, "read machine %s", id)
	}
	if len(list) == 0 {
		return machine.Machine{}, noMachine(word)
	}
	return list[0].Machine, nil
}

func noMachine(word string) error {
	return fault.New(fault.NotFound, "no machine %q: ingot machine list shows all", cut(word, 80))
}

// machineFind resolves what a person or a client calls a machine.
func (s *Store) machineFind(ctx context.Context, word string) (machine.ID, error) {
	mac, err := net.ParseMAC(word)
	if err != nil {
		mac = net.HardwareAddr{}
	}
	rows, err := s.pool.Query(ctx, s.sql.Get("MachineFind"), cut(strings.ToLower(word), 80), []byte(mac))
	if err != nil {
		return "", wrap(err, "look for machine %q", word)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return "", wrap(err, "look for machine %q", word)
	case len(ids) == 0:
		return "", noMachine(word)
	case len(ids) > 1:
		return "", fault.New(fault.Invalid, "%q fits more than one machine (%s …): use an id", cut(word, 80), strings.Join(ids, ", "))
	}
	return machine.ID(ids[0]), nil
}

// MachineList lists machines by id. The token is empty after the last page.
func (s *Store) MachineList(ctx context.Context, f MachineFilter) (list []machine.Machine, next string, err error) {
	size := pageSize(f.PageSize)
	rows, err := s.pool.Query(ctx, s.sql.Get("MachineList"), cut(f.PageToken, 6), f.State, f.Approved, f.ProjectID,
		pattern(f.Hostname), []byte(f.MAC), size+1, f.Pool)
	if err != nil {
		return nil, "", wrap(err, "list machines")
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, "", wrap(err, "list machines")
	}
	if len(ids) > size {
		ids, next = ids[:size], ids[size-1]
	}
	loaded, err := s.machineLoad(ctx, s.pool, ids)
	if err != nil {
		return nil, "", wrap(err, "list machines")
	}
	for _, l := range loaded {
		list = append(list, l.Machine)
	}
	return list, next, nil
}

// pattern turns the * of a person into SQL's %.
func pattern(word string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`, "*", "%").Replace(cut(strings.ToLower(word), 200))
}

func pageSize(asked int) int {
	if asked <= 0 {
		return 100
	}
	return min(asked, 500)
}

// MachineAdd makes a machine known before it is first powered on; it counts as
// approved. A MAC, UUID, hostname or BMC that another machine has is
// fault.Exists.
func (s *Store) MachineAdd(ctx context.Context, n NewMachine, actor string) (machine.Machine, error) {
	uuid, err := parseUUID(n.UUID)
	if err != nil {
		return machine.Machine{}, err
	}
	if len(n.MACs) == 0 && uuid == nil {
		return machine.Machine{}, fault.New(fault.Invalid, "a machine is recognised by its MAC or UUID: give at least one")
	}
	if n.Architecture == "" {
		n.Architecture = "amd64"
	}
	var id machine.ID
	err = s.tx(ctx, "add a machine", func(tx pgx.Tx) error {
		id = newMachineID()
		host, err := hostname(n.Hostname, id)
		if err != nil {
			return err
		}
		if n.Pool == "" {
			n.Pool = machine.DefaultPool
		}
		if err := s.poolThere(ctx, tx, n.Pool); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.Get("MachineInsert"), id, host, true, uuid, n.Architecture, n.Pool); err != nil {
			return exists(err, "hostname %q is taken by another machine", host)
		}
		for _, mac := range n.MACs {
			if err := s.nicDeclare(ctx, tx, id, mac); err != nil {
				return err
			}
		}
		if n.BMC != nil {
			if err := s.bmcSet(ctx, tx, id, *n.BMC); err != nil {
				return err
			}
		}
		if _, err := s.auditAdd(ctx, tx, actor, "machine.add", string(id), nil); err != nil {
			return err
		}
		return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAudit, Text: "added by " + actor})
	})
	if err != nil {
		return machine.Machine{}, err
	}
	s.changed()
	return s.MachineGet(ctx, string(id))
}

func (s *Store) nicDeclare(ctx context.Context, tx pgx.Tx, id machine.ID, mac net.HardwareAddr) error {
	if len(mac) < 6 || len(mac) > 20 || mac[0]&1 != 0 {
		return fault.New(fault.Invalid, "%q is not the address of a network interface", mac)
	}
	var twice bool
	if err := tx.QueryRow(ctx, s.sql.Get("NICKnown"), []byte(mac), id).Scan(&twice); err != nil {
		return err
	}
	if twice {
		return fault.New(fault.Exists, "MAC %s belongs to another machine: ingot machine show %s", mac, mac)
	}
	_, err := tx.Exec(ctx, s.sql.Get("NICDeclare"), id, []byte(mac), sixBytes(mac), local(mac))
	return exists(err, "MAC %s belongs to another machine: ingot machine show %s", mac, mac)
}

// local reports whether an address is locally administered (IEEE 802, bit 1 of
// the first byte). Only 6-byte addresses have that bit.
func local(mac net.HardwareAddr) bool { return len(mac) == 6 && mac[0]&2 != 0 }

// sixBytes is the address for a macaddr column, nil when it is not one.
func sixBytes(mac net.HardwareAddr) net.HardwareAddr {
	if len(mac) != 6 {
		return nil
	}
	return mac
}

// MachineApprove lets a machine be used; a hostname that is not empty is given
// to it. Approving twice is no error.
func (s *Store) MachineApprove(ctx context.Context, id machine.ID, newName, actor string) (machine.Machine, error) {
	err := s.tx(ctx, "approve machine "+string(id), func(tx pgx.Tx) error {
		m, err := s.machineLock(ctx, tx, id)
		if err != nil {
			return err
		}
		name := ""
		if newName != "" {
			if name, err = hostname(newName, id); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, s.sql.Get("MachineApprove"), id, name); err != nil {
			return exists(err, "hostname %q is taken by another machine", name)
		}
		if _, err := s.auditAdd(ctx, tx, actor, "machine.approve", string(id), map[string]string{"hostname": name}); err != nil {
			return err
		}
		if m.approved {
			return nil
		}
		return s.eventAdd(ctx, tx, id, machine.Event{Kind: machine.EventAudit, Text: "approved by " + actor})
	})
	if err != nil {
		return machine.Machine{}, err
	}
	s.changed(id)
	return s.MachineGet(ctx, string(id))
}

// MachineNudge makes the engine look at the machine soon. A machine that is not
// there is no error.
func (s *Store) MachineNudge(ctx context.Context, id machine.ID) error {
	if _, err := s.pool.Exec(ctx, s.sql.Get("MachineNudge"), id); err != nil {
		return wrap(err, "nudge machine %s", id)
	}
	s.changed()
	return nil
}

// row is what a transaction needs of a machine that it holds locked.
type row struct {
	id                             machine.ID
	approved                       bool
	state                          machine.State
	outcome                        machine.Outcome
	reason                         machine.Reason
	detail                         string
	deadline                       *time.Time
	wishGeneration, bootGeneration uint64
	leaseToken                     uint64
	leaseHolder                    string
	operationID                    string
	reportSequence                 uint64
	bootID, uuid, serial           string
	siteID                         int64
	hostname                       string
	stream                         uint64
	controller                     string
}

// machineLock takes the machine's row lock, which every writer of a machine
// takes first. fault.NotFound when it is gone.
func (s *Store) machineLock(ctx context.Context, tx pgx.Tx, id machine.ID) (row, error) {
	var m row
	err := tx.QueryRow(ctx, s.sql.Get("MachineLock"), id).Scan(&m.id, &m.approved, &m.state, &m.outcome, &m.reason, &m.detail,
		&m.deadline, &m.wishGeneration, &m.bootGeneration, &m.leaseToken, &m.leaseHolder, &m.operationID, &m.reportSequence,
		&m.bootID, &m.uuid, &m.serial, &m.siteID, &m.hostname, &m.stream, &m.controller)
	if err == pgx.ErrNoRows {
		return m, noMachine(string(id))
	}
	return m, err
}

// warningsMost bounds what is kept of one machine's warnings.
const warningsMost = 32

// warningsAdd adds warnings that the machine does not have yet; the oldest go
// when there are too many. The machine must be locked.
func (s *Store) warningsAdd(ctx context.Context, tx pgx.Tx, id machine.ID, more []machine.Warning) error {
	if len(more) == 0 {
		return nil
	}
	var text []byte
	if err := tx.QueryRow(ctx, s.sql.Get("MachineWarnings"), id).Scan(&text); err != nil {
		return err
	}
	var has []machine.Warning
	if err := json.Unmarshal(text, &has); err != nil {
		return fmt.Errorf("read warnings of machine %s: %w", id, err)
	}
	seen := map[machine.Warning]bool{}
	for _, w := range has {
		seen[w] = true
	}
	for _, w := range more {
		w.Code, w.Text = cut(w.Code, 100), cut(w.Text, 1000)
		if !seen[w] {
			seen[w] = true
			has = append(has, w)
		}
	}
	return s.warningsSet(ctx, tx, id, has[max(0, len(has)-warningsMost):])
}

func (s *Store) warningsSet(ctx context.Context, tx pgx.Tx, id machine.ID, all []machine.Warning) error {
	if all == nil {
		all = []machine.Warning{}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql.Get("MachineWarningsSet"), id, text)
	return err
}

// exists turns a broken unique constraint into a sentence.
func exists(err error, format string, args ...any) error {
	if err != nil && fault.Is(wrap(err, ""), fault.Exists) {
		return fault.New(fault.Exists, format, args...)
	}
	return err
}

var validHostname = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// hostname checks a wanted name (RFC 1123 section 2.1, one label), or makes one.
func hostname(wanted string, id machine.ID) (string, error) {
	if wanted == "" {
		return "machine-" + string(id), nil
	}
	name := strings.ToLower(wanted)
	if !validHostname.MatchString(name) {
		return "", fault.New(fault.Invalid, "hostname %q: want at most 63 letters, digits and hyphens", cut(wanted, 80))
	}
	return name, nil
}

const idLetters = "abcdefghijkmnpqrstuvwxyz23456789" // 32, none like another

// newMachineID has 30 random bits; a clash is refused by the primary key.
func newMachineID() machine.ID { return machine.ID(randomWord(6)) }

func randomWord(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = idLetters[b[i]%byte(len(idLetters))]
	}
	return string(b)
}
