package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ingot-metal/ingot/controller/api"
	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/controller/power/ipmi"
	"github.com/ingot-metal/ingot/controller/power/manual"
	"github.com/ingot-metal/ingot/controller/power/redfish"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/operator"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// site is a whole API on a real database, over real TLS.
type site struct {
	t      *testing.T
	store  *store.Store
	dir    string // of its images
	board  *event.Board
	base   string
	token  string
	roots  *x509.CertPool
	client *http.Client

	machines   operator.MachineServiceClient
	operations operator.OperationServiceClient
	images     operator.ImageServiceClient
	events     operator.EventServiceClient
}

func newSite(t *testing.T) *site {
	t.Helper()
	st := storetest.New(t)
	token, err := st.TokenBootstrap(t.Context(), "tester")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	images, err := image.Open(dir, image.Options{MinFreeBytes: 1, Download: download.Options{
		Policy: download.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, Pause: time.Millisecond, Tries: 2,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { images.Close() })
	opener, err := power.NewOpener(power.Factories{"ipmi": ipmi.New, "redfish": redfish.New, "manual": manual.New}, power.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &site{t: t, dir: dir, store: st, board: event.NewBoard(), token: token.Reveal(), roots: x509.NewCertPool()}
	server, err := api.New(api.Config{
		Store: st, Images: images, Board: s.board, ControllerID: "c-test", Log: log,
		Open:    func(ctx context.Context, a power.Access) (power.Driver, error) { return opener.Open(ctx, a, log) },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics\n") }),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(server)
	conn := s.dial(s.token)
	s.machines, s.operations = operator.NewMachineServiceClient(conn), operator.NewOperationServiceClient(conn)
	s.images, s.events = operator.NewImageServiceClient(conn), operator.NewEventServiceClient(conn)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: true}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func (s *site) serve(server *api.Server) {
	der, key, err := auth.NewAuthority(time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	authority, err := auth.OpenAuthority(der, key)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := authority.ServerCertificate(time.Now(), []string{"127.0.0.1"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.roots.AddCert(authority.Certificate)
	line, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.base = "https://" + line.Addr().String()
	web := &http.Server{Handler: server.Handler(), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	go func() { ended <- web.ServeTLS(line, "", "") }()
	s.t.Cleanup(func() {
		cancel()
		web.Close()
		<-ended
		<-ended
		server.Close()
	})
}

func (s *site) dial(token string) *grpc.ClientConn {
	conn, err := grpc.NewClient(strings.TrimPrefix(s.base, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: s.roots})), grpc.WithPerRPCCredentials(bearer(token)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if b == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// soon is a context for what has to come by itself.
func (s *site) soon() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// rest asks over REST; a body that is not nil is sent as JSON.
func (s *site) rest(method, path, token string, body any) (code int, answer string) {
	s.t.Helper()
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(s.soon(), method, s.base+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	got, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return got.StatusCode, string(text)
}

// add makes a machine known; ready also gives it two disks and state ready, as a
// commission would.
func (s *site) add(n int) *operator.Machine {
	s.t.Helper()
	m, err := s.machines.MachineAdd(s.t.Context(), &operator.MachineAddRequest{
		Hostname: fmt.Sprintf("m%d", n), Macs: []string{fmt.Sprintf("52:54:00:00:00:%02x", n)},
		Bmc: &operator.BMCAccess{Url: fmt.Sprintf("ipmi://127.0.0.1:%d", 10000+n), User: "admin", Password: bmcPassword},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

const bmcPassword = "bmc-password-of-the-test"

func (s *site) ready(n int) *operator.Machine {
	s.t.Helper()
	m := s.add(n)
	storetest.Exec(s.t, s.store, `UPDATE machine SET state = 'ready' WHERE id = $1`, m.GetId())
	for _, d := range []struct {
		name, kind, serial string
		size               int64
	}{{"sda", "hdd", "HDD1", 64 << 30}, {"nvme0n1", "nvme", "NVME1", 32 << 30}} {
		storetest.Exec(s.t, s.store, `INSERT INTO disk (machine_id, name, serial, kind, size_bytes, sector_bytes) VALUES ($1, $2, $3, $4, $5, 512)`,
			m.GetId(), d.name, d.serial, d.kind, d.size)
	}
	return m
}

// imported puts an image of so many MiB into service, through the API.
func (s *site) imported(h *operator.ImageHeader, data []byte) (*operator.Image, error) {
	s.t.Helper()
	stream, err := s.images.ImageImport(s.soon())
	if err != nil {
		s.t.Fatal(err)
	}
	send := func(r *operator.ImageImportRequest) bool { return stream.Send(r) == nil }
	ok := send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Header{Header: h}})
	for len(data) > 0 && ok {
		n := min(len(data), 1<<20)
		ok = send(&operator.ImageImportRequest{Part: &operator.ImageImportRequest_Data{Data: data[:n]}})
		data = data[n:]
	}
	return stream.CloseAndRecv()
}

func (s *site) image(name string) *operator.Image {
	s.t.Helper()
	img, err := s.imported(&operator.ImageHeader{Name: name, Architecture: "amd64", Format: "raw"}, bytes.Repeat([]byte(name+"\x00"), 512*1024))
	if err != nil {
		s.t.Fatal(err)
	}
	return img
}
