package agentapi_test

import (
	"os"
	"testing"

	"github.com/ingot-metal/ingot/controller/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
