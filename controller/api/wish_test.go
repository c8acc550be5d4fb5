package api_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/operator"
)

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f someone@somewhere"

// wantRefusal compares an error's code and looks for words in it.
func wantRefusal(t *testing.T, what string, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %s", what, err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(status.Convert(err).Message(), w) {
			t.Errorf("%s: %q does not mention %q", what, status.Convert(err).Message(), w)
		}
	}
}

func TestDeployRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.ready(1)
	s.image("small")
	raw := s.add(2)
	for _, tc := range []struct {
		name  string
		r     *operator.MachineDeployRequest
		code  codes.Code
		words []string
	}{
		{"no machine", &operator.MachineDeployRequest{Image: "small"}, codes.InvalidArgument, []string{"id, hostname or MAC"}},
		{"unknown machine", &operator.MachineDeployRequest{Machine: "nobody", Image: "small"}, codes.NotFound, []string{"ingot machine list"}},
		{"not commissioned", &operator.MachineDeployRequest{Machine: raw.GetId(), Image: "small"}, codes.FailedPrecondition, []string{"ingot machine commission"}},
		{"unknown image", &operator.MachineDeployRequest{Machine: "m1", Image: "nothing"}, codes.NotFound, []string{"ingot image list"}},
		{"no image", &operator.MachineDeployRequest{Machine: "m1"}, codes.InvalidArgument, []string{"ingot image list"}},
		{"unknown disk", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Disk: "X"}, codes.InvalidArgument, []string{"HDD1", "NVME1"}},
		{"newline in hostname", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Hostname: "web\n"}, codes.InvalidArgument, []string{"RFC 1123"}},
		{"long hostname", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Hostname: strings.Repeat("a", 64)}, codes.InvalidArgument, []string{"63"}},
		{"user-data of 5 MB", &operator.MachineDeployRequest{Machine: "m1", Image: "small", UserData: make([]byte, 5_000_000)}, codes.InvalidArgument, []string{"1 MiB", "5000000"}},
		{"bad key", &operator.MachineDeployRequest{Machine: "m1", Image: "small", SshKeys: []string{"ssh-rsa x"}}, codes.InvalidArgument, []string{"key 1"}},
		{"key with command", &operator.MachineDeployRequest{Machine: "m1", Image: "small", SshKeys: []string{sshKey, `command="sh" ` + sshKey}}, codes.InvalidArgument, []string{"key 2", "options"}},
		{"two keys in one", &operator.MachineDeployRequest{Machine: "m1", Image: "small", SshKeys: []string{sshKey + "\n" + sshKey}}, codes.InvalidArgument, []string{"more than one line"}},
		{"many keys", &operator.MachineDeployRequest{Machine: "m1", Image: "small", SshKeys: make([]string, 101)}, codes.InvalidArgument, []string{"100"}},
		{"kexec word", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Kexec: "perhaps"}, codes.InvalidArgument, []string{"auto"}},
		{"proof word", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Proof: "perhaps"}, codes.InvalidArgument, []string{"report"}},
		{"then word", &operator.MachineDeployRequest{Machine: "m1", Image: "small", Then: "perhaps"}, codes.InvalidArgument, []string{"stop"}},
	} {
		_, err := s.machines.MachineDeploy(t.Context(), tc.r)
		wantRefusal(t, tc.name, err, tc.code, tc.words...)
	}
	storetest.Exec(t, s.store, `UPDATE disk SET size_bytes = 67108864 WHERE machine_id = $1`, m.GetId())
	storetest.Exec(t, s.store, `UPDATE image SET size_bytes = 1073741824`)
	_, err := s.machines.MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: "m1", Image: "small"})
	wantRefusal(t, "image larger than every disk", err, codes.FailedPrecondition, "1073741824", "NVME1")
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.ready(1)
	img := s.image("small")
	request := &operator.MachineDeployRequest{
		Machine: "52:54:00:00:00:01", Image: img.GetDigest(), UserData: []byte("secret user data"), SshKeys: []string{sshKey}, RequestId: "once",
	}
	op, err := s.machines.MachineDeploy(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.machines.MachineDeploy(t.Context(), request)
	if err != nil || again.GetId() != op.GetId() {
		t.Errorf("the same request id gave %s (%v), want %s", again.GetId(), err, op.GetId())
	}
	request.RequestId = "another"
	_, err = s.machines.MachineDeploy(t.Context(), request)
	wantRefusal(t, "a second deploy", err, codes.FailedPrecondition, op.GetId())
	kept, err := s.store.OperationGet(t.Context(), op.GetId())
	if err != nil {
		t.Fatal(err)
	}
	w := kept.Wish.Deploy
	if w == nil || w.Disk != "NVME1" || w.Hostname != "m1" || w.Proof != machine.ProofReport || len(w.ReportToken) != 64 || w.InstanceID == "" || string(w.UserData) != "secret user data" {
		t.Errorf("wish kept: %+v", w)
	}
	if kept.RequestedBy != "tester" {
		t.Errorf("requested by %q, want tester", kept.RequestedBy)
	}
	_, err = s.images.ImageDelete(t.Context(), &operator.ImageDeleteRequest{Image: "small"})
	wantRefusal(t, "delete an image in use", err, codes.FailedPrecondition, m.GetId())
	s.wantNoSecret(w.ReportToken, "secret user data", "c2VjcmV0IHVzZXIgZGF0YQ", bmcPassword)
}

