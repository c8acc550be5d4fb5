package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *controller) TokenCreate(_ context.Context, r *operator.TokenCreateRequest) (*operator.TokenCreateResponse, error) {
	return &operator.TokenCreateResponse{Secret: "ingot_secret", Token: &operator.Token{Name: r.GetName(), ExpiresAt: r.GetExpiresAt()}}, nil
}

func (c *controller) TokenRevoke(_ context.Context, r *operator.TokenRevokeRequest) (*emptypb.Empty, error) {
	if !r.GetForce() {
		return nil, status.Error(codes.FailedPrecondition, "it is yours: --force")
	}
	return &emptypb.Empty{}, nil
}

// TestTokenCommands: the token alone goes to standard output, for scripts.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	_, ingot := serve(t)
	if code, out, errOut := ingot("token", "create", "ci", "--expires", "90d"); code != 0 || out != "ingot_secret\n" || !strings.Contains(errOut, "expires at") {
		t.Errorf("create: %d %q %q", code, out, errOut)
	}
	if code, out, errOut := ingot("token", "create", "ci", "--expires", "soon"); code != 2 || out != "" || !strings.Contains(errOut, "90d") {
		t.Errorf("a word that is no time: %d %q %q", code, out, errOut)
	}
	if code, _, errOut := ingot("token", "revoke", "me"); code != 1 || !strings.Contains(errOut, "--force") {
		t.Errorf("revoke: %d %q", code, errOut)
	}
	if code, _, errOut := ingot("token", "revoke", "me", "--force"); code != 0 {
		t.Errorf("revoke with force: %d %q", code, errOut)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for word, want := range map[string]time.Time{
		"12h": now.Add(12 * time.Hour), "90d": now.AddDate(0, 0, 90), "1h30m": now.Add(90 * time.Minute),
		"2027-01-31": time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := expiry(word, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", word, got, err, want)
		}
	}
	for _, word := range []string{"x", "0d", "-1h", "-1d", "1.5d", "99999d", "d", "2027-13-01", "90"} {
		if got, err := expiry(word, now); err == nil {
			t.Errorf("%s: %v, want an error", word, got)
		}
	}
}
