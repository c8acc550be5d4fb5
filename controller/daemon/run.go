package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/event"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/image/download"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/postgres"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/proto/fault"
)

const (
	// heartbeatEvery is a quarter of the silence after which a controller's
	// agents count as offline.
	heartbeatEvery = 5 * time.Second
	// adminName is whom the first token is for.
	adminName = "admin"
)

// house is what everything else stands on.
type house struct {
	c         Config
	id        string
	log       *slog.Logger
	ring      seal.Keyring
	store     *store.Store
	authority *auth.Authority
	images    *image.Store
	signer    *image.Signer
	puller    *image.Puller
	handler   *image.Handler
	board     *event.Board
	leaf      *leaf
	segs      []segment
	same      bool // the data directory belongs to this database
}

// Run is the whole of ingotd. It returns nil after ctx has ended and everything
// is stopped. To out it writes what whoever started it must read: once, at the
// very first start, "admin token: …", and at each start, when all listeners
// answer, a line that begins with "ready: ". Logs go to logs.
func Run(ctx context.Context, c Config, out, logs io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: c.level}))
	h := &house{c: c, log: log, board: event.NewBoard()}
	lock, err := h.keys()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	dsn, stopDatabase, err := h.database(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopDatabase()) }()
	if h.store, err = store.Open(ctx, dsn, h.ring, log.With("part", "store")); err != nil {
		return err
	}
	defer h.store.Close()
	if err := h.furnish(ctx, out); err != nil {
		return err
	}
	defer func() {
		h.puller.Close() // at the latest: nobody runs it when what follows fails
		err = errors.Join(err, h.images.Close())
	}()
	doors, rooms, ready, err := h.build()
	if err != nil {
		return err
	}
	log.Info("ingotd started", "controller", h.id, "listeners", ready)
	if _, err := fmt.Fprintln(out, "ready: "+ready); err != nil {
		log.Warn("tell that the controller is ready", "err", err)
	}
	err = runInOrder(ctx, log, doors, rooms)
	log.Info("ingotd stops", "err", err)
	return err
}

// keys makes the data directory, claims it, and reads what identifies this
// controller. The caller closes the claim, last of all.
func (h *house) keys() (lock *os.File, err error) {
	// Others may pass through it: the private PostgreSQL runs as another user.
	if err := os.MkdirAll(h.c.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if lock, err = claim(h.c.DataDir); err != nil {
		return nil, err
	}
	if h.id, err = controllerID(h.c.DataDir); err == nil {
		h.ring, err = seal.EnsureFile(h.c.KeyFile)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// database gives the address of the one that is configured, or of our own.
func (h *house) database(ctx context.Context) (dsn string, stop func() error, err error) {
	if h.c.Database != "" {
		return h.c.Database, func() error { return nil }, nil
	}
	own, err := postgres.Start(ctx, postgres.Config{DataDir: h.c.DataDir, Log: h.log.With("part", "postgres")})
	if err != nil {
		return "", nil, fmt.Errorf("start the private PostgreSQL (or give one with --database): %w", err)
	}
	return own.DSN(""), own.Stop, nil
}

// furnish prepares what is in the database and on the disk before anybody is
// let in.
func (h *house) furnish(ctx context.Context, out io.Writer) error {
	cert, key, err := h.store.Authority(ctx, func() ([]byte, []byte, error) { return auth.NewAuthority(time.Now()) })
	if err != nil {
		return err
	}
	if h.authority, err = auth.OpenAuthority(cert, key); err != nil {
		return err
	}
	h.same = h.sameDatabase()
	if err := writeWhole(filepath.Join(h.c.DataDir, "ca.pem"), h.authority.PEM(), 0o644); err != nil {
		return err
	}
	if h.segs, err = segments(h.c.Interfaces); err != nil {
		return err
	}
	names, err := ownNames(h.c)
	if err != nil {
		return err
	}
	h.leaf = &leaf{authority: h.authority, hosts: names}
	if err := h.store.ControllerStart(ctx, h.id, h.c.Name); err != nil {
		return err
	}
	if err := h.store.ControllerPlace(ctx, h.place()); err != nil {
		return err
	}
	if err := ensureRanges(ctx, h.store, h.c, h.segs, h.log); err != nil {
		return err
	}
	// Whoever has the key file may sign links, so controllers accept each other's.
	if h.signer, err = image.NewSigner(nil, h.ring.Digest("image links")); err != nil {
		return err
	}
	if h.images, err = image.Open(filepath.Join(h.c.DataDir, "images"), image.Options{
		Logger: h.log.With("part", "images"), Download: download.Options{Policy: download.Policy{Allow: h.c.sources}},
	}); err != nil {
		return err
	}
	err = h.settleCopies(ctx)
	if err == nil {
		err = h.firstToken(ctx, out)
	}
	if err != nil {
		return errors.Join(err, h.images.Close())
	}
	h.puller = h.newPuller()
	return nil
}

// firstToken prints the first token, or a new one in its place where that is
// asked for: the only time that it can be seen.
func (h *house) firstToken(ctx context.Context, out io.Writer) error {
	token, err := h.store.TokenBootstrap(ctx, adminName)
	if err == nil && token == "" && h.c.ResetAdminToken {
		token, err = h.newToken(ctx)
	}
	if err != nil || token == "" {
		return err
	}
	if _, err := fmt.Fprintln(out, "admin token: "+token.Reveal()); err != nil {
		// A token that nobody has seen would lock everybody out.
		return errors.Join(fmt.Errorf("print the admin token: %w", err), h.store.TokenRevoke(ctx, adminName, "ingotd"))
	}
	return nil
}

// newToken ends the admin's tokens and makes another.
func (h *house) newToken(ctx context.Context) (seal.Secret, error) {
	if err := h.store.TokenRevoke(ctx, adminName, "ingotd"); err != nil && !fault.Is(err, fault.NotFound) {
		return "", err
	}
	return h.store.TokenCreate(ctx, adminName, time.Time{}, "ingotd")
}

// heartbeat tells the other controllers that this one lives.
func (h *house) heartbeat(ctx context.Context) error {
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := h.store.ControllerHeartbeat(ctx, h.id); err != nil && ctx.Err() == nil {
			h.log.Warn("heartbeat", "err", err)
		}
	}
}

func port(n int) string { return strconv.Itoa(n) }
