package writer

import (
	"fmt"
	"sync"
)

// mirror only carries its members to Write, which treats each by itself.
type mirror struct {
	Target
	members []Target
}

// Mirror makes one target for Write out of several: members of a RAID-1, or
// data disks that are to hold the same. A frame is fetched and decoded once and
// written to each; each is zeroed, flushed and read back by itself, and an error
// of one ends the write as a *TargetError that names it. With Resume or Reuse a
// frame is kept if it is right on all of them; of others, each gets only what it
// lacks. There is at least one target; for anything but Write, it is the first.
func Mirror(targets ...Target) Target {
	return &mirror{Target: targets[0], members: targets}
}

// TargetError says which target of a Mirror an error is about.
type TargetError struct {
	Index int    // in the order given to Mirror
	Path  string // of a Device; empty for other targets
	Err   error
}

func (e *TargetError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("target %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("target %d (%s): %v", e.Index, e.Path, e.Err)
}

func (e *TargetError) Unwrap() error { return e.Err }

// member is one target; alone says that there is no other.
type member struct {
	Target
	index int
	alone bool
}

func membersOf(t Target) []member {
	m, ok := t.(*mirror)
	if !ok {
		return []member{{Target: t, alone: true}}
	}
	members := make([]member, len(m.members))
	for i, target := range m.members {
		members[i] = member{Target: target, index: i, alone: len(m.members) == 1}
	}
	return members
}

// explain says which member an error is about, if there is a choice.
func (m member) explain(err error) error {
	if err == nil || m.alone {
		return err
	}
	e := &TargetError{Index: m.index, Err: err}
	if p, ok := m.Target.(interface{ Path() string }); ok {
		e.Path = p.Path()
	}
	return e
}

// each does the same to all members at once, and waits for all.
func (w *write) each(do func(member) error) error {
	if len(w.members) == 1 {
		return do(w.members[0])
	}
	errs := make([]error, len(w.members))
	var group sync.WaitGroup
	for i, m := range w.members {
		group.Go(func() { errs[i] = m.explain(do(m)) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
