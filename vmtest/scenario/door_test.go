//go:build vm

package scenario

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ingot-metal/ingot/proto/agent"
	"github.com/ingot-metal/ingot/proto/operator"
	bmcmachine "github.com/ingot-metal/ingot/tools/bmcsim/machine"
	"github.com/ingot-metal/ingot/vmtest/lab"
)

// TestStranger powers on a machine that nobody added: it gets an agent and
// nothing else, until it is approved; then it goes its way with no second POST.
func TestStranger(t *testing.T) {
	r := newRig(t, "stranger")
	if err := r.Board().Do(bmcmachine.On, "hand"); err != nil {
		t.Fatal(err)
	}
	r.sees(0, `ingot machine approve ([a-z0-9]{6})`)
	m, err := machines().MachineGet(t.Context(), &operator.MachineGetRequest{Machine: r.MACs[0].String()})
	if err != nil {
		t.Fatal(err)
	}
	r.id = m.GetId()
	if m.GetApproved() || stateWord(m.GetState()) != "enrolled" {
		t.Fatalf("stranger: got %s, approved %v, want enrolled and not approved", m.GetState(), m.GetApproved())
	}
	_, err = machines().MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: r.id, Image: world.image})
	refusedWith(t, "deploy of a stranger", err, codes.FailedPrecondition, "approve")
	_, err = machines().MachinePower(t.Context(), &operator.MachinePowerRequest{Machine: r.id, Action: operator.PowerAction_POWER_ACTION_OFF})
	refusedWith(t, "power of a stranger", err, codes.FailedPrecondition, "approve")
	if _, err := machines().MachineApprove(t.Context(), &operator.MachineApproveRequest{Machine: r.id, Hostname: "stranger"}); err != nil {
		t.Fatal(err)
	}
	op, err := machines().MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: r.id})
	if err != nil {
		t.Fatal(err)
	}
	r.succeeds(op)
	r.is("ready")
	r.posts(1)
}

func refusedWith(t *testing.T, what string, err error, code codes.Code, words string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("%s: got %v, want %s with %q", what, err, code, words)
	}
}

// TestBadInput is refused at the door with a clear error.
func TestBadInput(t *testing.T) {
	r := newRig(t, "bios")
	r.ready()
	for _, tc := range []struct {
		name  string
		req   *operator.MachineDeployRequest
		code  codes.Code
		words string
	}{
		{"unknown image", &operator.MachineDeployRequest{Image: "no-such"}, codes.NotFound, "ingot image list"},
		{"wrong digest", &operator.MachineDeployRequest{Image: "sha256:" + strings.Repeat("0", 64)}, codes.NotFound, "ingot image list"},
		{"hostname with a newline", &operator.MachineDeployRequest{Image: world.image, Hostname: "web\n1"}, codes.InvalidArgument, "hostname"},
		{"user-data of 5 MB", &operator.MachineDeployRequest{Image: world.image, UserData: bytes.Repeat([]byte("x"), 5<<20)}, codes.InvalidArgument, "1 MiB"},
		{"unknown disk", &operator.MachineDeployRequest{Image: world.image, Disk: "nowhere"}, codes.InvalidArgument, "nowhere"},
	} {
		tc.req.Machine = r.id
		_, err := machines().MachineDeploy(t.Context(), tc.req)
		refusedWith(t, tc.name, err, tc.code, tc.words)
	}
	large := filepath.Join(t.TempDir(), "large.raw")
	if err := os.WriteFile(large, []byte("not empty"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 600*mib); err != nil {
		t.Fatal(err)
	}
	image, err := importImage(t.Context(), "large", large)
	if err != nil {
		t.Fatal(err)
	}
	_, err = machines().MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: r.id, Image: image.GetDigest()})
	refusedWith(t, "image larger than the disk", err, codes.FailedPrecondition, "needs")
	r.is("ready")
}

