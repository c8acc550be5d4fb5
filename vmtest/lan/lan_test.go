package lan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestMain is also the child: the test binary starts itself in a namespace.
func TestMain(m *testing.M) {
	if os.Getenv("INGOT_LAN_TEST_CHILD") != "" {
		if err := child(); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child builds the LAN and serves one echo connection, that came from the
// host's namespace, by a server that listens only in here.
func child() error {
	l, err := Up(Config{})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := taps(l); err != nil {
		return err
	}
	if err := l.AddAddress(netip.MustParsePrefix("10.99.0.11/24")); err != nil {
		return err
	}
	echo, err := net.Listen("tcp", "10.99.0.11:623") // a low port needs its capability
	if err != nil {
		return err
	}
	ln, err := Inherited("echo")
	if err != nil {
		return err
	}
	l.Forward(ln, "10.99.0.11:623")
	c, err := echo.Accept()
	if err != nil {
		return err
	}
	_, err = io.Copy(c, c)
	fmt.Println("uid", os.Getuid())
	err = errors.Join(err, c.Close())
	// Closing the LAN cuts forwards off, so stay until the parent has read.
	_, _ = io.Copy(io.Discard, os.Stdin)
	return err
}

// taps tries the taps, or the error where the device node is for root only
// (udev opens it to all, some containers do not).
func taps(l *LAN) error {
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		err := l.AddTap("tap0")
		if err == nil || !strings.Contains(err.Error(), "chmod 0666 /dev/net/tun") {
			return fmt.Errorf("a closed /dev/net/tun gives the error: %v", err)
		}
		fmt.Println("NOT RUN: taps as this user, /dev/net/tun is closed to it")
		return nil
	} else {
		f.Close()
	}
	if err := errors.Join(l.AddTap("tap0"), l.AddTap("tap1"), l.SetCable("tap1", false), l.RemoveTap("tap1")); err != nil {
		return err
	}
	tap, err := netlink.LinkByName("tap0")
	if err != nil {
		return err
	}
	br, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	if tap.Attrs().MasterIndex != br.Attrs().Index || br.Attrs().HardwareAddr.String() != bridgeMAC.String() {
		return fmt.Errorf("tap's master %d, bridge %d with MAC %s", tap.Attrs().MasterIndex, br.Attrs().Index, br.Attrs().HardwareAddr)
	}
	return nil
}

func testChild(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := Command(ctx, "/proc/self/exe")
	c.Env = append(c.Env, "INGOT_LAN_TEST_CHILD=1")
	if err := Pass(c, "echo", ln); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	stay, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := Explain(c.Start()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "through"); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // for a child that failed early
	got, _ := io.ReadAll(conn)
	stay.Close()
	if err := c.Wait(); err != nil {
		t.Fatalf("child: %v\n%s", err, out.String())
	}
	if string(got) != "through" {
		t.Errorf("echo through the namespace: got %q, want %q", got, "through")
	}
	return out.String()
}

func TestChildInNamespace(t *testing.T) {
	out := testChild(t)
	t.Log(out)
	if want := fmt.Sprintf("uid %d", os.Getuid()); !strings.Contains(out, want) {
		t.Errorf("child said %q, want %q in it", out, want)
	}
}

// Root walks the way of ordinary users too, by starting this test as nobody.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // TestChildInNamespace was that already
	}
	exe := t.TempDir() + "/lan.test"
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := exe; len(dir) > len(os.TempDir()); dir = dir[:strings.LastIndex(dir, "/")] {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(exe, "-test.run", "TestChildInNamespace", "-test.v")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	t.Logf("as nobody:\n%s", out)
	if err != nil {
		t.Error(err)
	}
}

func TestUpRefusesTheHost(t *testing.T) {
	if _, err := Up(Config{}); err == nil {
		t.Fatal("Up made a bridge in the host's namespace")
	}
}

func TestCheck(t *testing.T) {
	if err := Check(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestExplain(t *testing.T) {
	if Explain(nil) != nil {
		t.Error("Explain(nil) is an error")
	}
	err := Explain(fmt.Errorf("start: %w", unix.EPERM))
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, which hides its cause", err)
	}
}
