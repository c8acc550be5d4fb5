package ipmi

import (
	"context"
	"errors"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/ingot-metal/ingot/tools/bmcsim/fault"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

func busy(f *fault.Faults) *int { return &f.IPMIBusy }

// source tells the LAN from the guest's own system interface.
func source(h *handlers.HandlerContext) machine.Source {
	if h.Session == nil && h.V15Session == nil {
		return machine.FromKCS
	}
	return machine.FromIPMI
}

// chassisStatus answers Get Chassis Status (IPMI 2.0, table 28-3).
func (s *Server) chassisStatus(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	const policyPrevious = 1 << 5 // restore the previous state after AC loss
	var power, last byte = policyPrevious, 0
	if s.m.Powered() {
		power |= 1
		last = 1 << 4 // went on by an IPMI command
	}
	return []byte{power, last, 0x40, 0}, types.CodeOK, nil
}

// chassisControl answers Chassis Control (section 28.3). It returns before
// the effect, as BMCs do: a slow answer would be asked again, and done twice.
func (s *Server) chassisControl(_ context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	actions := map[byte]machine.Action{
		0: machine.Off, 1: machine.On, 2: machine.Cycle, 3: machine.Reset, 5: machine.SoftOff,
	}
	act, ok := actions[req[0]&0x0f]
	if !ok {
		return nil, types.CodeRequestDataFieldInvalid, nil
	}
	switch err := s.m.Do(act, source(h)); {
	case errors.Is(err, machine.ErrState):
		return nil, types.CodeNotSupported, nil
	case err != nil:
		return nil, types.CodeNodeBusy, nil
	}
	return nil, types.CodeOK, nil
}

// restartCause answers Get System Restart Cause (section 28.11).
func (s *Server) restartCause(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	var cause byte
	for _, e := range s.m.Snapshot().Events {
		switch {
		case e.Kind == machine.WasReset && e.Source == machine.FromGuest:
			cause = 0x0a // soft reset
		case e.Kind == machine.WasReset || e.Kind == machine.PoweredOn:
			cause = 0x01 // chassis control command
		}
	}
	return []byte{cause, 1}, types.CodeOK, nil
}

func (s *Server) resetBMC(_ context.Context, _ *handlers.HandlerContext, _ []byte) ([]byte, types.CompletionCode, error) {
	s.Reset()
	return nil, types.CodeOK, nil
}

// Boot option parameters (table 28-14).
const (
	paramSetInProgress = 0
	paramClearRules    = 3
	paramBootInfoAck   = 4
	paramBootFlags     = 5
)

func (s *Server) setBootOption(_ context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	param, data := req[0]&0x7f, req[1:]
	if s.m.Faults().Get().IPMIBootDrops {
		return nil, types.CodeOK, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(data) == 0: // only the parameter-valid bit
	case param == paramSetInProgress:
	case param == paramClearRules:
		s.rules = machine.ClearRules{KeepOnTimeout: data[0]&(1<<3) != 0, KeepOnSoftReset: data[0]&(1<<1) != 0}
	case param == paramBootInfoAck:
		copy(s.bootInfo[:], data)
	case param == paramBootFlags:
		if len(data) != 5 {
			return nil, types.CodeRequestDataLengthInvalid, nil
		}
		rules := s.rules
		s.m.SetOverride(fromFlags([5]byte(data)), source(h), &rules)
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
	return nil, types.CodeOK, nil
}

func (s *Server) getBootOption(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	s.mu.Lock()
	rules, ack := s.rules, s.bootInfo
	s.mu.Unlock()
	answer := []byte{0x01, req[0] & 0x7f} // parameter version 1
	switch req[0] & 0x7f {
	case paramSetInProgress:
		answer = append(answer, 0)
	case paramClearRules:
		var b byte
		if rules.KeepOnTimeout {
			b |= 1 << 3
		}
		if rules.KeepOnSoftReset {
			b |= 1 << 1
		}
		answer = append(answer, b)
	case paramBootInfoAck:
		answer = append(answer, ack[:]...)
	case paramBootFlags:
		flags := toFlags(s.m.Override())
		answer = append(answer, flags[:]...)
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
	return answer, types.CodeOK, nil
}

// devices are the boot device selectors of parameter 5, data 2.
var devices = map[byte]machine.Device{
	0: machine.None, 1: machine.PXE, 2: machine.Disk, 3: machine.Disk, 5: machine.CDROM, 6: machine.Setup,
}

func fromFlags(raw [5]byte) machine.Override {
	dev, ok := devices[raw[1]>>2&0x0f]
	if !ok {
		dev = machine.Other
	}
	return machine.Override{
		Valid: raw[0]&(1<<7) != 0, Persistent: raw[0]&(1<<6) != 0, Legacy: raw[0]&(1<<5) == 0,
		Device: dev, Raw: raw,
	}
}

// toFlags gives back the bytes that were set, or makes them for an override
// that came by Redfish; without a valid override the valid bit is clear.
func toFlags(o machine.Override) [5]byte {
	raw := o.Raw
	if raw == ([5]byte{}) && o.Valid {
		for code := byte(0); code < 16; code++ {
			if dev, ok := devices[code]; ok && dev == o.Device {
				raw[1] = code << 2
				break
			}
		}
		if o.Persistent {
			raw[0] |= 1 << 6
		}
		if !o.Legacy {
			raw[0] |= 1 << 5
		}
	}
	raw[0] &^= 1 << 7
	if o.Valid {
		raw[0] |= 1 << 7
	}
	return raw
}

// systemGUID answers Get System GUID (section 22.14).
func (s *Server) systemGUID(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	return append([]byte(nil), s.cfg.Identity.UUID[:]...), types.CodeOK, nil
}
