package api_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ingot-metal/ingot/proto/operator"
)

// TestTokens: one is made, lets in, is seen in use, and ends; nobody locks
// himself out by accident.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mine := operator.NewTokenServiceClient(s.dial(s.token))
	for _, tc := range []struct {
		what, name string
		expires    *timestamppb.Timestamp
		code       codes.Code
		word       string
	}{
		{"no name", "", nil, codes.InvalidArgument, "64"},
		{"newline", "ci\n", nil, codes.InvalidArgument, "letters"},
		{"blank", "a b", nil, codes.InvalidArgument, "letters"},
		{"the controller", "ingotd", nil, codes.InvalidArgument, "audit trail"},
		{"the engine", "Lifecycle", nil, codes.InvalidArgument, "audit trail"},
		{"in the past", "ci", timestamppb.New(time.Now().Add(-time.Hour)), codes.InvalidArgument, "expire"},
		{"no time", "ci", &timestamppb.Timestamp{Seconds: 1 << 60}, codes.InvalidArgument, "expires_at"},
		{"a second one", "tester", nil, codes.AlreadyExists, "ingot token revoke tester"},
	} {
		_, err := mine.TokenCreate(t.Context(), &operator.TokenCreateRequest{Name: tc.name, ExpiresAt: tc.expires})
		wantRefusal(t, tc.what, err, tc.code, tc.word)
	}
	made, err := mine.TokenCreate(t.Context(), &operator.TokenCreateRequest{Name: "ci@example", ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))})
	if err != nil || !strings.HasPrefix(made.GetSecret(), made.GetToken().GetPrefix()) || made.GetToken().GetCreatedBy() != "tester" || made.GetToken().GetLastUsedAt() != nil {
		t.Fatalf("got %v, %v", made, err)
	}
	list, text := s.rest("GET", "/v1/tokens", made.GetSecret(), nil)
	if list != 200 || strings.Count(text, `"name"`) != 2 || strings.Contains(text, made.GetSecret()) {
		t.Errorf("REST: %d %s", list, text)
	}
	after, err := mine.TokenList(t.Context(), &operator.TokenListRequest{})
	if err != nil || len(after.GetTokens()) != 2 || !after.GetTokens()[1].GetLastUsedAt().IsValid() {
		t.Errorf("got %v, %v, want two, both used", after, err)
	}
	for name, code := range map[string]codes.Code{"tester": codes.FailedPrecondition, "nobody": codes.NotFound, "": codes.InvalidArgument} {
		_, err := mine.TokenRevoke(t.Context(), &operator.TokenRevokeRequest{Name: name})
		wantRefusal(t, "revoke "+name, err, code)
	}
	if code, text := s.rest("DELETE", "/v1/tokens/ci@example", s.token, nil); code != 200 {
		t.Errorf("revoke: %d %s", code, text)
	}
	if code, _ := s.rest("GET", "/v1/tokens", made.GetSecret(), nil); code != 401 {
		t.Errorf("a revoked token: %d, want 401", code)
	}
	if all, err := mine.TokenList(t.Context(), &operator.TokenListRequest{All: true}); err != nil || len(all.GetTokens()) != 2 || !all.GetTokens()[1].GetEndedAt().IsValid() {
		t.Errorf("got %v, %v, want the revoked one too", all, err)
	}
	if _, err := mine.TokenRevoke(t.Context(), &operator.TokenRevokeRequest{Name: "tester", Force: true}); err != nil {
		t.Error(err)
	}
	_, err = mine.TokenList(t.Context(), &operator.TokenListRequest{})
	wantRefusal(t, "after revoking my own", err, codes.Unauthenticated, "revoked")
}
