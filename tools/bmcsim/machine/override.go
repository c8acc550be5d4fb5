package machine

import "time"

// Override is the boot override in force, as both protocols see it.
type Override struct {
	Device     Device `json:"device,omitempty"`
	Persistent bool   `json:"persistent,omitempty"`
	Legacy     bool   `json:"legacy,omitempty"` // IPMI without the EFI bit, Redfish mode Legacy
	// Valid is false when there is none, or when it was used or ran out.
	Valid bool `json:"valid,omitempty"`
	// Raw are the five bytes of IPMI's parameter 5 as they were set, so that
	// bits unknown to us read back unchanged.
	Raw [5]byte `json:"-"`

	expires   time.Time // zero: never
	keepReset bool      // survives a soft reset
}

// FlagTimeout is how long IPMI boot flags live without a chassis command
// (IPMI 2.0, table 28-14, parameter 3).
const FlagTimeout = 60 * time.Second

// ClearRules are the bits of parameter 3, by which IPMI boot flags survive
// what would clear them. The zero value clears on all.
type ClearRules struct {
	KeepOnTimeout   bool // bit 3: no chassis control within FlagTimeout
	KeepOnSoftReset bool // bit 1: pushbutton or soft reset, so also a guest's
}

// SetOverride stores what a BMC was asked. rules is nil for Redfish, whose
// overrides neither run out nor go at a soft reset.
func (m *Machine) SetOverride(o Override, src Source, rules *ClearRules) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o.expires, o.keepReset = time.Time{}, true
	if rules != nil {
		o.keepReset = rules.KeepOnSoftReset
		if !rules.KeepOnTimeout {
			o.expires = m.cfg.Now().Add(FlagTimeout)
		}
	}
	m.override = o
	m.record(Event{Kind: OverrideSet, Source: src, Detail: o.String()})
}

// Override returns the override in force; Valid is false if there is none.
func (m *Machine) Override() Override {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current()
}

// current expires IPMI flags whose time is over. m.mu is held.
func (m *Machine) current() Override {
	o := m.override
	if o.Valid && !o.expires.IsZero() && m.cfg.Now().After(o.expires) {
		m.override.Valid = false
		m.record(Event{Kind: OverrideGone, Detail: "60 s without a chassis command: " + o.String()})
	}
	return m.override
}

// touch restarts the countdown of IPMI flags: a chassis command came.
// m.mu is held.
func (m *Machine) touch() {
	if o := m.current(); o.Valid && !o.expires.IsZero() {
		m.override.expires = m.cfg.Now().Add(FlagTimeout)
	}
}

// takeBoot decides what the next POST is told, and uses up a one-time
// override. m.mu is held.
func (m *Machine) takeBoot(guestReset bool) Boot {
	o := m.current()
	if !o.Valid || o.Device == None {
		return Boot{}
	}
	if guestReset && !o.keepReset {
		m.override.Valid = false
		m.record(Event{Kind: OverrideGone, Source: FromGuest, Detail: "soft reset: " + o.String()})
		return Boot{}
	}
	if o.Persistent {
		m.override.expires, m.override.keepReset = time.Time{}, true
	} else {
		m.override = Override{}
	}
	if o.Legacy && m.cfg.Firmware == UEFI {
		m.record(Event{Kind: LegacyRefused, Detail: o.String() + " without the EFI bit; this machine boots UEFI only"})
		return Boot{}
	}
	if m.cfg.Faults.Get().BootIgnored {
		return Boot{}
	}
	m.record(Event{Kind: OverrideUsed, Detail: o.String()})
	return Boot{Device: o.Device, Persistent: o.Persistent}
}

// String names the override as in "pxe once uefi".
func (o Override) String() string {
	dev, life, mode := string(o.Device), "once", "uefi"
	if o.Device == None || !o.Valid {
		return "none"
	}
	if o.Persistent {
		life = "persistent"
	}
	if o.Legacy {
		mode = "legacy"
	}
	return dev + " " + life + " " + mode
}
