// Package fault is the script of misbehaviour of a simulated BMC: what real
// BMCs were seen doing wrong, each as one switch that a test may throw while
// the BMC runs.
package fault

import (
	"sync"
	"time"
)

// Faults are the switches. The zero value is a BMC that behaves. Durations of
// zero mean "no delay"; counts of zero mean "never".
type Faults struct {
	// Power, whatever the protocol that asks.

	PowerOffDelay time.Duration // a hard power-off takes this long (BMCs with 30 s and more exist)
	PowerOnDelay  time.Duration // from the accepted request to power
	PowerIgnored  bool          // requests are accepted and nothing happens
	SoftIgnored   bool          // the ACPI button is pressed and the system does not react
	Flap          int           // so many next power-ons drop again after FlapAfter
	FlapAfter     time.Duration // zero means one second
	PowerStateLag time.Duration // for so long after a change the old power state is reported
	BootIgnored   bool          // boot overrides are stored and read back, but the firmware does not obey

	// IPMI.

	IPMIHang       bool // no answer to any packet
	IPMIDropEvery  int  // every n-th packet is lost on its way in
	IPMIBusy       int  // so many next commands answer 0xC0, node busy
	IPMIBootDrops  bool // Set System Boot Options answers 0x00 and stores nothing
	IPMINoSessions bool // Open Session is answered with "insufficient resources"

	// Redfish.

	RedfishHang          bool          // requests are read and never answered
	PatchDrops           bool          // PATCH answers 200 and stores nothing
	UnavailableFor       time.Duration // 503 for so long after a reset of system or manager
	NoSessions           bool          // POST to Sessions answers 503, session limit exceeded
	GiantAnswer          int64         // every answer is padded to this many bytes
	ByteInterval         time.Duration // answers trickle: one byte each interval
	RedirectTo           string        // every request is answered 307 to this base URL
	NeedIfMatch          bool          // PATCH without If-Match answers 428
	StaleIfMatchAccepted bool          // a wrong If-Match is not noticed (not atomic)
	BootViaSettings      bool          // override only through the settings resource; PATCH of the system is refused
	BootNeedsMode        bool          // PATCH of an override without BootSourceOverrideMode answers 400
	RefuseExtra          bool          // any field but the override's own answers 400
	NotFoundUntilParent  bool          // a path answers 404 until its parent was fetched
	MissingUntilReset    []string      // properties of the system left out until the manager is reset
	ResetAsTask          bool          // Reset answers 202 with a task instead of 204
	TaskTime             time.Duration // how long such a task runs
}

// Switch holds the Faults in force. Safe for concurrent use.
type Switch struct {
	mu  sync.Mutex
	now Faults
}

// Get returns a copy of the faults in force.
func (s *Switch) Get() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.now
	f.MissingUntilReset = append([]string(nil), s.now.MissingUntilReset...)
	return f
}

// Set replaces all faults; Set(Faults{}) heals the BMC.
func (s *Switch) Set(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.MissingUntilReset = append([]string(nil), f.MissingUntilReset...)
	s.now = f
}

// Change edits the faults in force under the lock.
func (s *Switch) Change(edit func(*Faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.now)
}

// Take consumes one of a counted fault, such as Flap or IPMIBusy, and says
// whether there was one left.
func (s *Switch) Take(count func(*Faults) *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := count(&s.now)
	if *n <= 0 {
		return false
	}
	*n--
	return true
}
