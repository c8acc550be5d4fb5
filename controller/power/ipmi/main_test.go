package ipmi

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a driver leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
