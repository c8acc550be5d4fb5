package redfish

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

// overlaySystem makes the tree's system tell the truth about the machine.
func (s *Server) overlaySystem(o object) {
	o["PowerState"] = s.powerState()
	id := s.cfg.Identity
	for name, value := range map[string]string{
		"Manufacturer": id.Manufacturer, "Model": id.Model, "SerialNumber": id.Serial, "UUID": id.UUID,
	} {
		if value != "" {
			o[name] = value
		}
	}
	if id.MemoryMiB > 0 {
		ensure(o, "MemorySummary")["TotalSystemMemoryGiB"] = float64(id.MemoryMiB) / 1024
	}
	if id.CPUs > 0 {
		ensure(o, "ProcessorSummary")["Count"] = id.CPUs
	}
	s.overlayBoot(ensure(o, "Boot"))
	f := s.m.Faults().Get()
	if f.BootViaSettings {
		o["@Redfish.Settings"] = object{
			"@odata.type":    "#Settings.v1_3_5.Settings",
			"SettingsObject": object{"@odata.id": s.v.settings()},
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.healed {
		for _, name := range f.MissingUntilReset {
			delete(o, name)
		}
	}
}

func (s *Server) powerState() string {
	if s.m.Powered() {
		return "On"
	}
	return "Off"
}

func ensure(o object, name string) object {
	part, ok := o[name].(object)
	if !ok {
		part = object{}
		o[name] = part
	}
	return part
}

// targets are BootSourceOverrideTarget's values that the machine knows.
var targets = map[string]machine.Device{
	"None": machine.None, "Pxe": machine.PXE, "Hdd": machine.Disk, "Cd": machine.CDROM,
	"BiosSetup": machine.Setup, "UefiHttp": machine.HTTP,
}

func (s *Server) overlayBoot(boot object) {
	o := s.m.Override()
	boot["BootSourceOverrideEnabled"], boot["BootSourceOverrideTarget"] = "Disabled", "None"
	mode := "UEFI"
	if s.m.Firmware() == machine.BIOS || (o.Valid && o.Legacy) {
		mode = "Legacy"
	}
	boot["BootSourceOverrideMode"] = mode
	if !o.Valid {
		return
	}
	boot["BootSourceOverrideEnabled"] = "Once"
	if o.Persistent {
		boot["BootSourceOverrideEnabled"] = "Continuous"
	}
	for name, dev := range targets {
		if dev == o.Device {
			boot["BootSourceOverrideTarget"] = name
		}
	}
}

// patchSystem answers PATCH of the system or of its settings resource.
func (s *Server) patchSystem(w http.ResponseWriter, r *http.Request, k string) {
	req, ok := s.body(w, r)
	if !ok {
		return
	}
	f := s.m.Faults().Get()
	settings := k == key(s.v.settings())
	if settings && !f.BootViaSettings {
		s.fail(w, http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "There is no resource at "+r.URL.Path+".")
		return
	}
	current, _ := s.render(key(s.v.system))
	if !s.matches(w, r, etag(current)) {
		return
	}
	boot, has := req["Boot"].(object)
	switch {
	case f.PatchDrops:
		s.reply(w, http.StatusOK, current)
		return
	case f.RefuseExtra && (len(req) > 1 || !has):
		s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyUnknown", "Only Boot may be set here.")
		return
	case has && f.BootViaSettings && !settings:
		s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyNotWritable", "Set Boot at "+s.v.settings()+".")
		return
	}
	if has && !s.patchBoot(w, boot) {
		return
	}
	delete(req, "Boot")
	s.keep(s.v.system, req)
	after, _ := s.render(key(s.v.system))
	s.reply(w, http.StatusOK, after)
}

// patchBoot stores an override and answers only if it refuses it.
func (s *Server) patchBoot(w http.ResponseWriter, boot object) bool {
	o := s.m.Override()
	enabled, hasEnabled := boot["BootSourceOverrideEnabled"].(string)
	target, hasTarget := boot["BootSourceOverrideTarget"].(string)
	mode, hasMode := boot["BootSourceOverrideMode"].(string)
	f := s.m.Faults().Get()
	if f.BootNeedsMode && !hasMode {
		s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyMissing", "BootSourceOverrideMode is required.")
		return false
	}
	if f.RefuseExtra {
		for name := range boot {
			if !strings.HasPrefix(name, "BootSourceOverride") {
				s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyUnknown", name+" may not be set.")
				return false
			}
		}
	}
	if hasTarget && !s.allowed(w, "BootSourceOverrideTarget", target) {
		return false
	}
	switch {
	case hasMode && mode != "UEFI" && mode != "Legacy", hasEnabled && !slices.Contains([]string{"Disabled", "Once", "Continuous"}, enabled):
		s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyValueNotInList", "The value is not in the list of allowed values.")
		return false
	}
	// A mode alone must not turn a Redfish override into IPMI's raw bytes.
	next := machine.Override{Valid: o.Valid, Device: o.Device, Persistent: o.Persistent, Legacy: o.Legacy || s.m.Firmware() == machine.BIOS}
	if hasMode {
		next.Legacy = mode == "Legacy"
	}
	if hasTarget {
		next.Device = machine.Other
		if dev, ok := targets[target]; ok {
			next.Device = dev
		}
	}
	if hasEnabled {
		next.Valid, next.Persistent = enabled != "Disabled", enabled == "Continuous"
	}
	if hasTarget && target == "None" && !hasEnabled {
		next.Valid = false
	}
	s.m.SetOverride(next, machine.FromRedfish, nil)
	return true
}

// allowed checks a value against the list that the tree itself publishes.
func (s *Server) allowed(w http.ResponseWriter, name, value string) bool {
	sys, _ := s.tree.get(s.v.system)
	boot, _ := sys["Boot"].(object)
	list, _ := boot[name+"@Redfish.AllowableValues"].([]any)
	if list == nil || slices.Contains(list, any(value)) {
		return true
	}
	s.fail(w, http.StatusBadRequest, "Base.1.8.PropertyValueNotInList", value+" is not among the allowed values of "+name+".")
	return false
}

// actions are ResetType's values (DSP2046, ComputerSystem).
var actions = map[string]machine.Action{
	"On": machine.On, "ForceOn": machine.On, "ForceOff": machine.Off, "GracefulShutdown": machine.SoftOff,
	"ForceRestart": machine.Reset, "GracefulRestart": machine.Reset, "PowerCycle": machine.Cycle,
}

func (s *Server) resetSystem(w http.ResponseWriter, r *http.Request) {
	req, ok := s.body(w, r)
	if !ok {
		return
	}
	kind, _ := req["ResetType"].(string)
	if kind == "" {
		s.fail(w, http.StatusBadRequest, "Base.1.8.ActionParameterMissing", "ResetType is required.")
		return
	}
	if !s.resetAllowed(kind) {
		s.fail(w, http.StatusBadRequest, "Base.1.8.ActionParameterNotSupported", kind+" is not among the allowed values of ResetType.")
		return
	}
	on := s.m.Powered()
	act, known := actions[kind]
	switch {
	case kind == "PushPowerButton" && on:
		act = machine.SoftOff
	case kind == "PushPowerButton":
		act = machine.On
	case !known: // Nmi and its like: taken, without effect on a VM
		s.done(w)
		return
	}
	idle := (act == machine.On) == on && (act == machine.On || act == machine.Off || act == machine.SoftOff)
	if idle && s.v.wrongState != 0 {
		s.wrongState(w, kind)
		return
	}
	switch err := s.m.Do(act, machine.FromRedfish); {
	case errors.Is(err, machine.ErrState):
		s.wrongState(w, kind)
	case err != nil:
		w.Header().Set("Retry-After", "5")
		s.fail(w, http.StatusServiceUnavailable, "Base.1.8.ServiceTemporarilyUnavailable", "Busy; ask again in 5 seconds.")
	default:
		s.goDown()
		s.done(w)
	}
}

func (s *Server) wrongState(w http.ResponseWriter, kind string) {
	status := s.v.wrongState
	if status == 0 {
		status = http.StatusConflict
	}
	s.fail(w, status, "Base.1.8.ResourceInUse", kind+" is not possible while power is "+s.powerState()+".")
}

func (s *Server) resetAllowed(kind string) bool {
	sys, _ := s.tree.get(s.v.system)
	all, _ := sys["Actions"].(object)
	reset, _ := all["#ComputerSystem.Reset"].(object)
	list, _ := reset["ResetType@Redfish.AllowableValues"].([]any)
	return slices.Contains(list, any(kind))
}

// done answers an accepted action as the vendor does.
func (s *Server) done(w http.ResponseWriter) {
	switch {
	case s.m.Faults().Get().ResetAsTask:
		s.startTask(w)
	case s.v.resetBody:
		s.reply(w, http.StatusOK, object{"error": object{
			"code": "iLO.0.10.ExtendedInfo", "message": "See @Message.ExtendedInfo for more information.",
			"@Message.ExtendedInfo": []any{object{"MessageId": "Base.1.4.Success"}},
		}})
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) resetManager(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.body(w, r); !ok {
		return
	}
	s.mu.Lock()
	s.healed = true
	s.sessions, s.seen = map[string]*session{}, map[string]bool{}
	s.mu.Unlock()
	s.goDown()
	if s.cfg.ResetBMC != nil {
		s.cfg.ResetBMC()
	}
	s.done(w)
}
