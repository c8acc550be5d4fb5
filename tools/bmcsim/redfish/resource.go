package redfish

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
)

// getResource answers GET and HEAD.
func (s *Server) getResource(w http.ResponseWriter, r *http.Request, k string) {
	if d, ok := s.tree.docs[k]; ok && d.xml {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write(d.body)
		return
	}
	if k == "/redfish/v1/$metadata" {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, metadata)
		return
	}
	o, ok := s.render(k)
	if !ok {
		s.fail(w, http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "There is no resource at "+r.URL.Path+".")
		return
	}
	tag := etag(o)
	if r.Header.Get("If-None-Match") == tag {
		w.Header().Set("ETag", tag)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.reply(w, http.StatusOK, o)
}

const metadata = `<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0"><edmx:DataServices><Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service"><EntityContainer Name="Service" Extends="ServiceRoot.v1_0_0.ServiceContainer"/></Schema></edmx:DataServices></edmx:Edmx>
`

// render returns the resource at k with everything live laid over it.
func (s *Server) render(k string) (object, bool) {
	if s.cfg.Identity.MACs != nil && strings.HasPrefix(k, key(s.v.system)+"/ethernetinterfaces") {
		return s.renderNIC(k)
	}
	lookup := k
	if k == key(s.v.settings()) && s.m.Faults().Get().BootViaSettings {
		lookup = key(s.v.system)
	}
	o, ok := s.tree.get(lookup)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	maps.Copy(o, s.patched[lookup])
	s.mu.Unlock()
	switch lookup {
	case "/redfish/v1":
		if id := s.cfg.Identity.UUID; id != "" {
			o["UUID"] = id
		}
	case key(s.v.system):
		s.overlaySystem(o)
	default:
		// Chassis repeat the power state of the system they hold.
		if _, has := o["PowerState"]; has && strings.HasPrefix(k, "/redfish/v1/chassis/") {
			o["PowerState"] = s.powerState()
		}
	}
	if lookup != k {
		o["@odata.id"] = s.v.settings()
		delete(o, "@Redfish.Settings")
	}
	return o, true
}

// renderNIC shows the machine's own NICs in place of the tree's, because a
// controller matches machines by MAC.
func (s *Server) renderNIC(k string) (object, bool) {
	base := strings.TrimRight(s.v.system, "/") + "/EthernetInterfaces"
	rest := strings.TrimPrefix(k[len(key(base)):], "/")
	if rest == "" {
		members := []any{}
		for i := range s.cfg.Identity.MACs {
			members = append(members, object{"@odata.id": fmt.Sprintf("%s/%d", base, i+1)})
		}
		return object{
			"@odata.id": base, "@odata.type": "#EthernetInterfaceCollection.EthernetInterfaceCollection",
			"Name": "Ethernet interfaces", "Members": members, "Members@odata.count": len(members),
		}, true
	}
	for i, mac := range s.cfg.Identity.MACs {
		if rest == fmt.Sprint(i+1) {
			return object{
				"@odata.id": base + "/" + rest, "@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface",
				"Id": rest, "Name": "NIC " + rest, "MACAddress": mac.String(), "PermanentMACAddress": mac.String(),
				"InterfaceEnabled": true, "LinkStatus": "LinkUp", "Status": object{"State": "Enabled", "Health": "OK"},
			}, true
		}
	}
	return nil, false
}

// keep stores properties that were patched and mean nothing to the machine
// (asset tag, indicator), so that they read back.
func (s *Server) keep(p string, props object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.patched[key(p)]
	if old == nil {
		old = object{}
		s.patched[key(p)] = old
	}
	for name, value := range props {
		if len(old) < 100 && !strings.HasPrefix(name, "@") {
			old[name] = value
		}
	}
}

// etag is a weak tag over the content, so it changes exactly when that does.
func etag(o object) string {
	delete(o, "@odata.etag")
	b, _ := json.Marshal(o)
	sum := sha256.Sum256(b)
	return `W/"` + hex.EncodeToString(sum[:8]) + `"`
}

// matches checks If-Match (DSP0266, section 7.6) and answers if it refuses.
func (s *Server) matches(w http.ResponseWriter, r *http.Request, tag string) bool {
	f := s.m.Faults().Get()
	asked := r.Header.Get("If-Match")
	switch {
	case asked == "" && f.NeedIfMatch:
		s.fail(w, http.StatusPreconditionRequired, "Base.1.8.PreconditionRequired", "Send If-Match with the resource's ETag.")
		return false
	case asked == "" || asked == "*" || asked == tag || f.StaleIfMatchAccepted:
		return true
	}
	s.fail(w, http.StatusPreconditionFailed, "Base.1.8.PreconditionFailed", "The resource has changed; fetch it again.")
	return false
}

// maxBody bounds what a client may send.
const maxBody = 1 << 20

// body reads a JSON object, or answers why it is none.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (object, bool) {
	var o object
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&o)
	if err != nil || o == nil {
		s.fail(w, http.StatusBadRequest, "Base.1.8.MalformedJSON", "The body is not a JSON object.")
		return nil, false
	}
	return o, true
}

// reply sends a resource with its ETag in header and body.
func (s *Server) reply(w http.ResponseWriter, status int, o object) {
	if _, isResource := o["@odata.id"]; isResource {
		tag := etag(o)
		o["@odata.etag"] = tag
		w.Header().Set("ETag", tag)
	}
	b, err := json.Marshal(o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// fail sends Redfish's error body (DSP0266, section 8.6).
func (s *Server) fail(w http.ResponseWriter, status int, id, text string) {
	s.reply(w, status, object{"error": object{
		"code": id, "message": text,
		"@Message.ExtendedInfo": []any{object{"@odata.type": "#Message.v1_1_2.Message", "MessageId": id, "Message": text, "Severity": "Critical"}},
	}})
}
