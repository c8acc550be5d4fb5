package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// recorder is a part that says when it begins to end.
func recorder(name string, ends chan<- string, fail <-chan error) part {
	return part{name, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			ends <- name
			return nil
		case err := <-fail:
			ends <- name
			return err
		}
	}}
}

func TestDoorsShutBeforeRooms(t *testing.T) {
	t.Parallel()
	ends := make(chan string, 4)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := runInOrder(ctx, slog.New(slog.DiscardHandler), []part{recorder("door", ends, nil), recorder("door", ends, nil)}, []part{recorder("room", ends, nil)})
	close(ends)
	var got []string
	for e := range ends {
		got = append(got, e)
	}
	if err != nil || strings.Join(got, " ") != "door door room" {
		t.Errorf("%v, %v: want both doors before the room", got, err)
	}
}

func TestOneFailureEndsAll(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"door", "room"} {
		ends, fail := make(chan string, 4), make(chan error, 1)
		broken := errors.New("broken")
		fail <- broken
		parts := map[string]part{"door": recorder("door", ends, nil), "room": recorder("room", ends, nil)}
		parts[where] = recorder(where, ends, fail)
		err := runInOrder(t.Context(), slog.New(slog.DiscardHandler), []part{parts["door"]}, []part{parts["room"]})
		if !errors.Is(err, broken) || len(ends) != 2 {
			t.Errorf("a broken %s: %v, %d parts ended, want 2", where, err, len(ends))
		}
	}
	quiet := part{"quiet", func(context.Context) error { return nil }}
	if err := runAll(t.Context(), slog.New(slog.DiscardHandler), []part{quiet}); err == nil {
		t.Error("a part that ends by itself goes unnoticed")
	}
}

func TestControllerIDStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := controllerID(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := controllerID(dir)
	if err != nil || first != second {
		t.Errorf("%q then %q (%v), want the same", first, second, err)
	}
	if err := writeWhole(dir+"/controller-id", []byte("../x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := controllerID(dir); err == nil {
		t.Error("a damaged id is taken")
	}
}
