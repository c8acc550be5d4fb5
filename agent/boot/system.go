package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Why an installed system cannot be started by kexec. The caller reboots
// instead, with the error as the reason.
var (
	// ErrNoConfig: no boot loader configuration that we read was found.
	ErrNoConfig = errors.New("no GRUB configuration and no boot loader entries on the installed disk")
	// ErrNoEntry: the configuration has no Linux entry that it would start by itself.
	ErrNoEntry = errors.New("boot loader configuration starts no Linux kernel by default")
	// ErrNoFile: the entry names a kernel or initrd that is not there.
	ErrNoFile = errors.New("kernel or initrd is not where the boot loader configuration says")
	// ErrNotAllowed: this kernel may not kexec, or not that kernel.
	ErrNotAllowed = errors.New("kexec is not allowed")
)

// System is what a boot loader would start.
type System struct {
	// Title of the entry, and the file that it was read from.
	Title, From string
	// Kernel and Initrds are absolute paths within one of the filesystems.
	Kernel  string
	Initrds []string
	// Args is the kernel's command line, as configured.
	Args string
}

const (
	maxConfig  = 1 << 20 // bytes of one configuration file
	maxEntries = 1024
	maxInitrds = 16
	maxLoaded  = 1 << 30 // bytes of a kernel or of all initrds
	maxArgs    = 2047    // bytes of a command line (COMMAND_LINE_SIZE of x86, less the zero)
)

// FindSystem reads what the boot loader installed on the mounted filesystems
// would start by itself. A separate boot partition goes before the root
// filesystem; nothing is written. Errors wrap ErrNoConfig or ErrNoEntry, or say
// what in a configuration cannot be read.
func FindSystem(filesystems []string) (System, error) {
	for _, mount := range filesystems {
		for _, config := range []string{"/boot/grub/grub.cfg", "/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub2/grub.cfg"} {
			data, err := readIn(mount, config)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return System{}, fmt.Errorf("read %s: %w", config, err)
			}
			g := newGRUB(mount, path.Dir(config))
			if err := g.read(string(data)); err != nil {
				return System{}, fmt.Errorf("read %s: %w", config, err)
			}
			if g.wantsEntries {
				return findEntry(filesystems, g.vars)
			}
			s, err := g.choose()
			s.From = config
			return s, err
		}
	}
	return findEntry(filesystems, nil)
}

// openIn opens a regular file on a mounted filesystem. Links are followed as the
// installed system would see them: an absolute one starts at the mount
// point. Nothing outside it can be reached.
func openIn(mount, file string) (*os.File, error) {
	root, err := os.OpenRoot(mount)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := path.Clean("/" + file)
	for range 8 {
		f, err := openAt(root, name)
		if err == nil {
			return regular(f)
		}
		target, linkErr := root.Readlink("." + name)
		if linkErr != nil || !path.IsAbs(target) {
			return nil, err
		}
		name = path.Clean(target)
	}
	return nil, fmt.Errorf("%s: too many links", file)
}

// openAt opens without waiting: a named pipe in an image would have nobody at
// its other end, for ever.
func openAt(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile("."+name, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func regular(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err == nil && info.Size() > maxLoaded {
		err = fmt.Errorf("%s has %d bytes, more than %d", f.Name(), info.Size(), maxLoaded)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func readIn(mount, file string) ([]byte, error) {
	f, err := openIn(mount, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes", file, maxConfig)
	}
	return data, err
}

// locate opens a path of an entry on the first filesystem that has it. Below a
// root filesystem it may also stand in /boot, since a path counts from the
// filesystem that the loader calls its root.
func locate(filesystems []string, file string) (*os.File, error) {
	var errs []error
	for _, mount := range filesystems {
		for _, candidate := range []string{file, path.Join("/boot", file)} {
			f, err := openIn(mount, candidate)
			if err == nil {
				return f, nil
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return nil, errors.Join(append(errs, fmt.Errorf("%w: %.200s", ErrNoFile, file))...)
}

// check refuses what the kernel could not take or what was not meant.
func (s System) check() error {
	if s.Kernel == "" {
		return fmt.Errorf("entry %.80q: %w", s.Title, ErrNoEntry)
	}
	if len(s.Initrds) > maxInitrds {
		return fmt.Errorf("entry %.80q has %d initrds, more than %d", s.Title, len(s.Initrds), maxInitrds)
	}
	if len(s.Args) > maxArgs || strings.ContainsFunc(s.Args, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("entry %.80q: command line is longer than %d bytes or holds control characters", s.Title, maxArgs)
	}
	if slices.Contains(s.Initrds, "") {
		return fmt.Errorf("entry %.80q: an initrd has no name", s.Title)
	}
	return nil
}
