package redfish

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/controller/power"
)

// complaint is an error answer of Redfish (DSP0266, section 8.6).
type complaint struct {
	Error struct {
		Code     string
		Message  string
		Extended []struct {
			MessageID string `json:"MessageId"`
			Message   string
		} `json:"@Message.ExtendedInfo"`
	} `json:"error"`
}

// maxComplaints bounds how many messages of one answer are shown.
const maxComplaints = 3

// words gives what the BMC said, shortened, without the password.
func (c *client) words(a *answer) string {
	var doc complaint
	said := ""
	if json.Unmarshal(a.body, &doc) == nil {
		parts := []string{}
		for i, m := range doc.Error.Extended {
			if i == maxComplaints {
				break
			}
			parts = append(parts, strings.TrimSpace(m.MessageID+" "+m.Message))
		}
		if len(parts) == 0 {
			parts = append(parts, doc.Error.Message)
		}
		said = strings.Join(parts, "; ")
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", a.status, http.StatusText(a.status),
		power.Clean(said, c.target.Password)))
}

// sessionsExhausted recognises a BMC that is out of sessions, whatever the
// status it says so with.
func (a *answer) sessionsExhausted() bool {
	s := strings.ToLower(string(a.body[:min(len(a.body), 64<<10)]))
	return strings.Contains(s, "sessionlimitexceeded") || strings.Contains(s, "session limit") ||
		strings.Contains(s, "maximum number of user sessions")
}

// check turns an answer that is not 2xx into an error.
func (c *client) check(asked string, a *answer) error {
	said := c.words(a)
	switch s := a.status; {
	case s >= 200 && s < 300:
		return nil
	case s == http.StatusUnauthorized:
		return c.fail(power.ErrCredentials, asked, said, "check user and password with: ingot bmc set", nil)
	case s == http.StatusForbidden:
		return c.fail(power.ErrCredentials, asked, said, "give this user the operator role, or a licence that has this function, at the BMC", nil)
	case s == http.StatusNotImplemented, s == http.StatusNotFound, s == http.StatusMethodNotAllowed, s == http.StatusBadRequest:
		return c.fail(power.ErrUnsupported, asked, said, "update the BMC's firmware, or use IPMI for this machine", nil)
	case s == http.StatusPreconditionFailed, s == http.StatusPreconditionRequired, s == http.StatusConflict,
		s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500:
		return &power.Error{Kind: power.ErrBusy, BMC: c.target.Address(), Asked: asked, Got: said,
			Do: "it is tried again; if it stays so, reset the BMC", RetryAfter: retryAfter(a.header.Get("Retry-After"))}
	case s >= 300 && s < 400:
		return c.fail(power.ErrProtocol, asked, said+", a redirect without a target that may be followed", "check the address", nil)
	}
	return c.fail(power.ErrProtocol, asked, said, "report this BMC's model and firmware", nil)
}

// retryAfter reads the header's form in seconds; an hour is the most believed.
func retryAfter(v string) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(min(n, 3600))*time.Second, time.Hour)
}
