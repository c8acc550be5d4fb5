package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// The designs that are compared.
const (
	byHTTP  = "http"
	byChain = "chain"
	byRelay = "relay"
)

// setting is one row to be measured.
type setting struct {
	design string
	n      int
	uplink float64 // links
	slow   int     // machines with an eighth of a link
	killed int
	cut    bool // they are cut off, not killed
	images int  // at once, each for its share of the machines
	small  bool // an eighth of the image
}

func (s setting) name() string {
	name := fmt.Sprintf("%s n=%d uplink=%gx", s.design, s.n, s.uplink)
	if s.slow > 0 {
		name += fmt.Sprintf(" slow=%d", s.slow)
	}
	if s.killed > 0 {
		name += fmt.Sprintf(" killed=%d", s.killed)
	}
	if s.cut {
		name += " cut"
	}
	if s.images > 1 {
		name += fmt.Sprintf(" images=%d", s.images)
	}
	return name
}

// settings are what is measured, in turn.
func settings(short bool) []setting {
	if short {
		return []setting{
			{design: byHTTP, n: 4, uplink: 1},
			{design: byRelay, n: 4, uplink: 1},
			{design: byRelay, n: 4, uplink: 10, killed: 1},
		}
	}
	var all []setting
	for _, n := range []int{8, 32, 64} {
		for _, uplink := range []float64{1, 10} {
			all = append(all, setting{design: byHTTP, n: n, uplink: uplink, small: true},
				setting{design: byChain, n: n, uplink: uplink}, setting{design: byRelay, n: n, uplink: uplink})
		}
	}
	return append(all,
		setting{design: byChain, n: 32, uplink: 1, slow: 2},
		setting{design: byRelay, n: 32, uplink: 1, slow: 2},
		setting{design: byRelay, n: 64, uplink: 1, slow: 2},
		setting{design: byRelay, n: 64, uplink: 10, slow: 2},
		setting{design: byChain, n: 64, uplink: 10, killed: 9},
		setting{design: byRelay, n: 64, uplink: 1, killed: 9},
		setting{design: byRelay, n: 64, uplink: 10, killed: 9},
		setting{design: byRelay, n: 64, uplink: 10, killed: 9, cut: true},
		setting{design: byRelay, n: 64, uplink: 10, slow: 2, killed: 9},
		setting{design: byHTTP, n: 64, uplink: 10, images: 2, small: true},
		setting{design: byRelay, n: 64, uplink: 1, images: 2},
		setting{design: byRelay, n: 64, uplink: 10, images: 2},
	)
}

// bench is what all rows share.
type bench struct {
	dir     string
	made    bool // dir is ours
	verbose bool
	lan     *lan // nil: links are shaped by the processes
	link    float64
	frames  int
	images  map[bool][]picture // by setting.small
	self    string
	alone   map[string]time.Duration // by uplink and image
}

func newBench(ctx context.Context, dir, shape string, short bool) (b *bench, err error) {
	b = &bench{dir: dir, link: 1.1e6, frames: 560, images: map[bool][]picture{}, alone: map[string]time.Duration{}}
	most := 64
	if short {
		b.link, b.frames, most = 2e6, 64, 4
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if dir == "" {
		b.made = true
		if b.dir, err = os.MkdirTemp("/dev/shm", "massbench-"); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if shape != "process" {
		b.lan, err = newLan(ctx, most)
		if err != nil && shape == "auto" {
			fmt.Fprintln(os.Stderr, "massbench: processes limit themselves, for there is no network to be had:", err)
			b.lan, err = nil, nil
		}
		if err != nil {
			return b, err
		}
	}
	store := filepath.Join(b.dir, "images")
	if err := os.MkdirAll(store, 0o755); err != nil {
		return b, err
	}
	for _, small := range []bool{false, true} {
		for seed := range uint64(2) {
			frames := b.frames
			if small {
				frames /= 8
			}
			p, err := makeImage(ctx, store, seed+1, frames)
			if err != nil {
				return b, err
			}
			b.images[small] = append(b.images[small], p)
		}
	}
	return b, nil
}

func (b *bench) close() error {
	err := b.lan.close()
	b.lan = nil
	if b.made {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

// all measures the rows that are asked for.
func (b *bench) all(ctx context.Context, match *regexp.Regexp) ([]row, error) {
	short := b.frames < 100
	var rows []row
	for _, s := range settings(short) {
		if !match.MatchString(s.name()) {
			continue
		}
		one, first, err := b.oneAlone(ctx, s)
		if err != nil {
			return rows, err
		}
		if first != nil {
			rows = append(rows, *first)
			fmt.Println(first)
		}
		r, err := b.measure(ctx, s)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", s.name(), err)
		}
		r.LastOverOne = r.LastSeconds / one.Seconds()
		rows = append(rows, *r)
		fmt.Println(r)
	}
	return rows, nil
}

// oneAlone is how long one machine takes by HTTP on the same links; its row is
// given the first time.
func (b *bench) oneAlone(ctx context.Context, s setting) (time.Duration, *row, error) {
	alone := setting{design: byHTTP, n: 1, uplink: s.uplink, small: s.small}
	key := fmt.Sprint(alone)
	if one, ok := b.alone[key]; ok {
		return one, nil, nil
	}
	r, err := b.measure(ctx, alone)
	if err != nil {
		return 0, nil, fmt.Errorf("one machine alone: %w", err)
	}
	r.LastOverOne = 1
	b.alone[key] = time.Duration(r.LastSeconds * float64(time.Second))
	return b.alone[key], r, nil
}
