package api

import "testing"

func TestNewerVersion(t *testing.T) {
	t.Parallel()
	// Each is newer than the one before it.
	order := []string{"", "1~rc1", "1", "1.0", "1.2", "1.2a", "1.10", "2~beta", "2", "12.5", "12.10", "20240101", "20240101.1", "20241231"}
	for i, a := range order {
		for j, b := range order {
			got := newerVersion(a, b)
			if want := i - j; (got < 0) != (want < 0) || (got > 0) != (want > 0) {
				t.Errorf("%q against %q: got %d", a, b, got)
			}
		}
	}
	if got := newerVersion("1.01", "1.1"); got != 0 {
		t.Errorf("leading zeros: got %d, want 0", got)
	}
}
