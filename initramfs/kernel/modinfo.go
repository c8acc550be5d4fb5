package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Module is what a kernel module says about itself in its .modinfo section.
type Module struct {
	// Name with underscores, as in /proc/modules.
	Name string
	// Path relative to lib/modules/VERSION, with slashes.
	Path string
	// Size of the file in bytes.
	Size int64
	// Depends are names of modules whose symbols it uses.
	Depends []string
	// Soft are names or aliases of modules that should be loaded before it
	// where they exist (softdep pre), in order.
	Soft []string
	// Aliases are patterns of device ids, and further names.
	Aliases []string
	// Firmware are files below /lib/firmware that it may ask for.
	Firmware []string
}

const maxModinfo = 4 << 20

// readModule parses the .modinfo section: strings KEY=VALUE, each ended by a
// zero byte (include/linux/moduleparam.h).
func readModule(r io.ReaderAt, relative, name string) (Module, error) {
	m := Module{Name: normal(name), Path: relative}
	file, err := elf.NewFile(r)
	if err != nil {
		return m, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return m, errors.New("no .modinfo section: not a kernel module")
	}
	if section.Size > maxModinfo {
		return m, fmt.Errorf(".modinfo has %d bytes, more than %d", section.Size, maxModinfo)
	}
	data, err := section.Data()
	if err != nil {
		return m, err
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		k, value, found := strings.Cut(string(entry), "=")
		if found && value != "" {
			m.add(k, value)
		}
	}
	return m, nil
}

func (m *Module) add(k, value string) {
	switch k {
	case "depends":
		for d := range strings.SplitSeq(value, ",") {
			m.Depends = append(m.Depends, normal(d))
		}
	case "softdep":
		m.Soft = append(m.Soft, softPre(value)...)
	case "alias":
		m.Aliases = append(m.Aliases, value)
	case "firmware":
		m.Firmware = append(m.Firmware, value)
	}
}

// softPre returns the names after "pre:" of a softdep line such as
// "pre: crc32c xxhash64 post: foo" (modprobe.d(5)).
func softPre(value string) []string {
	var names []string
	pre := false
	for _, word := range strings.Fields(value) {
		switch word {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				names = append(names, word)
			}
		}
	}
	return names
}

// normal is the form of a module's name in /proc/modules.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }
