package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a Source under a script: each call takes the next step.
type fake struct {
	mu    sync.Mutex
	steps []step
	calls []string
}

// step is an error at once, or some bytes and then an error (nil: io.EOF).
type step struct {
	refuse error
	bytes  int64 // -1: all
	then   error
}

func (f *fake) Range(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf("%d+%d", offset, length))
	s := step{bytes: -1}
	if len(f.steps) > 0 {
		s, f.steps = f.steps[0], f.steps[1:]
	}
	if s.refuse != nil {
		return nil, s.refuse
	}
	data := file[offset : offset+length]
	if s.bytes >= 0 {
		data = data[:min(s.bytes, length)]
	}
	r := io.MultiReader(bytes.NewReader(data), broken{s.then})
	return io.NopCloser(r), nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if b.err == nil {
		return 0, io.EOF
	}
	return 0, b.err
}

var (
	temporary = &Error{Source: "a", Err: errors.New("reset")}
	permanent = &Error{Source: "a", Permanent: true, Err: errors.New("gone")}
)

func TestRetryResumesWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{steps: []step{{refuse: temporary}, {bytes: 300, then: temporary}, {bytes: 0}, {bytes: 100}, {bytes: -1}}}
		notified := 0
		src := NewRetry(f, RetryOptions{Notify: func(error, int, time.Duration) { notified++ }})
		got, err := readRange(t, src, 1000, 1000)
		if err != nil || !bytes.Equal(got, file[1000:2000]) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if calls := strings.Join(f.calls, " "); calls != "1000+1000 1000+1000 1300+700 1300+700 1400+600" || notified != 4 {
			t.Errorf("asked for %s, %d notices", calls, notified)
		}
	})
}

func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	t.Run("permanent", func(t *testing.T) {
		t.Parallel()
		for _, steps := range [][]step{{{refuse: permanent}}, {{bytes: 10, then: permanent}}} {
			f := &fake{steps: steps}
			if _, err := readRange(t, NewRetry(f, RetryOptions{}), 0, 100); !errors.Is(err, permanent) || len(f.calls) != 1 {
				t.Errorf("got %v after %d calls", err, len(f.calls))
			}
		}
	})
	t.Run("patience", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			for range 1000 {
				f.steps = append(f.steps, step{refuse: temporary})
			}
			start := time.Now()
			_, err := readRange(t, NewRetry(f, RetryOptions{Patience: time.Minute}), 0, 100)
			took := time.Since(start)
			if !errors.Is(err, temporary) || took < time.Minute || took > 75*time.Second || len(f.calls) > 30 {
				t.Errorf("got %v after %s and %d calls", err, took, len(f.calls))
			}
		})
	})
	t.Run("a byte at a time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			for range 1000 {
				f.steps = append(f.steps, step{bytes: 1, then: temporary})
			}
			if _, err := readRange(t, NewRetry(f, RetryOptions{MaxAttempts: 50}), 0, 1000); !errors.Is(err, temporary) || len(f.calls) != 50 {
				t.Errorf("got %v after %d calls", err, len(f.calls))
			}
		})
	})
	t.Run("cancelled while waiting", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			f := &fake{steps: []step{{refuse: temporary}}}
			src := NewRetry(f, RetryOptions{Notify: func(error, int, time.Duration) { cancel() }})
			if _, err := src.Range(ctx, 0, 10); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// Links that are cut again and again, and bring something each time.
func TestRetryOfALinkThatBreaksAndWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		for range 100 {
			f.steps = append(f.steps, step{bytes: 900, then: temporary})
		}
		start := time.Now()
		got, err := readRange(t, NewRetry(f, RetryOptions{MaxAttempts: 20}), 0, int64(len(file)))
		if err != nil || !bytes.Equal(got, file) || len(f.calls) != 101 {
			t.Errorf("got %d bytes after %d calls, %v", len(got), len(f.calls), err)
		}
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("waited %s in all", took)
		}
		f.steps = []step{{bytes: worthBytes, then: temporary}}
		start = time.Now()
		if _, err := readRange(t, NewRetry(f, RetryOptions{}), 0, int64(len(file))); err != nil || time.Since(start) != 0 {
			t.Errorf("got %v, waited %s after %d bytes", err, time.Since(start), worthBytes)
		}
	})
}

