package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	superuser = "ingot"
	port      = 5432 // of the socket's file name; nothing listens on TCP
	// socketPathMost is what fits into sun_path (108 bytes with its NUL).
	socketPathMost = 107
	socketName     = "/.s.PGSQL.5432"
)

// prepare makes the database if there is none. Half of one, left by a crash, is
// made anew: initdb works beside and is renamed into place.
func (s *Server) prepare(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := s.reachable(filepath.Dir(s.dir)); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(s.dir, "PG_VERSION"))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the database: %w", err)
	}
	if err := empty(s.dir); err != nil {
		return err
	}
	temp := s.dir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return fmt.Errorf("remove a database that was half made: %w", err)
	}
	if err := s.ownDir(temp); err != nil {
		return err
	}
	if err := s.initdb(ctx, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, s.dir); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	return syncDir(filepath.Dir(s.dir))
}

// empty lets a directory that holds nothing pass, and removes it.
func empty(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s is in the way: it is not a database and not empty; move it away", dir)
}

// ownDir makes a directory that is the server's alone.
func (s *Server) ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the database's directory: %w", err)
	}
	if c := s.run.credential; c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			return fmt.Errorf("give the database's directory to user %s: %w", s.run.name, err)
		}
	}
	return nil
}

func (s *Server) initdb(ctx context.Context, dir string) error {
	args := []string{"-D", dir, "-U", superuser, "-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject", "--data-checksums"}
	if s.c.Unsafe {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), args...)
	cmd.Dir, cmd.Env = "/", environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.run.credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the database (initdb as %s): %w: %s", s.run.name, err, lastLines(out))
	}
	return nil
}

// environment is the same whoever starts us: no PG* variable leaks in.
func environment() []string { return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"} }

func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// reachable says which directory keeps the server's user from its data.
func (s *Server) reachable(dir string) error {
	c := s.run.credential
	if c == nil {
		return nil
	}
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return fmt.Errorf("look at the way to the database: %w", err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !mayPass(info.Mode(), st, c) {
			return fmt.Errorf("user %s, who runs the private PostgreSQL, cannot pass directory %s (mode %#o): "+
				"chmod o+x %s, or choose another --data-dir", s.run.name, d, info.Mode().Perm(), d)
		}
		if d == "/" {
			return nil
		}
	}
}

func mayPass(mode fs.FileMode, st *syscall.Stat_t, c *syscall.Credential) bool {
	switch {
	case st.Uid == c.Uid:
		return mode&0o100 != 0
	case st.Gid == c.Gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// socketDir is the database's own directory, or a short one where that path is
// too long for a socket.
func (s *Server) socketDir() (string, error) {
	if len(s.dir)+len(socketName) <= socketPathMost {
		return s.dir, nil
	}
	dir, err := os.MkdirTemp("/tmp", "ingot-pg-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the socket: %w", err)
	}
	if c := s.run.credential; c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			return "", fmt.Errorf("give the socket's directory to user %s: %w", s.run.name, err)
		}
	}
	return dir, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