// TestDisklessAndWrongPassword end with named causes.
func TestDisklessAndWrongPassword(t *testing.T) {
	r := newRig(t, "diskless")
	m, err := machines().MachineAdd(t.Context(), &operator.MachineAddRequest{
		Hostname: "diskless", Macs: []string{r.MACs[0].String()}, Commission: true,
		Bmc: &operator.BMCAccess{Url: r.BMCURL, User: lab.BMCUser, Password: "wrong"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.id = m.GetId()
	r.fails(&operator.Operation{Id: m.GetOperationId()}, "bmc_wrong_password")
	if _, err := machines().BMCSet(t.Context(), &operator.BMCSetRequest{Machine: r.id, Access: &operator.BMCAccess{Url: r.BMCURL, User: lab.BMCUser, Password: lab.BMCPassword}}); err != nil {
		t.Fatal(err)
	}
	op, err := machines().MachineCommission(t.Context(), &operator.MachineCommissionRequest{Machine: r.id})
	if err != nil {
		t.Fatal(err)
	}
	r.succeeds(op)
	_, err = machines().MachineDeploy(t.Context(), &operator.MachineDeployRequest{Machine: r.id, Image: world.image})
	refusedWith(t, "deploy to a machine without disks", err, codes.FailedPrecondition, "no disk")
}

// TestNonce claims a boot session as an intruder would.
func TestNonce(t *testing.T) {
	const mac = "00:16:3e:aa:bb:01"
	nonce, caSum := bootScript(t, mac)
	conn := dialAgents(t)
	key := certificateRequest(t)
	first := enrol(t, conn, nonce, mac, key)
	if first.err != nil {
		t.Fatalf("first claim: %v (CA %s)", first.err, caSum)
	}
	if again := enrol(t, conn, nonce, mac, key); again.err != nil || again.id != first.id || again.boot != first.boot {
		t.Errorf("the same key again: got %+v, want %+v", again, first)
	}
	if other := enrol(t, conn, nonce, mac, certificateRequest(t)); status.Code(other.err) != codes.PermissionDenied {
		t.Errorf("another key: got %v, want PermissionDenied", other.err)
	}
	m, err := machines().MachineGet(t.Context(), &operator.MachineGetRequest{Machine: first.id})
	if err != nil {
		t.Fatal(err)
	}
	if stateWord(m.GetState()) != "broken" || m.GetReason() != "nonce_claimed_with_another_key" {
		t.Errorf("machine: got %s, %s, want broken by the second key", m.GetState(), m.GetReason())
	}
	fresh, _ := bootScript(t, "00:16:3e:aa:bb:02")
	if r := enrol(t, conn, fresh, "00:16:3e:aa:bb:03", certificateRequest(t)); status.Code(r.err) != codes.PermissionDenied {
		t.Errorf("a nonce of another MAC: got %v, want PermissionDenied", r.err)
	}
	if r := enrol(t, conn, strings.Repeat("A", 32), mac, certificateRequest(t)); status.Code(r.err) != codes.PermissionDenied {
		t.Errorf("an invented nonce: got %v, want PermissionDenied", r.err)
	}
}

// bootScript fetches a boot script as iPXE does and reads what is in it.
func bootScript(t *testing.T, mac string) (nonce, ca string) {
	t.Helper()
	answer, err := http.Get(fmt.Sprintf("http://%s:8080/boot/script?mac=%s&arch=x86_64&platform=efi", world.lab.LAN().Addr().Addr(), mac))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	n := regexp.MustCompile(`ingot\.nonce=(\S+)`).FindSubmatch(text)
	c := regexp.MustCompile(`ingot\.ca=(\S+)`).FindSubmatch(text)
	if n == nil || c == nil {
		t.Fatalf("boot script without nonce or CA:\n%s", text)
	}
	return string(n[1]), string(c[1])
}

func dialAgents(t *testing.T) *grpc.ClientConn {
	t.Helper()
	pem, err := os.ReadFile(world.lab.Controller().CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := grpc.NewClient(world.lab.LAN().Addr().Addr().String()+":8444", grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func certificateRequest(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

type claim struct {
	id   string
	boot uint64
	err  error
}

func enrol(t *testing.T, conn *grpc.ClientConn, nonce, mac string, request []byte) claim {
	t.Helper()
	r, err := agent.NewAgentServiceClient(conn).Enrol(t.Context(), &agent.EnrolRequest{
		Nonce: nonce, CertificateRequest: request, BootMac: mac, Nics: []*agent.NICIdentity{{PermanentMac: mac}}, Protocol: 2, BootId: "b",
	})
	return claim{r.GetMachineId(), r.GetBootGeneration(), err}
}
