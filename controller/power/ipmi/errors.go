package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/controller/power"
)

// answered reports whether the BMC answered with a completion code.
func answered(err error) bool {
	_, ok := types.IsResponseError(err)
	return ok
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// isSilence recognises go-ipmi's error for "nothing came that fits", which it
// does not export.
func isSilence(err error) bool { return strings.Contains(err.Error(), "no datagram matched") }

// wrongSuite reports whether the BMC refused the cipher suite (table 13-15).
func wrongSuite(err error) bool {
	var s *types.RmcpStatusError
	if !errors.As(err, &s) {
		return false
	}
	switch s.StatusCode() {
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeInvalidConfidentAlg,
		types.RmcpStatusCodeNoMatchingAuthPayload, types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeNoCipherSuiteMatch,
		types.RmcpStatusCodeIllegalParameter:
		return true
	}
	return false
}

// explain makes err one of power's kinds.
func (d *Driver) explain(ctx context.Context, asked string, err error) error {
	var status *types.RmcpStatusError
	var done *power.Error
	got := ""
	if err != nil {
		got = power.Clean(err.Error(), d.target.Password)
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.Is(err, client.ErrRAKPAuthentication):
		return d.fail(power.ErrCredentials, asked, "the BMC does not know this password", "check user and password with: ingot bmc set", err)
	case errors.As(err, &status):
		return d.explainStatus(asked, got, status, err)
	case answered(err):
		r, _ := types.IsResponseError(err)
		return d.explainCode(asked, r, err)
	case errors.Is(err, errDowngrade), errors.Is(err, errPanic):
		return d.fail(power.ErrProtocol, asked, got, "check that the address is a BMC's; report its model and firmware", err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return d.fail(power.ErrUnreachable, asked, "nothing listens there: "+got, "check the address, and that IPMI over LAN is on", err)
	case ctx.Err() != nil || timedOut(err) || isSilence(err):
		return d.fail(power.ErrTimeout, asked, fmt.Sprintf("no answer from UDP port %d", d.port),
			"check address and cabling, and that IPMI over LAN is on; if it was working, reset the BMC", err)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return d.fail(power.ErrUnreachable, asked, got, "check the address", err)
	}
	return d.fail(power.ErrProtocol, asked, got, "report this BMC's model and firmware", err)
}

// explainStatus is for refusals while the session is opened.
func (d *Driver) explainStatus(asked, got string, s *types.RmcpStatusError, err error) error {
	switch s.StatusCode() {
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidIntegrityCheckValue, types.RmcpStatusCodeInvalidNameLength,
		types.RmcpStatusCodeUnauthorizedRoleOfPriLevel, types.RmcpStatusCodeInvalidRole:
		return d.fail(power.ErrCredentials, asked, got, "check user, password and that the user is an administrator for LAN", err)
	case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole,
		types.RmcpStatusCodeInvalidSessionID, types.RmcpStatusCodeInactiveSessionID:
		return d.fail(power.ErrBusy, asked, got, "the BMC has no session free; close others, or wait a minute", err)
	}
	if wrongSuite(err) {
		return d.fail(power.ErrUnsupported, asked, got, fmt.Sprintf("enable one of the cipher suites %v at the BMC", d.suites), err)
	}
	return d.fail(power.ErrProtocol, asked, got, "report this BMC's model and firmware", err)
}

// explainCode is for completion codes (IPMI 2.0, table 5-2).
func (d *Driver) explainCode(asked string, r *types.ResponseError, err error) error {
	code := r.CompletionCode()
	got := fmt.Sprintf("completion code 0x%02x: %s", uint8(code), types.StrCC(types.Command{}, uint8(code)))
	switch code {
	case types.CodeNodeBusy, types.CodeProcessTimeout, types.CodeOutOfSpace, types.CodeCannotProvideResponse,
		types.CodeCannotExecuteDuplicatedRequest, types.CodeCannotProvideResponseFirmwareUpdate, types.CodeCannotProvideResponseBMCInitialize:
		return d.fail(power.ErrBusy, asked, got, "it is tried again; if it stays so, reset the BMC", err)
	case types.CodeInsufficientPrivilege:
		return d.fail(power.ErrCredentials, asked, got, "make the user an administrator for LAN at the BMC", err)
	case types.CodeOK:
		return d.fail(power.ErrProtocol, asked, power.Clean(err.Error(), d.target.Password), "report this BMC's model and firmware", err)
	}
	return d.fail(power.ErrUnsupported, asked, got, "this BMC cannot do it; update its firmware, or use Redfish", err)
}

func (d *Driver) fail(kind power.Kind, asked, got, do string, err error) error {
	return &power.Error{Kind: kind, BMC: d.target.Address(), Asked: asked, Got: got, Do: do, Err: err}
}
