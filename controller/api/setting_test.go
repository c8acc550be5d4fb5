package api_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ingot-metal/ingot/proto/operator"
)

// TestSettings: each is listed with its meaning, changed by name, and refused when
// it is no number.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	settings := operator.NewSettingServiceClient(s.dial(s.token))
	list, err := settings.SettingList(t.Context(), &operator.SettingListRequest{})
	if err != nil || len(list.GetSettings()) != 8 {
		t.Fatalf("got %v, %v, want eight", list, err)
	}
	for _, one := range list.GetSettings() {
		if one.GetMeaning() == "" || one.GetValue() != one.GetDefaultValue() {
			t.Errorf("%v: want a meaning, and the default", one)
		}
		if _, err := settings.SettingSet(t.Context(), &operator.SettingSetRequest{Name: one.GetName(), Value: "forever"}); err != nil {
			t.Error(err)
		}
	}
	if code, text := s.rest("PUT", "/v1/settings/retention.event_days", s.token, map[string]string{"value": "90"}); code != 200 || !strings.Contains(text, `"value":"90"`) {
		t.Errorf("REST: %d %s", code, text)
	}
	for name, value := range map[string]string{"": "1", "retention.": "1", "event_days": "1", "retention.receipt_days": "1"} {
		_, err := settings.SettingSet(t.Context(), &operator.SettingSetRequest{Name: name, Value: value})
		wantRefusal(t, "name "+name, err, codes.NotFound, "ingot setting list")
	}
	for _, value := range []string{"", "0", "-1", "1.5", "x", "1e3", "99999999999", "90d"} {
		_, err := settings.SettingSet(t.Context(), &operator.SettingSetRequest{Name: "retention.event_days", Value: value})
		wantRefusal(t, "value "+value, err, codes.InvalidArgument, "forever")
	}
	if got, err := settings.SettingSet(t.Context(), &operator.SettingSetRequest{Name: "retention.event_days", Value: "default"}); err != nil || got.GetValue() != "400" {
		t.Errorf("got %v, %v, want 400", got, err)
	}
}
