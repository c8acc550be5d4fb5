package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/vmtest/lan"
)

const (
	apiPort = "8443"
	// startLimit covers initdb and migrations on a busy machine.
	startLimit = 3 * time.Minute
	stopLimit  = 30 * time.Second
)

// Controller is an ingotd process of the lab. It may be killed and started
// again; its data directory stays.
type Controller struct {
	cfg     Config
	data    string
	bridge  string
	address string
	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	token   string
}

func newController(cfg Config, network *lan.LAN) (*Controller, error) {
	return &Controller{
		cfg: cfg, data: filepath.Join(cfg.Dir, "ingotd"), bridge: network.Bridge(), address: network.Addr().Addr().String() + ":" + apiPort,
	}, nil
}

// Address is where the API listens inside the lab.
func (c *Controller) Address() string { return c.address }

// DataDir is the controller's data directory.
func (c *Controller) DataDir() string { return c.data }

// CAFile holds the certificate that clients pin.
func (c *Controller) CAFile() string { return filepath.Join(c.data, "ca.pem") }

func (c *Controller) tokenFile() string { return filepath.Join(c.cfg.Dir, "admin-token") }

// Token is the admin token that ingotd printed when it first started.
func (c *Controller) Token() string { return c.token }

// Start starts ingotd and returns when it says that it is ready.
func (c *Controller) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	logFile, err := os.OpenFile(filepath.Join(c.cfg.Dir, "ingotd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	args := append([]string{
		"--interface", c.bridge, "--data-dir", c.data, "--boot-dir", c.cfg.BootDir, "--listen", c.address,
		"--dhcp-range", dhcpFrom + "-" + dhcpTo, "--router-advertise", "--agent-console", "ttyS0,115200",
	}, c.cfg.ExtraArgs...)
	cmd := exec.Command(filepath.Join(c.cfg.Programs, "ingotd"), args...)
	cmd.Stderr = logFile
	// A lab that is killed must not leave a controller that meets the next one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return errors.Join(err, logFile.Close())
	}
	begun, ready, ended := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is that of the thread
		defer runtime.UnlockOSThread()
		defer close(ended)
		defer logFile.Close()
		err := cmd.Start()
		begun <- err
		if err == nil {
			c.readOutput(out, logFile, ready)
			_ = cmd.Wait() // its end is what matters here; how it ended is in its log
		}
	}()
	if err := <-begun; err != nil {
		return fmt.Errorf("start ingotd: %w", err)
	}
	c.mu.Lock()
	c.process, c.ended = cmd, ended
	c.mu.Unlock()
	select {
	case <-ready:
		return c.loadToken()
	case <-ended:
		return fmt.Errorf("ingotd ended before it was ready; see %s", logFile.Name())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("ingotd is not ready after %s; see %s", startLimit, logFile.Name()), c.Kill())
	}
}

// readOutput finds the lines that ingotd prints for whoever started it.
func (c *Controller) readOutput(out io.Reader, log io.Writer, ready chan struct{}) {
	lines := bufio.NewScanner(out)
	said := false
	for lines.Scan() {
		line := lines.Text()
		if token, ok := strings.CutPrefix(line, "admin token: "); ok {
			_ = os.WriteFile(c.tokenFile(), []byte(token+"\n"), 0o600)
			continue
		}
		fmt.Fprintln(log, line)
		if strings.HasPrefix(line, "ready: ") && !said {
			said = true
			close(ready)
		}
	}
}

func (c *Controller) loadToken() error {
	data, err := os.ReadFile(c.tokenFile())
	if err != nil {
		return fmt.Errorf("read the admin token that ingotd printed: %w", err)
	}
	c.token = strings.TrimSpace(string(data))
	return nil
}

// Kill ends ingotd as kill -9 does and waits for its end.
func (c *Controller) Kill() error { return c.end(syscall.SIGKILL) }

// Stop ends ingotd in good order and waits for its end.
func (c *Controller) Stop() error { return c.end(syscall.SIGTERM) }

func (c *Controller) end(s syscall.Signal) error {
	c.mu.Lock()
	cmd, ended := c.process, c.ended
	c.process = nil
	c.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(stopLimit):
		err := cmd.Process.Kill()
		<-ended
		return errors.Join(fmt.Errorf("ingotd did not end within %s of %v", stopLimit, s), err)
	}
}

// Dial connects to the API from inside the lab.
func (c *Controller) Dial() (*grpc.ClientConn, error) { return dial(c.address, c.CAFile(), c.token) }
