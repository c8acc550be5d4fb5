package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-metal/ingot/vmtest/lan"
)

// Client speaks to a lab that was started in the background.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient makes a client of the lab in a directory. It does not connect yet.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socketPath(dir))
	}
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status asks the lab what it has.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	body, err := c.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return s, err
	}
	defer body.Close()
	return s, json.NewDecoder(body).Decode(&s)
}

// Console copies what a machine prints on its serial port, from the beginning,
// until ctx ends.
func (c *Client) Console(ctx context.Context, name string, out io.Writer) error {
	body, err := c.do(ctx, http.MethodGet, "/machine/"+name+"/console")
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(out, body); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// PullPlug cuts a machine's power; its disks lose what was not flushed.
func (c *Client) PullPlug(ctx context.Context, name string) error {
	return c.post(ctx, "/machine/"+name+"/plug")
}

// KillController ends ingotd as kill -9 does and starts it again.
func (c *Client) KillController(ctx context.Context) error { return c.post(ctx, "/controller/kill") }

// Down stops the lab and returns when it is gone.
func (c *Client) Down(ctx context.Context) error {
	if err := c.post(ctx, "/down"); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		held, err := lockHeld(c.dir)
		return !held, err
	})
}

func (c *Client) post(ctx context.Context, path string) error {
	body, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	return body.Close()
}

func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("no lab is up in %s; start one with `ingot lab up`", c.dir)
		}
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return nil, errors.Join(fmt.Errorf("lab: %s", strings.TrimSpace(string(text))), answer.Body.Close())
	}
	return answer.Body, nil
}

// Launch starts a lab in the background: command (which must call Supervise)
// in a namespace of its own, with a port of the host's loopback. It returns
// when the lab is up. The lab outlives the caller.
func Launch(ctx context.Context, dir string, port int, command string, args ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if held, err := lockHeld(dir); err != nil || held {
		return errors.Join(err, fmt.Errorf("a lab is up in %s already; stop it with `ingot lab down`", dir))
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("open the API's port on this host: %w; choose another with --port", err)
	}
	defer listener.Close()
	logFile, err := os.Create(filepath.Join(dir, logName))
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := lan.Command(context.WithoutCancel(ctx), command, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr.Setsid = true
	if err := lan.Pass(cmd, apiListener, listener.(*net.TCPListener)); err != nil {
		return err
	}
	err = cmd.Start()
	for _, f := range cmd.ExtraFiles {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return lan.Explain(err)
	}
	return awaitUp(ctx, dir, cmd, logFile.Name())
}

func awaitUp(ctx context.Context, dir string, cmd *exec.Cmd, logName string) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	client := NewClient(dir)
	return poll(ctx, func() (bool, error) {
		select {
		case err := <-ended:
			return false, fmt.Errorf("the lab ended while it was starting (%v); see %s", err, logName)
		default:
		}
		_, err := client.Status(ctx)
		return err == nil, nil
	})
}

// poll asks again until done, an error, or the end of ctx.
func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
