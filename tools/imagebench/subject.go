package main

import (
	"slices"

	"github.com/ingot-metal/ingot/vmtest/image"
)

// subject is one image that is written again and again.
type subject struct {
	name       string
	raw        string // path of the raw disk
	sectorSize int
	next       map[image.Next]string // raw disks of what became of it
}

func contains(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
