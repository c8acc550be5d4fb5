package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/vmtest/lab"
	"github.com/ingot-metal/ingot/vmtest/lab/demo"
)

// labFlags are common to all lab commands.
type labFlags struct {
	dir      string
	bootDir  string
	port     int
	machines []string
}

func (c *cli) lab() *cobra.Command {
	f := &labFlags{}
	g := group("lab", "A lab on this computer: virtual machines with BMCs, and a controller",
		c.labUp(f), c.labRun(f), c.labStatus(f), c.labConsole(f), c.labPlug(f), c.labKill(f), c.labDown(f), c.labDemo(f))
	g.PersistentFlags().StringVar(&f.dir, "dir", "build/lab", "directory of the lab")
	return g
}

func (f *labFlags) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.bootDir, "boot-dir", "build/boot", "kernel, initramfs and loaders, made by `make boot`")
	cmd.Flags().IntVar(&f.port, "port", 8443, "port of this host's loopback for the API; 0 takes any")
	cmd.Flags().StringSliceVar(&f.machines, "machines", lab.Kinds(), "which machines: "+strings.Join(lab.Kinds(), ", "))
	return cmd
}

// absolute makes the paths good for another working directory.
func (f *labFlags) absolute() (err error) {
	if f.dir, err = filepath.Abs(f.dir); err != nil {
		return err
	}
	f.bootDir, err = filepath.Abs(f.bootDir)
	return err
}

func (f *labFlags) launch(cmd *cobra.Command) error {
	if err := f.absolute(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Said here, where a person reads it, and not only in the lab's log.
	specs, err := lab.Specs(f.machines)
	if err != nil {
		return usageError{err}
	}
	if err := (lab.Config{Dir: f.dir, BootDir: f.bootDir, Programs: filepath.Dir(self), Machines: specs}).Check(); err != nil {
		return err
	}
	return lab.Launch(cmd.Context(), f.dir, f.port, self, "lab", "run", "--dir", f.dir, "--boot-dir", f.bootDir, "--machines", strings.Join(f.machines, ","))
}

func (c *cli) labUp(f *labFlags) *cobra.Command {
	return f.add(&cobra.Command{Use: "up", Short: "Start a lab in the background", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		if err := f.launch(cmd); err != nil {
			return err
		}
		s, err := lab.NewClient(f.dir).Status(cmd.Context())
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.labJSON(s)
		}
		fmt.Fprintf(c.out, "The lab is up. Next:\n  export INGOT_CONTEXT=%s\n", s.Context)
		for _, m := range s.Machines {
			fmt.Fprintf(c.out, "  ingot machine add --hostname %s --mac %s --bmc %s --user %s --password-file <(echo %s) --commission\n", m.Name, m.MAC, m.BMC, s.BMCUser, s.BMCPass)
		}
		fmt.Fprintln(c.out, "  ingot events --follow")
		return nil
	}})
}

func (c *cli) labJSON(s lab.Status) error {
	out := json.NewEncoder(c.out)
	out.SetIndent("", "  ")
	return out.Encode(s)
}

// labRun is the process inside the namespace.
func (c *cli) labRun(f *labFlags) *cobra.Command {
	return f.add(&cobra.Command{Use: "run", Hidden: true, Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		if err := f.absolute(); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		specs, err := lab.Specs(f.machines)
		if err != nil {
			return err
		}
		return lab.Supervise(cmd.Context(), lab.Config{
			Dir: f.dir, BootDir: f.bootDir, Programs: filepath.Dir(self), Machines: specs,
			Log: slog.New(slog.NewTextHandler(c.errOut, nil)),
		})
	}})
}

func (c *cli) labStatus(f *labFlags) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show the lab's machines as they really are", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := f.client().Status(cmd.Context())
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.labJSON(s)
		}
		var rows [][]string
		for _, m := range s.Machines {
			power := "off"
			if m.Powered {
				power = "on"
			}
			rows = append(rows, []string{m.Name, m.Firmware, m.MAC, m.BMC, power, fmt.Sprint(m.POSTs), fmt.Sprint(m.Resets), strings.Join(m.Serials, ","), m.Console})
		}
		fmt.Fprintf(c.out, "API https://%s, context %s\n\n", s.API, s.Context)
		c.table("NAME FIRMWARE MAC BMC POWER POSTS RESETS DISKS CONSOLE", rows)
		return nil
	}}
}

func (f *labFlags) client() *lab.Client {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		dir = f.dir
	}
	return lab.NewClient(dir)
}

func (c *cli) labConsole(f *labFlags) *cobra.Command {
	return &cobra.Command{Use: "console NAME", Short: "Follow a machine's serial console", Args: exactly("a machine of the lab"), RunE: func(cmd *cobra.Command, args []string) error {
		return f.client().Console(cmd.Context(), args[0], c.out)
	}}
}

func (c *cli) labPlug(f *labFlags) *cobra.Command {
	return &cobra.Command{Use: "plug NAME", Short: "Pull a machine's plug; its disks lose what was not flushed", Args: exactly("a machine of the lab"), RunE: func(cmd *cobra.Command, args []string) error {
		return f.client().PullPlug(cmd.Context(), args[0])
	}}
}

func (c *cli) labKill(f *labFlags) *cobra.Command {
	return &cobra.Command{Use: "kill", Short: "Kill the controller as kill -9 does, and start it again", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return f.client().KillController(cmd.Context())
	}}
}

func (c *cli) labDown(f *labFlags) *cobra.Command {
	return &cobra.Command{Use: "down", Short: "Stop the lab", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return f.client().Down(cmd.Context())
	}}
}

func (c *cli) labDemo(f *labFlags) *cobra.Command {
	var once bool
	var image, result string
	cmd := f.add(&cobra.Command{Use: "demo", Short: "Three machines from power-on to proof of life, before your eyes", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(f.absolute(), demo.Forget(result), lab.Clear(f.dir)); err != nil {
			return err
		}
		if err := f.launch(cmd); err != nil {
			return err
		}
		return demo.Run(cmd.Context(), demo.Config{Lab: lab.NewClient(f.dir), Image: image, BootDir: f.bootDir, Result: result, Once: once, Out: c.out})
	}})
	cmd.Flags().BoolVar(&once, "once", false, "tear the lab down at the end")
	cmd.Flags().StringVar(&image, "image", "build/images/debian.raw", "raw disk image to deploy")
	cmd.Flags().StringVar(&result, "result", "build/demo.json", "file for the result")
	return cmd
}
