package ipmi

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/types"
)

// newHAL gives the reference BMC its storage (a FRU that names the board) and
// the BMC's own network address, which the guest reads over /dev/ipmi0.
// Power does not pass here: our own chassis handlers talk to the machine.
func newHAL(cfg Config, port uint16) (*mock.HAL, error) {
	h := mock.New()
	if cfg.Console != nil {
		h.SetConsole(cfg.Console)
	}
	id := cfg.Identity
	fru, err := types.PackFRU(types.FRUPackConfig{
		Board:   &types.FRUPackBoard{Mfg: id.Manufacturer, Product: id.Product, Serial: id.Serial},
		Product: &types.FRUPackProduct{Manufacturer: id.Manufacturer, Name: id.Product, Serial: id.Serial},
	})
	if err != nil {
		return nil, fmt.Errorf("ipmi: make FRU: %w", err)
	}
	ctx := context.Background()
	if err := h.Storage().FRU().Write(ctx, 0, fru); err != nil {
		return nil, fmt.Errorf("ipmi: store FRU: %w", err)
	}
	lan := hal.IPConfig{Mask: [4]byte{255, 255, 255, 0}, Port: port}
	if a, err := netip.ParseAddrPort(cfg.Addr); err == nil && a.Addr().Is4() {
		lan.IP = a.Addr().As4()
	}
	mac := id.MAC
	if mac == nil {
		mac = net.HardwareAddr{0x52, 0x54, 0x00, 0xbe, 0xef, 0x01}
	}
	copy(lan.MAC[:], mac)
	if err := h.Network().SetConfig(ctx, &lan); err != nil {
		return nil, fmt.Errorf("ipmi: set LAN address: %w", err)
	}
	return h, nil
}
