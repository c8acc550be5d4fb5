package redfish

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxSessions is what small BMCs really have.
const maxSessions = 8

// sessionTimeout matches the built-in SessionService.
const sessionTimeout = 30 * time.Minute

type session struct {
	id, user string
	last     time.Time
}

// touchSession finds a token's session and renews it.
func (s *Server) touchSession(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.sessions[token]
	if !ok || time.Since(x.last) > sessionTimeout {
		delete(s.sessions, token)
		return false
	}
	x.last = time.Now()
	return true
}

// serveSessions answers for the session collection and its members.
func (s *Server) serveSessions(w http.ResponseWriter, r *http.Request, k string) {
	base := key(s.v.sessions)
	id := strings.TrimPrefix(strings.TrimPrefix(k, base), "/")
	switch {
	case (id == "" || id == "members") && r.Method == http.MethodPost:
		s.login(w, r)
	case id == "" && r.Method == http.MethodGet:
		s.listSessions(w)
	case id != "" && (r.Method == http.MethodDelete || r.Method == http.MethodGet):
		s.oneSession(w, r, id)
	default:
		s.fail(w, http.StatusMethodNotAllowed, "Base.1.8.OperationNotAllowed", r.Method+" is not possible here.")
	}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	req, ok := s.body(w, r)
	if !ok {
		return
	}
	user, _ := req["UserName"].(string)
	pass, _ := req["Password"].(string)
	if !s.credentials(user, pass) {
		s.fail(w, http.StatusUnauthorized, "Base.1.8.ResourceAtUriUnauthorized", "Wrong user or password.")
		return
	}
	s.mu.Lock()
	for token, x := range s.sessions {
		if time.Since(x.last) > sessionTimeout {
			delete(s.sessions, token)
		}
	}
	if len(s.sessions) >= maxSessions || s.m.Faults().Get().NoSessions {
		s.mu.Unlock()
		s.fail(w, http.StatusServiceUnavailable, "Base.1.8.SessionLimitExceeded", "All sessions are in use.")
		return
	}
	s.nextID++
	x, token := &session{id: fmt.Sprint(s.nextID), user: user, last: time.Now()}, rand.Text()
	s.sessions[token] = x
	s.mu.Unlock()
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", s.sessionPath(x))
	s.reply(w, http.StatusCreated, s.sessionObject(x))
}

func (s *Server) sessionPath(x *session) string {
	return strings.TrimRight(s.v.sessions, "/") + "/" + x.id
}

func (s *Server) sessionObject(x *session) object {
	return object{
		"@odata.id": s.sessionPath(x), "@odata.type": "#Session.v1_5_0.Session",
		"Id": x.id, "Name": "User session", "UserName": x.user, "Password": nil,
	}
}

func (s *Server) listSessions(w http.ResponseWriter) {
	s.mu.Lock()
	members := []any{}
	for _, x := range s.sessions {
		members = append(members, object{"@odata.id": s.sessionPath(x)})
	}
	s.mu.Unlock()
	s.reply(w, http.StatusOK, object{
		"@odata.id": s.v.sessions, "@odata.type": "#SessionCollection.SessionCollection", "Name": "Sessions",
		"Members": members, "Members@odata.count": len(members),
	})
}

func (s *Server) oneSession(w http.ResponseWriter, r *http.Request, id string) {
	s.mu.Lock()
	var found *session
	for token, x := range s.sessions {
		if x.id == id {
			found = x
			if r.Method == http.MethodDelete {
				delete(s.sessions, token)
			}
		}
	}
	s.mu.Unlock()
	switch {
	case found == nil:
		s.fail(w, http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "There is no such session.")
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.reply(w, http.StatusOK, s.sessionObject(found))
	}
}
