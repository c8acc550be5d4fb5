package store_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/controller/store/storetest"
)

// Controllers that start together on an empty database all get the schema.
func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	dsn := storetest.Empty(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := store.Open(t.Context(), dsn, storetest.Keyring(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Healthy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// An older ingotd must not work on a newer schema.
func TestOpenRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	storetest.Exec(t, s, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)")
	_, err := store.Open(t.Context(), storetest.DSN(s), storetest.Keyring(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "newer ingotd") {
		t.Errorf("got %v", err)
	}
}

// A controller with another key file says so at once.
func TestOpenRefusesAnotherKeyFile(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	_, _, err := s.Authority(t.Context(), func() ([]byte, []byte, error) { return []byte("certificate"), []byte("key"), nil })
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), storetest.DSN(s), other, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--key-file") {
		t.Errorf("got %v", err)
	}
}
