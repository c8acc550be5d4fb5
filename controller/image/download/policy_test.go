package download

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for want, list := range map[string]string{
		"loopback":               "127.0.0.1 127.9.9.9 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::",
		"link-local":             "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
		"metadata":               "fd00:ec2::254 100.100.100.200 192.0.0.192 168.63.129.16",
		"no address of a server": "0.0.0.0 0.1.2.3 :: ::7f00:1 224.0.0.1 ff02::1 255.255.255.255 240.0.0.1 2001:0:1::",
	} {
		for s := range strings.FieldsSeq(list) {
			if _, err := (Policy{}).zoneOf(netip.MustParseAddr(s)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want it refused as %s", s, err, want)
			}
		}
	}
	for s := range strings.FieldsSeq("10.1.2.3 172.31.0.1 192.168.1.1 100.64.0.1 fd12::1 ::ffff:10.0.0.1 64:ff9b::a00:1") {
		a := netip.MustParseAddr(s)
		if z, err := (Policy{}).zoneOf(a); err != nil || z != inner {
			t.Errorf("%s: got zone %d, %v; want it inner", s, z, err)
		}
		if _, err := (Policy{RefusePrivate: true}).zoneOf(a); !errors.Is(err, ErrRefused) {
			t.Errorf("%s where private is refused: got %v, want %v", s, err, ErrRefused)
		}
	}
	for s := range strings.FieldsSeq("1.1.1.1 2606:4700::1 172.32.0.1 64:ff9b::101:101") {
		if z, err := (Policy{RefusePrivate: true}).zoneOf(netip.MustParseAddr(s)); err != nil || z != public {
			t.Errorf("%s: got zone %d, %v; want it public", s, z, err)
		}
	}
	if z, err := lab.zoneOf(netip.MustParseAddr("::ffff:127.0.0.1")); err != nil || z != inner {
		t.Errorf("allowed loopback: got zone %d, %v", z, err)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, u := range []string{
		"file:///etc/passwd", "ftp://host/x", "gopher://host/", "/etc/passwd", "", "http://", "https:///x", "http://user@host/", "http://user:secret@host/x",
		"http://localhost/", "http://LOCALHOST./", "http://127.0.0.1/", "http://[::1]:80/", "http://169.254.169.254/latest", "http://[fe80::1%25eth0]/",
		"http://[::ffff:127.0.0.1]/", "http://host\x7f/", "http://" + strings.Repeat("a", 5000),
	} {
		if err := client(Policy{}).Check(u); !errors.Is(err, ErrRefused) {
			t.Errorf("%.60q: got %v, want %v", u, err, ErrRefused)
		}
		if err := client(Policy{}).Check(u); strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: its password is told: %v", u, err)
		}
	}
	for _, u := range []string{"http://mirror.example/debian.raw.xz", "https://10.0.0.5:8443/a?b=c", "HTTP://mirror/x"} {
		if err := client(Policy{}).Check(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// A name may resolve to anything, and to something else the second time: what
// counts is the address that is dialled.
func TestNamesAreJudgedByTheAddressDialled(t *testing.T) {
	t.Parallel()
	served := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("secret")) }))
	port := served[strings.LastIndex(served, ":"):]
	c := client(Policy{})
	c.resolver = resolverTo(t, [4]byte{127, 0, 0, 1})
	var got memory
	if _, err := c.Fetch(t.Context(), Request{URL: "http://mirror.example" + port + "/x"}, &got); !errors.Is(err, ErrRefused) || got.Len() != 0 {
		t.Errorf("got %q, %v; want %v", got.String(), err, ErrRefused)
	}
	c = client(lab)
	c.resolver = resolverTo(t, [4]byte{127, 0, 0, 1})
	if _, err := c.Fetch(t.Context(), Request{URL: "http://mirror.example" + port + "/x"}, &got); err != nil || got.String() != "secret" {
		t.Errorf("where it is allowed: got %q, %v", got.String(), err)
	}
}

// resolverTo asks a name server of ours, which answers every name with addr.
func resolverTo(t *testing.T, addr [4]byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: addr},
				}}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteToUDP(out, from)
			}
		}
	}()
	dialer := &net.Dialer{}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func TestRedirectsLeadOutwardsOnly(t *testing.T) {
	t.Parallel()
	c := client(lab)
	target := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("secret")) }))
	for _, to := range []string{"http://169.254.169.254/latest", "file:///etc/passwd", "http://user:pw@127.0.0.1/", "http://[::1]:1/", "ftp://127.0.0.1/"} {
		url := serve(t, http.RedirectHandler(to, http.StatusFound))
		if _, err := c.Fetch(t.Context(), Request{URL: url}, &memory{}); !errors.Is(err, ErrRefused) {
			t.Errorf("to %s: got %v, want %v", to, err, ErrRefused)
		}
	}
	// Inner to inner is a site's own affair; from outside it is not.
	first := serve(t, http.RedirectHandler(target, http.StatusFound))
	if _, err := c.Fetch(t.Context(), Request{URL: first}, &memory{}); err != nil {
		t.Errorf("inner to inner: %v", err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.get(t.Context(), way{url: u, outer: true}, http.Header{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "public address to the inner") {
		t.Errorf("from outside: got %v, want %v", err, ErrRefused)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
			return
		}
		w.Write([]byte("fine"))
	}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(secure.Close)
	p := lab
	p.RootCAs = secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var got memory
	if _, err := client(p).Fetch(t.Context(), Request{URL: secure.URL}, &got); err != nil || got.String() != "fine" {
		t.Errorf("got %q, %v", got.String(), err)
	}
	if _, err := client(p).Fetch(t.Context(), Request{URL: secure.URL + "/down"}, &memory{}); !errors.Is(err, ErrRefused) {
		t.Errorf("https to http: got %v, want %v", err, ErrRefused)
	}
	// A certificate that nobody vouches for is not tried again.
	if _, err := client(lab).Fetch(t.Context(), Request{URL: secure.URL}, &memory{}); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("unknown CA: got %v, want the certificate's error at once", err)
	}
}

func TestProxyOnlyWhereStated(t *testing.T) {
	var through []string
	proxy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through = append(through, r.URL.String())
		w.Write([]byte("by proxy"))
	}))
	t.Setenv("HTTP_PROXY", proxy)
	if _, err := client(lab).Fetch(t.Context(), Request{URL: serve(t, &mirror{file: []byte("direct")})}, &memory{}); err != nil || len(through) != 0 {
		t.Errorf("environment: went through %v, %v", through, err)
	}
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	var got memory
	c := client(Policy{Proxy: u})
	if _, err := c.Fetch(t.Context(), Request{URL: "http://mirror.example/x"}, &got); err != nil || got.String() != "by proxy" {
		t.Errorf("stated: got %q, %v", got.String(), err)
	}
	if err := c.Check("http://169.254.169.254/"); !errors.Is(err, ErrRefused) {
		t.Errorf("an address behind a proxy: got %v, want %v", err, ErrRefused)
	}
}
