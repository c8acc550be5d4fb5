package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/ingot-metal/ingot/controller/machine"
	"github.com/ingot-metal/ingot/controller/power"
	"github.com/ingot-metal/ingot/controller/power/ipmi"
	"github.com/ingot-metal/ingot/controller/power/manual"
	"github.com/ingot-metal/ingot/controller/power/redfish"
	"github.com/ingot-metal/ingot/controller/store"
)

// bmcOrders is the store as lifecycle.Actuator needs it.
type bmcOrders struct{ *store.Store }

// BMCAccess gives address and credentials in the power drivers' type.
func (b bmcOrders) BMCAccess(ctx context.Context, id machine.ID) (power.Access, error) {
	a, _, err := b.Store.BMCAccess(ctx, id)
	return power.Access{URL: a.URL, User: a.User, Password: power.NewSecret(a.Password.Reveal()), CertificateSHA256: a.CertificateSHA256}, err
}

// opener makes power drivers, all with one memory of what each BMC can bear.
func opener(log *slog.Logger) (func(context.Context, power.Access) (power.Driver, error), error) {
	o, err := power.NewOpener(power.Factories{
		"redfish": redfish.New, "redfish+https": redfish.New, "redfish+http": redfish.New,
		"ipmi": ipmi.New, "manual": manual.New,
	}, power.Options{})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, a power.Access) (power.Driver, error) { return o.Open(ctx, a, log) }, nil
}

// imagesFirst serves images beside something else on one port. No http.ServeMux
// stands before what machines boot by, for that redirects unclean paths, which
// firmware does not follow.
func imagesFirst(images, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(path.Clean("/"+r.URL.Path), "/images/") {
			images.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}
