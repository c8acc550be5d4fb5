package redfish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ingot-metal/ingot/controller/power"
)

const (
	rootPath     = "/redfish/v1/"
	sessionsPath = "/redfish/v1/SessionService/Sessions"
)

// session is how requests prove who asks: by a token, or with the password in
// every request where the BMC offers no session.
type session struct {
	ready bool
	token string
	path  string // of the session's resource, to delete it
}

// header gives what goes into each request.
func (c *client) authHeader() http.Header {
	h := http.Header{}
	if c.session.token != "" {
		h.Set("X-Auth-Token", c.session.token)
	} else {
		req := http.Request{Header: h}
		req.SetBasicAuth(c.target.User, c.target.Password.Reveal())
	}
	return h
}

// login opens a session, or settles for basic authentication where the BMC
// has no sessions or none left.
func (c *client) login(ctx context.Context, basicOnly bool) error {
	if c.session.ready {
		return nil
	}
	if basicOnly {
		c.session = session{ready: true}
		return nil
	}
	const asked = "open session"
	where := sessionsPath
	root, err := c.send(ctx, asked, http.MethodGet, rootPath, nil, nil)
	if err != nil {
		return err
	}
	if root.status < 300 {
		where = sessionsOf(root)
	} else if err := c.check(asked, root); root.status != http.StatusUnauthorized && root.status != http.StatusNotFound {
		return err
	}
	a, err := c.send(ctx, asked, http.MethodPost, where, nil, map[string]string{
		"UserName": c.target.User, "Password": c.target.Password.Reveal(),
	})
	if err != nil {
		return err
	}
	token := a.header.Get("X-Auth-Token")
	switch {
	case a.status >= 200 && a.status < 300 && token != "":
		c.session = session{ready: true, token: token, path: sessionPath(a)}
		return nil
	case a.status >= 200 && a.status < 300, a.sessionsExhausted(),
		a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		c.session = session{ready: true}
		return nil
	case a.status == http.StatusBadRequest:
		// Some BMCs refuse bad credentials with 400; basic will tell which it was.
		c.session = session{ready: true}
		return nil
	}
	return c.check(asked, a)
}

// sessionsOf finds where sessions are made, in the service root's links.
func sessionsOf(root *answer) string {
	var doc struct {
		Links struct{ Sessions link }
	}
	if json.Unmarshal(root.body, &doc) == nil && doc.Links.Sessions.ID != "" {
		return doc.Links.Sessions.ID
	}
	return sessionsPath
}

// sessionPath finds the new session's own path: Location may be a whole URL,
// of which only the path counts.
func sessionPath(a *answer) string {
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Path != "" {
		return u.Path
	}
	var doc link
	_ = json.Unmarshal(a.body, &doc) // without a path the session ends by its own timeout
	return doc.ID
}

// logout deletes the session and drops idle connections.
func (c *client) logout(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	s := c.session
	if s.token == "" || s.path == "" {
		c.session = session{}
		return nil
	}
	a, err := c.send(ctx, "close session", http.MethodDelete, s.path, c.authHeader(), nil)
	c.session = session{}
	if err != nil {
		return fmt.Errorf("redfish session stays open until the BMC ends it: %w", err)
	}
	if a.status == http.StatusNotFound || a.status == http.StatusUnauthorized {
		return nil // it is gone already
	}
	return c.check("close session", a)
}

// do sends with authentication; a session that the BMC has forgotten is opened
// anew once. The answer may have any status.
func (c *client) do(ctx context.Context, asked, method, path string, header http.Header, payload any, basicOnly bool) (*answer, error) {
	for first := true; ; first = false {
		if err := c.login(ctx, basicOnly); err != nil {
			return nil, rename(err, asked)
		}
		h := c.authHeader()
		for k, v := range header {
			h[k] = v
		}
		a, err := c.send(ctx, asked, method, path, h, payload)
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusUnauthorized || c.session.token == "" || !first {
			return a, nil
		}
		c.session = session{}
	}
}

// get reads a document into v.
func (c *client) get(ctx context.Context, asked, path string, v any, basicOnly bool) (*answer, error) {
	a, err := c.do(ctx, asked, http.MethodGet, path, nil, nil, basicOnly)
	if err != nil {
		return nil, err
	}
	if err := c.check(asked, a); err != nil {
		return a, err
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return nil, c.fail(power.ErrProtocol, asked, "the answer for "+power.Clean(path)+" is not the JSON expected: "+power.Clean(err.Error()),
			"check that the address is a Redfish service", err)
	}
	return a, nil
}

// rename tells which call a failed login was for.
func rename(err error, asked string) error {
	if e, ok := err.(*power.Error); ok && e.Asked != asked {
		c := *e
		c.Asked = asked + ", " + e.Asked
		return &c
	}
	return err
}