// A reader that waits long for its disk must not use up the patience.
func TestSlowReaderKeepsItsPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{steps: []step{{bytes: 50, then: temporary}}}
		body, err := NewRetry(f, RetryOptions{Patience: time.Minute}).Range(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 50)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // of the bubble's clock: the disk takes its time
		if rest, err := io.ReadAll(body); err != nil || len(rest) != 50 {
			t.Errorf("got %d bytes, %v", len(rest), err)
		}
	})
}

func TestRetryHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{steps: []step{{refuse: &Error{Status: 503, RetryAfter: 42 * time.Second, Err: errors.New("busy")}}}}
		start := time.Now()
		if _, err := readRange(t, NewRetry(f, RetryOptions{}), 0, 10); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 42*time.Second {
			t.Errorf("waited %s", took)
		}
	})
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	many := func(s step) (steps []step) {
		for range 20 {
			steps = append(steps, s)
		}
		return steps
	}
	for name, tc := range map[string]struct {
		a, b []step
		want error
		aHas int // calls of a after three ranges
	}{
		"first is fine":            {nil, nil, nil, 3},
		"first is gone":            {many(step{refuse: permanent}), nil, nil, 1},
		"first is down for a time": {[]step{{refuse: temporary}}, nil, nil, 1},
		"both gone":                {many(step{refuse: permanent}), many(step{refuse: permanent}), permanent, 3},
		"one gone, one down":       {many(step{refuse: permanent}), many(step{refuse: temporary}), temporary, 1},
	} {
		a, b := &fake{steps: tc.a}, &fake{steps: tc.b}
		src := NewMirrors(a, b)
		for range 3 {
			_, err := readRange(t, src, 0, 10)
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: got %v, want %v", name, err, tc.want)
			}
		}
		if len(a.calls) != tc.aHas {
			t.Errorf("%s: the first was asked %d times, want %d", name, len(a.calls), tc.aHas)
		}
	}
	if _, err := readRange(t, NewMirrors(), 0, 10); !Permanent(err) {
		t.Errorf("no mirrors: got %v", err)
	}
}

func TestRetryOverMirrorsChangesHorses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{steps: []step{{bytes: 30, then: temporary}}}, &fake{}
		got, err := readRange(t, NewRetry(NewMirrors(a, b), RetryOptions{}), 0, 100)
		if err != nil || !bytes.Equal(got, file[:100]) || len(a.calls) != 1 || len(b.calls) != 1 || b.calls[0] != "30+70" {
			t.Errorf("got %d bytes, %v; asked a %v, b %v", len(got), err, a.calls, b.calls)
		}
	})
}

func TestSuspectedMirrorIsLeftOut(t *testing.T) {
	t.Parallel()
	a, b := &fake{}, &fake{}
	mirrors := NewMirrors(a, b)
	src := NewRetry(mirrors, RetryOptions{})
	ask := func(offset int64) {
		if _, err := readRange(t, src, offset, 10); err != nil {
			t.Fatal(err)
		}
	}
	ask(0)
	Suspect(src, 5, 3) // inside the range that a served
	ask(20)
	if len(a.calls) != 1 || len(b.calls) != 1 {
		t.Errorf("after one suspicion: a %v, b %v", a.calls, b.calls)
	}
	Suspect(src, 0, 3) // a again, though b was asked last
	Suspect(src, 0, 3)
	mirrors.failed(1, false) // moves on from b
	ask(40)
	if len(a.calls) != 1 || len(b.calls) != 2 {
		t.Errorf("after three: a %v, b %v", a.calls, b.calls)
	}
	Suspect(NewFile(nil, 0, "x"), 0, 1) // nobody listens, nothing happens
}
