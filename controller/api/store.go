package api

import (
	"context"
	"io"
	"time"

	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/controller/image"
	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/controller/store"
	"github.com/ingot-metal/ingot/controller/store/seal"
	"github.com/ingot-metal/ingot/imaging/manifest"
	"github.com/ingot-metal/ingot/imaging/pack"
)

// Store is what the API needs of the store; *store.Store has it. Its errors have
// a kind of proto/fault wherever a caller can act.
type Store interface {
	auth.Tokens
	Healthy(ctx context.Context) error
	// Wake gives a value soon after anything changed; it may be lost.
	Wake(ctx context.Context) <-chan struct{}

	MachineGet(ctx context.Context, word string) (machine.Machine, error)
	MachineList(ctx context.Context, f store.MachineFilter) (list []machine.Machine, next string, err error)
	MachineAdd(ctx context.Context, n store.NewMachine, actor string) (machine.Machine, error)
	MachineApprove(ctx context.Context, id machine.ID, hostname, actor string) (machine.Machine, error)
	MachineDelete(ctx context.Context, id machine.ID, force bool, actor string) error
	// CollectionGet is the newest inventory as the agent sent it.
	CollectionGet(ctx context.Context, id machine.ID) (payload []byte, at time.Time, err error)

	BMCSet(ctx context.Context, id machine.ID, a store.BMCAccess, actor string) error
	BMCAccess(ctx context.Context, id machine.ID) (store.BMCAccess, machine.BMC, error)
	BMCSeen(ctx context.Context, id machine.ID, b machine.BMC) error
	PowerSet(ctx context.Context, id machine.ID, p machine.PowerState) error

	OperationCreate(ctx context.Context, id machine.ID, kind machine.OperationKind, wish machine.Wish, requestID, actor string) (machine.Operation, error)
	OperationGet(ctx context.Context, id string) (machine.Operation, error)
	OperationList(ctx context.Context, id machine.ID, size int, token string) ([]machine.Operation, string, error)
	OperationCancel(ctx context.Context, id, actor string) (machine.Operation, error)

	// EventMachineFind also finds machines that were deleted, by id.
	EventMachineFind(ctx context.Context, word string) (machine.ID, error)
	EventList(ctx context.Context, id machine.ID, after uint64, size int) ([]store.Event, error)
	EventAfter(ctx context.Context, token string, id machine.ID, limit int) ([]store.Event, string, error)
	LeaseList(ctx context.Context, size int, token string) ([]store.LeaseRecord, string, error)

	ImageGet(ctx context.Context, digest string) (store.Image, error)
	ImageNamed(ctx context.Context, name string) ([]store.Image, error)
	ImageList(ctx context.Context, name string, size int, token string) ([]store.Image, string, error)
	ImageRecord(ctx context.Context, i store.Image, controllerID, actor string) error
	ImageDelete(ctx context.Context, digest, actor string) error
	ImageSign(ctx context.Context, digest string, sig store.Signature, actor string) error
	ImageUnsign(ctx context.Context, digest, keyID, actor string) error
	ImageTrust(ctx context.Context, pool, digest string) (store.Trust, error)
	TrustedKeyList(ctx context.Context) ([]store.TrustedKey, error)
	TrustedKeyAdd(ctx context.Context, k store.TrustedKey, actor string) error
	TrustedKeyDelete(ctx context.Context, name, actor string) error

	RetentionGet(ctx context.Context) ([]store.Limit, error)
	RetentionSet(ctx context.Context, name string, n int, actor string) error

	TokenList(ctx context.Context, all bool) ([]store.Token, error)
	TokenCreate(ctx context.Context, name string, expires time.Time, actor string) (seal.Secret, error)
	TokenRevoke(ctx context.Context, name, actor string) error

	PoolList(ctx context.Context) ([]store.Pool, error)
	PoolGet(ctx context.Context, name string) (store.Pool, error)
	PoolAdd(ctx context.Context, p store.Pool, actor string) error
	PoolSet(ctx context.Context, name string, requireSigned *bool, actor string) error
	PoolDelete(ctx context.Context, name, actor string) error
	MachinePoolSet(ctx context.Context, id machine.ID, pool, actor string) error
}

// Images keeps this controller's copies of images; *image.Store has it.
type Images interface {
	Import(ctx context.Context, src image.Source, req image.Request) (image.Image, error)
	Get(d manifest.Digest) (image.Image, error)
	Delete(d manifest.Digest) error
	ManifestBytes(d manifest.Digest) ([]byte, error)
	Verify(ctx context.Context, d manifest.Digest, progress func(contentBytes int64)) error
	Export(ctx context.Context, d manifest.Digest, out io.Writer, f pack.Format) error
	BundleExport(ctx context.Context, d manifest.Digest, b image.Bundle, out io.Writer) error
	BundleImport(ctx context.Context, in io.Reader, progress func(pack.Progress)) (image.Image, image.Bundle, error)
}

// Open makes a driver for a BMC; nothing is sent to it yet.
type Open func(ctx context.Context, a power.Access) (power.Driver, error)
