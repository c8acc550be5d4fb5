package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A lab holds a lock on a file of its directory as long as it lives, so that
// two never share one and the end of one can be seen.

// By these names a directory is known for a lab's: a lab that ended while it was
// starting may have left its log alone.
const (
	lockName = "lab.lock"
	logName  = "lab.log"
)

func lockPath(dir string) string { return filepath.Join(dir, lockName) }

// lock takes the directory's lock; closing the file gives it back.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another lab is up in %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// lockHeld reports whether a lab lives in the directory.
func lockHeld(dir string) (bool, error) {
	f, err := os.Open(lockPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// Clear removes what an earlier lab left in a directory, so that the next one
// starts with nothing. It refuses a directory in which a lab lives, and one that
// is no lab's.
func Clear(dir string) error {
	if held, err := lockHeld(dir); err != nil || held {
		return errors.Join(err, fmt.Errorf("a lab is up in %s; stop it with `ingot lab down`", dir))
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == lockName || e.Name() == logName }) {
		return fmt.Errorf("%s holds something else than a lab; name another directory with --dir", dir)
	}
	return os.RemoveAll(dir)
}
