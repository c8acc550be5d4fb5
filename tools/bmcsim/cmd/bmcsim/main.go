// Bmcsim runs one simulated BMC with a pretend machine behind it, for trying
// power drivers and tools by hand.
//
//	bmcsim -ipmi 127.0.0.1:6230 -redfish 127.0.0.1:8443 -user admin -password secret
//	ipmitool -I lanplus -C 17 -H 127.0.0.1 -p 6230 -U admin -P secret chassis status
//	curl -k -u admin:secret https://127.0.0.1:8443/redfish/v1/Systems
//
// With -tree it answers as the vendor whose Redfish tree (tar.gz) is given.
// With -record it keeps the ground truth (power-ons, resets, requests) as
// JSON in that file. It runs until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/ingot-metal/ingot/tools/bmcsim"
	"github.com/ingot-metal/ingot/tools/bmcsim/machine"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bmcsim:", err)
		os.Exit(1)
	}
}

func run() error {
	var cfg bmcsim.Config
	var record string
	var bios bool
	flag.StringVar(&cfg.IPMIAddr, "ipmi", "127.0.0.1:6230", "UDP address of IPMI, or off")
	flag.StringVar(&cfg.RedfishAddr, "redfish", "127.0.0.1:8443", "TCP address of Redfish, or off")
	flag.StringVar(&cfg.User, "user", "admin", "user, at most 16 bytes")
	flag.StringVar(&cfg.Password, "password", "", "password, at most 20 bytes (required)")
	flag.StringVar(&cfg.Tree, "tree", "", "a vendor's Redfish tree, tar.gz; empty: the built-in one")
	flag.StringVar(&cfg.VMSocket, "vm-socket", "", "Unix socket for QEMU's ipmi-bmc-extern; empty: none")
	flag.StringVar(&record, "record", "", "file for the ground truth as JSON")
	flag.BoolVar(&bios, "bios", false, "the machine boots with BIOS, not UEFI")
	flag.Parse()
	if cfg.Password == "" {
		return fmt.Errorf("no password: give one with -password")
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	fw := machine.UEFI
	if bios {
		fw = machine.BIOS
	}
	m, err := machine.New(machine.Config{Hardware: new(machine.Pretend), Firmware: fw, Record: record, Log: cfg.Log})
	if err != nil {
		return err
	}
	cfg.Machine = m
	b, err := bmcsim.New(cfg)
	if err != nil {
		return err
	}
	fmt.Printf("IPMI %s, Redfish %s\n", b.IPMIAddr(), b.RedfishURL())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return b.Run(ctx)
}
