package store_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/controller/store/storetest"
	"github.com/ingot-metal/ingot/proto/fault"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	var wg sync.WaitGroup
	tokens := make([]seal.Secret, 6)
	for i := range tokens { // controllers that start together
		wg.Go(func() {
			var err error
			if tokens[i], err = s.TokenBootstrap(t.Context(), "admin"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := seal.Secret("")
	for _, token := range tokens {
		if token != "" && first != "" {
			t.Fatal("two first tokens were made")
		}
		if token != "" {
			first = token
		}
	}
	if actor, err := s.TokenCheck(t.Context(), first.Reveal()); err != nil || actor != "admin" {
		t.Errorf("got %q, %v", actor, err)
	}
	for _, bad := range []string{"", "ingot_", first.Reveal()[:69] + "x", strings.Repeat("a", 1<<20)} {
		_, err := s.TokenCheck(t.Context(), bad)
		wantKind(t, err, fault.Unauthenticated)
	}
	_, err := s.TokenCreate(t.Context(), "admin", time.Time{}, "alice")
	wantKind(t, err, fault.Exists)
	if err := s.TokenRevoke(t.Context(), "admin", "alice"); err != nil {
		t.Fatal(err)
	}
	_, err = s.TokenCheck(t.Context(), first.Reveal())
	wantKind(t, err, fault.Unauthenticated)
	if list, err := s.TokenList(t.Context(), false); err != nil || len(list) != 0 {
		t.Errorf("in force: %+v, %v, want none", list, err)
	}
	if list, err := s.TokenList(t.Context(), true); err != nil || len(list) != 1 || list[0].EndedAt.IsZero() {
		t.Errorf("got %+v, %v", list, err)
	}
}

// TestTokenExpires: by the database's clock, and its name is free again then.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	begin := time.Now().UTC().Truncate(time.Second)
	clock := func(after time.Duration) { storetest.ClockHold(t, s, begin.Add(after)) }
	clock(0)
	_, err := s.TokenCreate(t.Context(), "ci", begin, "alice")
	wantKind(t, err, fault.Invalid)
	token, err := s.TokenCreate(t.Context(), "ci", begin.Add(time.Hour), "alice")
	if err != nil {
		t.Fatal(err)
	}
	only := func(all bool) (used, ended time.Time) {
		t.Helper()
		list, err := s.TokenList(t.Context(), all)
		if err != nil || len(list) != 1 || list[0].Name != "ci" || !list[0].ExpiresAt.Equal(begin.Add(time.Hour)) {
			t.Fatalf("got %+v, %v, want ci", list, err)
		}
		return list[0].LastUsedAt, list[0].EndedAt
	}
	if used, ended := only(false); !used.IsZero() || !ended.IsZero() {
		t.Errorf("new: used %v, ended %v", used, ended)
	}
	for _, tc := range []struct{ at, want time.Duration }{{time.Minute, time.Minute}, {90 * time.Second, time.Minute}, {30 * time.Minute, 30 * time.Minute}} {
		clock(tc.at)
		if actor, err := s.TokenCheck(t.Context(), token.Reveal()); err != nil || actor != "ci" {
			t.Errorf("after %v: %q, %v, want ci", tc.at, actor, err)
		}
		if used, _ := only(false); !used.Equal(begin.Add(tc.want)) {
			t.Errorf("after %v: last used %v, want %v", tc.at, used, begin.Add(tc.want))
		}
	}
	clock(time.Hour)
	_, err = s.TokenCheck(t.Context(), token.Reveal())
	wantKind(t, err, fault.Unauthenticated)
	wantKind(t, s.TokenRevoke(t.Context(), "ci", "alice"), fault.NotFound)
	if _, ended := only(true); !ended.Equal(begin.Add(time.Hour)) {
		t.Errorf("ended %v, want at its expiry", ended)
	}
	if _, err := s.TokenCreate(t.Context(), "ci", time.Time{}, "alice"); err != nil {
		t.Errorf("a second token of the name: %v", err)
	}
	_, err = s.TokenCheck(t.Context(), token.Reveal())
	wantKind(t, err, fault.Unauthenticated)
}
