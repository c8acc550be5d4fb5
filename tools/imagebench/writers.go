package main

import (
	"fmt"
	"os/exec"
)

// peer is a way to put an image on a disk that somebody would use instead of ours.
type peer struct {
	name string
	// input is the ending of the file that it reads, under the server's /inputs/.
	input string
	// transport is how that file reaches it.
	transport string
	// tools that must be installed.
	tools []string
	// stages are programs, each reading what the one before it writes.
	stages func(p place) [][]string
	// sync says that the tool does not flush by itself: sync(1) follows, in the time.
	sync bool
}

// place is where a peer finds its input and what it writes to.
type place struct {
	url  string // of its input, without the ending
	path string // of its input as a file, without the ending
	dest string
}

// dd writes as one who wants to be quick does: whole blocks, past the page
// cache, nothing where the image has zeros, flushed.
func dd(dest string) []string {
	return []string{"dd", "of=" + dest, "bs=4M", "iflag=fullblock", "oflag=direct", "conv=sparse,notrunc,fsync", "status=none"}
}

func pipe(name, ending string, unpack ...string) peer {
	return peer{name: name, input: ending, transport: "http", tools: []string{"curl", unpack[0], "dd"},
		stages: func(p place) [][]string {
			return [][]string{{"curl", "-fsS", p.url + ending}, unpack, dd(p.dest)}
		}}
}

// reference is the writer that all are compared with.
const reference = "zstd-pipe"

// peers in the order of the table.
func peers() []peer {
	return []peer{
		pipe(reference, ".raw.zst", "zstd", "-dc"),
		pipe("gzip-pipe", ".raw.gz", "gzip", "-dc"),
		pipe("lz4-pipe", ".raw.lz4", "lz4", "-dc"),
		{name: "bmaptool", input: ".raw.gz", transport: "http", tools: []string{"bmaptool"}, sync: true,
			stages: func(p place) [][]string {
				return [][]string{{"bmaptool", "-q", "copy", "--no-sig-verify", "--bmap", p.path + ".bmap", p.url + ".raw.gz", p.dest}}
			}},
		qemuImg("qemu-img-qcow2", ".qcow2"),
		qemuImg("qemu-img-qcow2-zstd", ".zstd.qcow2"),
		{name: "casync", input: ".caibx", transport: "http", tools: []string{"casync"}, sync: true,
			stages: func(p place) [][]string {
				return [][]string{{"casync", "extract", "--store=" + p.url + ".castr", p.url + ".caibx", p.dest}}
			}},
	}
}

// qemuImg reads from a file in the page cache, as the server does for the
// others, and is spared the network: its HTTP driver is a package of its own.
func qemuImg(name, ending string) peer {
	return peer{name: name, input: ending, transport: "file", tools: []string{"qemu-img"}, sync: true,
		stages: func(p place) [][]string {
			return [][]string{{"qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", "-t", "none", p.path + ending, p.dest}}
		}}
}

// missing names the first tool of the peer that is not installed.
func (p peer) missing() error {
	for _, t := range p.tools {
		if _, err := exec.LookPath(t); err != nil {
			return fmt.Errorf("%s left out: %s is not installed", p.name, t)
		}
	}
	return nil
}
