package redfish

import (
	"errors"
	"net/http"
	"strings"
)

// vendor is where a tree keeps the live resources, and how that vendor's BMC
// answers where vendors differ.
type vendor struct {
	name         string // Vendor of the service root, or guessed from the OEM part
	system       string
	manager      string
	sessions     string
	resetTarget  string
	managerReset string

	wrongState int  // status of a reset that makes no sense now; 0: accepted, nothing happens
	resetBody  bool // a reset answers 200 with a message instead of 204
}

// learn finds the live resources of a tree by following its own links.
func learn(t *Tree) (vendor, error) {
	root, _ := t.get("/redfish/v1")
	v := vendor{
		system:   t.firstMember(link(root, "Systems")),
		manager:  t.firstMember(link(root, "Managers")),
		sessions: link(root, "Links", "Sessions"),
	}
	sys, ok := t.get(v.system)
	if !ok {
		return v, errors.New("redfish tree has no computer system")
	}
	v.resetTarget = actionTarget(sys, "#ComputerSystem.Reset")
	if mgr, ok := t.get(v.manager); ok {
		v.managerReset = actionTarget(mgr, "#Manager.Reset")
	}
	if v.resetTarget == "" || v.sessions == "" {
		return v, errors.New("redfish tree has no reset action or no session collection")
	}
	v.name, _ = root["Vendor"].(string)
	if oem, ok := root["Oem"].(object); ok && v.name == "" && oem["Hpe"] != nil {
		v.name = "HPE"
	}
	switch v.name {
	case "Dell": // iDRAC9: 409 with SYS428/SYS429 when the server is on or off already
		v.wrongState = http.StatusConflict
	case "HPE": // iLO 5: 400 InvalidOperationForSystemState, 200 with Base.Success
		v.wrongState, v.resetBody = http.StatusBadRequest, true
	}
	return v, nil
}

func actionTarget(o object, name string) string {
	actions, _ := o["Actions"].(object)
	a, _ := actions[name].(object)
	s, _ := a["target"].(string)
	return s
}

// settings is the path of the system's settings resource, which exists while
// the BootViaSettings fault is on.
func (v vendor) settings() string { return strings.TrimRight(v.system, "/") + "/Settings" }
