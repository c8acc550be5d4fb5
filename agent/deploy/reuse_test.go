package deploy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/job"
	"github.com/ingot-metal/ingot/proto/agent"
)

// A system used its disk a little, and gets the same image again.
func TestDeployOverAUsedSystem(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript))
	first, _ := b.deploy(1)
	fresh := first.GetDeploy()
	if first.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || fresh.BytesKept != 0 || fresh.BytesWritten == 0 {
		t.Fatalf("got %v", first)
	}
	f, err := os.OpenFile(b.disks[0].Path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("used"), 2000), rootStart+123<<10)
	must(t, err)
	must(t, f.Close())

	b.order.Reuse = true
	second, _ := b.deploy(1)
	again := second.GetDeploy()
	if second.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || !again.Verified {
		t.Fatalf("got %v", second)
	}
	if again.BytesKept == 0 || again.BytesKept+again.BytesWritten < fresh.BytesWritten || again.BytesFetched >= fresh.BytesFetched {
		t.Errorf("got %v after %v", again, fresh)
	}
	b.checkDisk(1)
}

// A site that has a part read back is told so, in the result and by a warning.
func TestReadBackAsOrdered(t *testing.T) {
	t.Parallel()
	im := makeImage(t, gptScript)
	for name, tc := range map[string]struct {
		order    *agent.ReadBack
		verified bool
	}{
		"not said":     {nil, true},
		"all, SHA-256": {&agent.ReadBack{Percent: 100, Sha256: true}, true},
		"a part":       {&agent.ReadBack{Percent: 10}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, im)
			b.order.ReadBack = tc.order
			result, _ := b.deploy(1)
			got := result.GetDeploy()
			warned := slices.ContainsFunc(result.Warnings, func(w *agent.Warning) bool { return w.Code == "read_back_sampled" })
			if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || got.Verified != tc.verified || warned == tc.verified ||
				got.GetVerifiedAfter().AsDuration() < got.GetFlushedAfter().AsDuration() {
				t.Errorf("got %v", result)
			}
			b.checkDisk(1)
		})
	}
}

// A controller with a bad copy costs nothing while another one has a good one.
func TestDeployBesideABadCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t, makeImage(t, gptScript))
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 64<<20)))
	}))
	t.Cleanup(bad.Close)
	b.order.FrameUrls = []string{bad.URL, b.image.url}
	result, _ := b.deploy(1)
	if result.Outcome != agent.Outcome_OUTCOME_SUCCEEDED || !result.GetDeploy().Verified {
		t.Fatalf("got %v", result)
	}
	b.checkDisk(1)
	b.order.FrameUrls = []string{bad.URL}
	if result, _ := b.deploy(1); job.Reason(result.Reason) != job.ReasonImageDigest {
		t.Errorf("alone: got %v", result)
	}
}
