// Package storetest gives tests a real database each: one private PostgreSQL a
// test binary (without fsync, in a temporary directory), a template with the
// migrations applied, and a copy of it for every call of New.
//
// A package that calls Main from its TestMain leaves nothing behind; without it
// the server ends with the process and the next test binary removes its files.
package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/postgres"
	"github.com/ingot-metal/ingot/controller/store/queries"
	"github.com/ingot-metal/ingot/controller/store/seal"
)

const template = "ingot_template"

// shared is the one server of a test binary. It has to be known to all tests of
// the process, and nothing but the process itself can hold it.
var shared struct {
	once   sync.Once
	server *postgres.Server
	dir    string
	err    error

	mu    sync.Mutex
	count int
	dsn   map[*store.Store]string
}

// Main runs the tests, stops the server and removes its files: os.Exit(storetest.Main(m)).
func Main(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the tests' PostgreSQL:", err)
		}
		os.RemoveAll(shared.dir)
	}
	return code
}

// New opens a store on a fresh database, and closes it when the test ends.
func New(t testing.TB) *store.Store {
	t.Helper()
	return Again(t, Database(t))
}

// Again opens one more store, as another controller would, on a database.
func Again(t testing.TB, dsn string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dsn, Keyring(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("open a test database: %v", err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.dsn == nil {
		shared.dsn = map[*store.Store]string{}
	}
	shared.dsn[s] = dsn
	t.Cleanup(s.Close)
	return s
}

// Database makes a fresh database and says how to connect to it.
func Database(t testing.TB) string {
	t.Helper()
	return database(t, template)
}

// Empty makes a database without our schema.
func Empty(t testing.TB) string {
	t.Helper()
	return database(t, "template1")
}

func database(t testing.TB, from string) string {
	t.Helper()
	server := start(t)
	shared.mu.Lock()
	shared.count++
	name := fmt.Sprintf("test_%d", shared.count)
	shared.mu.Unlock()
	admin(t, "CREATE DATABASE "+name+" TEMPLATE "+from)
	t.Cleanup(func() { admin(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return server.DSN(name)
}

// DSN says how to connect to a store's database.
func DSN(s *store.Store) string {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.dsn[s]
}

// Keyring is that of all test stores.
func Keyring() seal.Keyring {
	key := sha256.Sum256([]byte("a key for tests"))
	ring, err := seal.New(key[:])
	if err != nil {
		panic(err)
	}
	return ring
}

// ClockHold stops the database's clock at a time; call it again to move it.
func ClockHold(t testing.TB, s *store.Store, at time.Time) {
	t.Helper()
	Exec(t, s, queries.Load().Get("ClockHold"), at)
}

// Exec runs a statement on a store's database, over a connection of its own.
func Exec(t testing.TB, s *store.Store, sql string, args ...any) {
	t.Helper()
	conn := connect(t, DSN(s))
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Row reads one row of a store's database into dest.
func Row(t testing.TB, s *store.Store, sql string, args []any, dest ...any) {
	t.Helper()
	conn := connect(t, DSN(s))
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(dest...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatalf("connect to a test database: %v", err)
	}
	return conn
}

func admin(t testing.TB, sql string) {
	t.Helper()
	conn := connect(t, shared.server.DSN("postgres"))
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func start(t testing.TB) *postgres.Server {
	t.Helper()
	shared.once.Do(func() { shared.err = startServer() })
	if shared.err != nil {
		t.Fatalf("these tests need PostgreSQL's server (apt install postgresql): %v", shared.err)
	}
	return shared.server
}

func startServer() error {
	removeStale()
	dir, err := os.MkdirTemp("", fmt.Sprintf("ingot-storetest-%d-", os.Getpid()))
	if err != nil {
		return err
	}
	// The server may run as another user, who must be able to pass.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	shared.dir = dir
	shared.server, err = postgres.Start(context.Background(), postgres.Config{DataDir: dir, Unsafe: true})
	if err != nil {
		return err
	}
	return makeTemplate()
}

func makeTemplate() error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, shared.server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	s, err := store.Open(ctx, shared.server.DSN(template), Keyring(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	s.Close()
	return nil
}

// removeStale removes what test binaries left that did not call Main.
func removeStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "ingot-storetest-*"))
	if err != nil {
		return
	}
	for _, d := range dirs {
		parts := strings.Split(filepath.Base(d), "-")
		pid, err := strconv.Atoi(parts[2])
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH && !serving(d) {
			os.RemoveAll(d)
		}
	}
}

// serving reports whether a server is still shutting down in the directory.
func serving(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	return err == nil && syscall.Kill(pid, 0) == nil
}
