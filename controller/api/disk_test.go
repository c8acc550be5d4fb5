package api_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/operator"
)

// withData is a ready machine whose disk NVME1 was written by op-old, and which
// misses a disk LOST that its installed system could write to.
func (s *site) withData(n int) *operator.Machine {
	s.t.Helper()
	m := s.ready(n)
	for _, q := range []string{
		`INSERT INTO disk_data (identity, machine_id, found_in, serial, model, size_bytes, operation_id, written)
			SELECT identity, machine_id, machine_id, serial, model, size_bytes, 'op-old', true FROM disk WHERE machine_id = $1 AND serial = 'NVME1'`,
		`INSERT INTO disk_data (identity, machine_id, found_in, serial, model, operation_id, written)
			VALUES ('s LOST', $1, $1, 'LOST', 'Gone', 'op-old', false)`,
		`UPDATE machine SET state = 'broken' WHERE id = $1`,
	} {
		storetest.Exec(s.t, s.store, q, m.GetId())
	}
	return s.get(m.GetId())
}

func (s *site) get(id string) *operator.Machine {
	s.t.Helper()
	m, err := s.machines.MachineGet(s.t.Context(), &operator.MachineGetRequest{Machine: id})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// TestDiskDataIsShown: at each disk what it may hold, and the disks that are gone.
func TestDiskDataIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.withData(1)
	for _, d := range m.GetDisks() {
		got := d.GetHoldsData()
		if d.GetSerial() != "NVME1" {
			if got != nil {
				t.Errorf("disk %s holds %v, want nothing", d.GetSerial(), got)
			}
			continue
		}
		if got.GetOperationId() != "op-old" || got.GetMachineId() != m.GetId() || !got.GetWritten() || !got.GetSince().IsValid() {
			t.Errorf("disk NVME1 holds %v, want what op-old wrote in %s", got, m.GetId())
		}
	}
	lost := m.GetLostDisks()
	if len(lost) != 1 || lost[0].GetSerial() != "LOST" || lost[0].GetHoldsData().GetOperationId() != "op-old" || lost[0].GetHoldsData().GetWritten() {
		t.Errorf("lost disks %v, want LOST within reach of op-old", lost)
	}
}

// TestVouching: a person's word ends what a disk holds, at once and by name; for
// a disk that holds nothing it is refused.
func TestVouching(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.withData(1)
	if !strings.Contains(m.GetWarnings()[0].GetText(), "NVME1") {
		t.Errorf("warnings %v, want one of NVME1", m.GetWarnings())
	}
	for _, tc := range []struct {
		name  string
		disks []string
		code  codes.Code
		word  string
	}{
		{"clean disk", []string{"NVME1", "HDD1"}, codes.FailedPrecondition, "HDD1"},
		{"nameless", []string{""}, codes.InvalidArgument, "serial"},
		{"not printable", []string{"NVME1\n"}, codes.InvalidArgument, "disk"},
		{"many", make([]string, 257), codes.InvalidArgument, "256"},
	} {
		_, err := s.machines.MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: m.GetId(), VouchedDisks: tc.disks})
		wantRefusal(t, tc.name, err, tc.code, tc.word)
	}
	if got := s.get(m.GetId()); got.GetDisks()[1].GetHoldsData() == nil || len(got.GetLostDisks()) != 1 {
		t.Errorf("after refusals: disks %v, lost %v; want what was there", got.GetDisks(), got.GetLostDisks())
	}
	code, text := s.rest("POST", "/v1/machines/"+m.GetId()+":commission", s.token, map[string]any{"vouched_disks": []string{"LOST", "NVME1", "NVME1"}})
	if code != 200 {
		t.Fatalf("commission: %d %s", code, text)
	}
	got := s.get(m.GetId())
	for _, d := range got.GetDisks() {
		if d.GetHoldsData() != nil {
			t.Errorf("disk %s holds %v still", d.GetSerial(), d.GetHoldsData())
		}
	}
	if len(got.GetLostDisks()) != 0 {
		t.Errorf("lost disks %v, want none", got.GetLostDisks())
	}
	events, err := s.events.EventList(t.Context(), &operator.EventListRequest{Machine: m.GetId()})
	if err != nil || strings.Count(events.String(), "tester vouches") != 2 {
		t.Errorf("%v, %v; want two words of tester", events, err)
	}
}
