package postgres

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The test binary is also the controller that is killed: see TestKilledParent.
func TestMain(m *testing.M) {
	if dir := os.Getenv("INGOT_POSTGRES_PARENT"); dir != "" {
		s, err := Start(context.Background(), Config{DataDir: dir})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(s.Pid())
		select {}
	}
	os.Exit(m.Run())
}

// passable is a temporary directory that another user can pass.
func passable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ingot-postgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustStart(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatalf("start (these tests need PostgreSQL: apt install postgresql): %v", err)
	}
	return s
}

func query(t *testing.T, s *Server, sql string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN(""))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var out string
	if strings.HasPrefix(sql, "SELECT") || strings.HasPrefix(sql, "SHOW") {
		err = conn.QueryRow(ctx, sql).Scan(&out)
	} else {
		_, err = conn.Exec(ctx, sql)
	}
	return out, err
}

func must(t *testing.T, s *Server, sql string) string {
	t.Helper()
	out, err := query(t, s, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func TestStartStopAgain(t *testing.T) {
	t.Parallel()
	dir := passable(t)
	s := mustStart(t, dir)
	must(t, s, "CREATE TABLE kept (v text)")
	must(t, s, "INSERT INTO kept VALUES ('still here')")
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "",
		"server_encoding": "UTF8", "lc_collate": "C", "data_checksums": "on"} {
		if got := must(t, s, "SHOW "+setting); got != want {
			t.Errorf("%s: got %q, want %q", setting, got, want)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop twice: %v", err)
	}
	s = mustStart(t, dir)
	defer s.Stop()
	if got := must(t, s, "SELECT v FROM kept"); got != "still here" {
		t.Errorf("got %q", got)
	}
}

// A server that dies is started again; what it had acknowledged is there.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	s := mustStart(t, passable(t))
	defer s.Stop()
	must(t, s, "CREATE TABLE kept (v text)")
	must(t, s, "INSERT INTO kept VALUES ('committed')")
	pid := s.Pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	limit := time.Now().Add(time.Minute)
	for s.Pid() == pid || s.Pid() == 0 {
		if time.Now().After(limit) {
			t.Fatal("the server was not started again")
		}
		time.Sleep(10 * time.Millisecond) // there is no signal of it
	}
	if got := must(t, s, "SELECT v FROM kept"); got != "committed" {
		t.Errorf("got %q", got)
	}
}

// kill -9 of the controller: the server shuts down cleanly by itself, and the
// next controller waits for that and goes on.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	dir := passable(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INGOT_POSTGRES_PARENT="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pid int
	if _, scanErr := fmt.Sscan(line, &pid); err != nil || scanErr != nil {
		t.Fatalf("the parent said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	s := mustStart(t, dir)
	defer s.Stop()
	if s.Pid() == pid {
		t.Error("the former server still runs")
	}
	control := filepath.Join(s.bin, "pg_controldata")
	state, err := exec.Command(control, s.dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(state), "in archive recovery") {
		t.Errorf("got %s", state)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	t.Run("another version's database", func(t *testing.T) {
		t.Parallel()
		dir := passable(t)
		db := filepath.Join(dir, "postgres")
		if err := os.Mkdir(db, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(db, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), Config{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "pg_upgrade") {
			t.Errorf("got %v, want to be told about pg_upgrade", err)
		}
		if text, _ := os.ReadFile(filepath.Join(db, "PG_VERSION")); string(text) != "9\n" {
			t.Error("the database was touched")
		}
	})
	t.Run("something else is in the way", func(t *testing.T) {
		t.Parallel()
		dir := passable(t)
		if err := os.MkdirAll(filepath.Join(dir, "postgres", "photos"), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "in the way") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a directory that its user cannot pass", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			return // then the server runs as ourselves and passes wherever we do
		}
		dir := passable(t)
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := Start(t.Context(), Config{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "chmod o+x "+dir) {
			t.Errorf("got %v", err)
		}
	})
}

// A path that is too long for a socket gets a short one.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(passable(t), strings.Repeat("long-", 20))
	s := mustStart(t, dir)
	socket := s.socket
	must(t, s, "SELECT 'yes'")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket's directory stayed: %v", err)
	}
}