// wantNoSecret looks at everything that the API can be asked for.
func (s *site) wantNoSecret(secrets ...string) {
	s.t.Helper()
	for _, path := range []string{
		"/v1/machines", "/v1/machines/m1", "/v1/operations", "/v1/events", "/v1/events?machine=m1", "/v1/images", "/v1/leases", "/healthz", "/metrics",
	} {
		code, text := s.rest("GET", path, s.token, nil)
		if code != 200 {
			s.t.Errorf("GET %s: %d %s", path, code, text)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				s.t.Errorf("GET %s shows the secret %q", path, secret)
			}
		}
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.ready(1)
	storetest.Exec(t, s.store, `UPDATE machine SET state = 'deployed' WHERE id = $1`, m.GetId())
	_, err := s.machines.MachineRelease(t.Context(), &operator.MachineReleaseRequest{Machine: "m1"})
	wantRefusal(t, "without erase", err, codes.InvalidArgument, "HDD1", "NVME1", "--erase")
	_, err = s.machines.MachineRelease(t.Context(), &operator.MachineReleaseRequest{Machine: "m1", Erase: true, DiskSerials: []string{"NVME1"}})
	wantRefusal(t, "not all disks named", err, codes.FailedPrecondition, "HDD1")
	plan, err := s.machines.MachineRelease(t.Context(), &operator.MachineReleaseRequest{Machine: "m1", DryRun: true})
	if err != nil || plan.GetState() != "planned" || len(plan.GetDisks()) != 2 || plan.GetId() != "" {
		t.Errorf("dry run: %v, %v", plan, err)
	}
	list, err := s.operations.OperationList(t.Context(), &operator.OperationListRequest{Machine: "m1"})
	if err != nil || len(list.GetOperations()) != 0 {
		t.Errorf("a dry run left %v, %v", list, err)
	}
	op, err := s.machines.MachineRelease(t.Context(), &operator.MachineReleaseRequest{Machine: "m1", Erase: true, DiskSerials: []string{"NVME1", "HDD1"}})
	if err != nil || op.GetKind() != "release" {
		t.Errorf("release: %v, %v", op, err)
	}
}

func TestOperationWatchEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	m := s.add(1)
	op, err := s.machines.MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: "m1"})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := s.operations.OperationWatch(s.soon(), &operator.OperationGetRequest{Operation: op.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	first, err := watch.Recv()
	if err != nil || first.GetState() != "pending" {
		t.Fatalf("first: %v, %v", first, err)
	}
	s.board.Put(machine.ID(m.GetId()), event.Progress{Phase: "write", DoneBytes: 5, TotalBytes: 10, At: op.GetCreatedAt().AsTime()})
	second, err := watch.Recv()
	if err != nil || second.GetProgress().GetDoneBytes() != 5 || second.GetPhase() != "write" {
		t.Fatalf("second: %v, %v", second, err)
	}
	storetest.Exec(t, s.store, `UPDATE operation SET state = 'failed', reason = 'no_bmc', finished_at = now() WHERE id = $1`, op.GetId())
	last, err := watch.Recv()
	if err != nil || last.GetState() != "failed" || last.GetProgress() != nil || !strings.Contains(last.GetNextStep(), "ingot bmc set "+m.GetId()) {
		t.Fatalf("last: %v, %v", last, err)
	}
	if extra, err := watch.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after its end: %v, %v, want EOF", extra, err)
	}
	text, err := protojson.Marshal(last)
	if err != nil || bytes.Contains(text, []byte(" ID")) {
		t.Errorf("%s holds a placeholder (%v)", text, err)
	}
}
