package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/ingot-metal/ingot/proto/operator"
)

func (c *cli) machine() *cobra.Command {
	return group("machine", "Machines: what they are, and what can be asked of them",
		c.machineList(), c.machineShow(), c.machineAdd(), c.machineApprove(), c.machineSet(), c.machineDelete(),
		c.machineCommission(), c.machineDeploy(), c.machineRelease(), c.machinePower())
}

func (c *cli) machineList() *cobra.Command {
	var filter string
	cmd := &cobra.Command{Use: "list", Short: "List machines", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			all := &operator.MachineListResponse{}
			if err := pages(func(token string) (string, error) {
				page, err := operator.NewMachineServiceClient(conn).MachineList(cmd.Context(), &operator.MachineListRequest{Filter: filter, PageToken: token})
				all.Machines = append(all.Machines, page.GetMachines()...)
				return page.GetNextPageToken(), err
			}); err != nil {
				return err
			}
			return c.show(all, func() { c.machineTable(all.GetMachines()) })
		})
	}}
	cmd.Flags().StringVar(&filter, "filter", "", "such as 'state=ready AND hostname=web*'")
	return cmd
}

func (c *cli) machineTable(machines []*operator.Machine) {
	var rows [][]string
	for _, m := range machines {
		state := stateWord(m.GetState())
		if o := m.GetOutcome(); o != "" && o != "none" {
			state += " (" + o + ")"
		}
		rows = append(rows, []string{m.GetId(), m.GetHostname(), state, m.GetReason(), m.GetPowerState(), yes(m.GetAgentConnected(), "connected"), m.GetPool(),
			m.GetDeployment().GetImageName(), known(m.GetCpuThreads(), number), known(m.GetMemoryBytes(), size)})
	}
	c.table("ID HOSTNAME STATE REASON POWER AGENT POOL IMAGE CPUS MEMORY", rows)
}

func yes(b bool, word string) string {
	if b {
		return word
	}
	return ""
}

func (c *cli) machineShow() *cobra.Command {
	return &cobra.Command{Use: "show MACHINE", Short: "Show one machine, by id, hostname or MAC address", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			m, err := operator.NewMachineServiceClient(conn).MachineGet(cmd.Context(), &operator.MachineGetRequest{Machine: args[0]})
			if err != nil {
				return err
			}
			return c.show(m, func() { c.machineFacts(m) })
		})
	}}
}

func (c *cli) machineFacts(m *operator.Machine) {
	d := m.GetDeployment()
	c.facts("machine", m.GetId(), "hostname", m.GetHostname(), "state", stateWord(m.GetState()), "outcome", m.GetOutcome(),
		"reason", m.GetReason(), "", "", "why", m.GetReasonText(), "next step", m.GetNextStep(),
		"approved", fmt.Sprint(m.GetApproved()), "pool", m.GetPool(), "power", m.GetPowerState(), "agent", yes(m.GetAgentConnected(), "connected"),
		"system", strings.TrimSpace(m.GetVendor()+" "+m.GetProduct()), "serial", m.GetSerial(), "uuid", m.GetSystemUuid(),
		"cpus", known(m.GetCpuThreads(), number), "memory", known(m.GetMemoryBytes(), size), "bmc", m.GetBmc().GetUrl(), "bmc error", m.GetBmc().GetLastError(),
		"operation", m.GetOperationId(), "image", d.GetImageName(), "image digest", d.GetImageDigest(), "written to", d.GetDiskSerial(),
		"proof", clock(d.GetProvenAt()), "boot path", strings.TrimSpace(d.GetBootPath()+" "+d.GetBootPathDetail()), "entered by", d.GetEnteredBy())
	c.facts(written(d)...)
	var rows [][]string
	for _, n := range m.GetNics() {
		rows = append(rows, []string{n.GetName(), n.GetMac(), yes(n.GetLinkUp(), "up"), n.GetDriver(), n.GetAddress(), yes(n.GetBootNic(), "boot"), n.GetNeighbour()})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("NIC MAC LINK DRIVER ADDRESS USE NEIGHBOUR", rows)
	}
	rows = nil
	for _, d := range m.GetDisks() {
		rows = append(rows, []string{d.GetName(), d.GetSerial(), d.GetKind(), size(d.GetSizeBytes()), fmt.Sprint(d.GetLogicalSectorBytes()), d.GetModel(), d.GetHealth(), holds(d.GetHoldsData())})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("DISK SERIAL KIND SIZE SECTOR MODEL HEALTH HOLDS", rows)
	}
	rows = nil
	for _, d := range m.GetLostDisks() {
		rows = append(rows, []string{diskName(d), d.GetModel(), holds(d.GetHoldsData())})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table("MISSING MODEL HOLDS", rows)
	}
	for _, w := range m.GetWarnings() {
		fmt.Fprintf(c.out, "\nwarning %s: %s\n", w.GetCode(), clean(w.GetText()))
	}
}

func (c *cli) machineAdd() *cobra.Command {
	req := &operator.MachineAddRequest{}
	var access accessFlags
	cmd := &cobra.Command{Use: "add", Short: "Make a machine known before it is first powered on", Args: exactly(), RunE: func(cmd *cobra.Command, _ []string) error {
		if len(req.Macs) == 0 {
			return usageError{fmt.Errorf("give the machine's address: --mac 00:16:3e:49:00:00")}
		}
		var err error
		if req.Bmc, err = access.read(c); err != nil {
			return err
		}
		return c.with(func(conn *grpc.ClientConn) error {
			m, err := operator.NewMachineServiceClient(conn).MachineAdd(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(m, func() { fmt.Fprintf(c.out, "%s (%s) added\n", m.GetId(), m.GetHostname()) })
		})
	}}
	f := cmd.Flags()
	f.StringVar(&req.Hostname, "hostname", "", "its name; one is made when left out")
	f.StringSliceVar(&req.Macs, "mac", nil, "hardware address of a NIC; repeat for more")
	f.StringVar(&req.Architecture, "arch", "amd64", "its architecture, in Debian's words")
	f.StringVar(&req.SystemUuid, "uuid", "", "its SMBIOS UUID")
	f.StringVar(&req.Pool, "pool", "", "the pool to put it into (default default)")
	f.BoolVar(&req.Commission, "commission", false, "power it on and commission it at once")
	access.add(f, "bmc")
	return cmd
}

func (c *cli) machineApprove() *cobra.Command {
	req := &operator.MachineApproveRequest{}
	cmd := &cobra.Command{Use: "approve MACHINE", Short: "Approve a machine that enrolled by itself", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		req.Machine = args[0]
		return c.with(func(conn *grpc.ClientConn) error {
			m, err := operator.NewMachineServiceClient(conn).MachineApprove(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(m, func() { fmt.Fprintf(c.out, "%s approved; next: ingot machine commission %s\n", m.GetId(), m.GetId()) })
		})
	}}
	cmd.Flags().StringVar(&req.Hostname, "hostname", "", "its name from now on")
	return cmd
}

func (c *cli) machineDelete() *cobra.Command {
	req := &operator.MachineDeleteRequest{}
	cmd := &cobra.Command{Use: "delete MACHINE", Short: "Forget a machine", Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		req.Machine = args[0]
		return c.with(func(conn *grpc.ClientConn) error {
			done, err := operator.NewMachineServiceClient(conn).MachineDelete(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.show(done, func() { fmt.Fprintf(c.out, "%s deleted\n", args[0]) })
		})
	}}
	cmd.Flags().BoolVar(&req.Force, "force", false, "although it is deployed or something is under way")
	return cmd
}

func (c *cli) machineCommission() *cobra.Command {
	req := &operator.MachineCommissionRequest{}
	var yes bool
	return c.operationCommand("commission MACHINE", "Take the inventory and test the hardware", func(cmd *cobra.Command) {
		cmd.Flags().BoolVar(&req.SkipTests, "skip-tests", false, "inventory only")
		cmd.Flags().StringArrayVar(&req.VouchedDisks, "vouch", nil, "`SERIAL` (or WWN) of a disk that held data: you say that nothing of it is left; repeat for more")
		cmd.Flags().BoolVar(&yes, "yes", false, "with --vouch: do not ask")
	}, func(cmd *cobra.Command, conn *grpc.ClientConn, machine string) (*operator.Operation, error) {
		req.Machine = machine
		if len(req.VouchedDisks) > 0 && !yes {
			if err := c.vouch(cmd.Context(), conn, req); err != nil {
				return nil, err
			}
		}
		return operator.NewMachineServiceClient(conn).MachineCommission(cmd.Context(), req)
	})
}

func (c *cli) machineDeploy() *cobra.Command {
	req := &operator.MachineDeployRequest{}
	var keyFiles []string
	var userData string
	return c.operationCommand("deploy MACHINE --image IMAGE", "Write an image and boot it", func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.StringVar(&req.Image, "image", "", "NAME (its newest version for this machine), NAME@VERSION or digest")
		f.StringVar(&req.Disk, "disk", "", "serial or WWN of the disk to write (default: the controller chooses)")
		f.StringVar(&req.Hostname, "hostname", "", "of the installed system (default: the machine's)")
		f.StringSliceVar(&keyFiles, "ssh-key", nil, "file with public keys, or a key; repeat for more")
		f.StringVar(&userData, "user-data", "", "file passed to cloud-init byte for byte, - for standard input")
		f.StringVar(&req.Kexec, "kexec", "auto", "auto, never, or always: refused where image or hardware forbid it")
		f.StringVar(&req.Proof, "proof", "report", "report: deployed means that the system has reported; none: do not wait")
		f.StringVar(&req.Then, "then", "boot", "boot, or stop: power off once all is verified")
		f.BoolVar(&req.WipeConflicting, "wipe-conflicting", false, "wipe other disks that bear the image's ids")
		f.BoolVar(&req.Reuse, "reuse", false, "read the disk first and keep what it holds of the image already; the outcome is the same")
		f.StringVar(&req.RequestId, "request-id", "", "the same id again gives the same operation")
	}, func(cmd *cobra.Command, conn *grpc.ClientConn, machine string) (*operator.Operation, error) {
		if req.Image == "" {
			return nil, usageError{fmt.Errorf("give an image: --image NAME; see ingot image list")}
		}
		req.Machine = machine
		var err error
		if req.SshKeys, err = sshKeys(keyFiles); err != nil {
			return nil, err
		}
		if userData != "" {
			if req.UserData, err = c.readFile(userData, 1<<20); err != nil {
				return nil, fmt.Errorf("read user-data: %w", err)
			}
		}
		return operator.NewMachineServiceClient(conn).MachineDeploy(cmd.Context(), req)
	})
}

// sshKeys takes keys as they are, and the lines of files.
func sshKeys(words []string) ([]string, error) {
	var keys []string
	for _, w := range words {
		if strings.HasPrefix(w, "ssh-") || strings.HasPrefix(w, "ecdsa-") || strings.HasPrefix(w, "sk-") {
			keys = append(keys, w)
			continue
		}
		data, err := os.ReadFile(w)
		if err != nil {
			return nil, fmt.Errorf("read SSH key: %w", err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

func (c *cli) machineRelease() *cobra.Command {
	req := &operator.MachineReleaseRequest{}
	return c.operationCommand("release MACHINE --erase", "Erase the disks and make the machine ready again", func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.BoolVar(&req.Erase, "erase", false, "the disks' content is lost; needed")
		f.StringSliceVar(&req.DiskSerials, "disk", nil, "serials that you expect to be erased; refused when the machine has others")
		f.BoolVar(&req.DryRun, "dry-run", false, "show the plan only")
	}, func(cmd *cobra.Command, conn *grpc.ClientConn, machine string) (*operator.Operation, error) {
		req.Machine = machine
		return operator.NewMachineServiceClient(conn).MachineRelease(cmd.Context(), req)
	})
}

func (c *cli) machinePower() *cobra.Command {
	actions := map[string]operator.PowerAction{
		"on": operator.PowerAction_POWER_ACTION_ON, "off": operator.PowerAction_POWER_ACTION_OFF,
		"cycle": operator.PowerAction_POWER_ACTION_CYCLE, "query": operator.PowerAction_POWER_ACTION_QUERY,
	}
	var wait bool
	cmd := &cobra.Command{Use: "power MACHINE on|off|cycle|query", Short: "Switch a machine, or read its power state", Args: exactly("a machine", "on, off, cycle or query"),
		RunE: func(cmd *cobra.Command, args []string) error {
			action, ok := actions[args[1]]
			if !ok {
				return usageError{fmt.Errorf("power %q: say on, off, cycle or query", args[1])}
			}
			return c.with(func(conn *grpc.ClientConn) error {
				op, err := operator.NewMachineServiceClient(conn).MachinePower(cmd.Context(), &operator.MachinePowerRequest{Machine: args[0], Action: action})
				if err != nil {
					return err
				}
				return c.asked(cmd.Context(), conn, op, wait)
			})
		}}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is done")
	return cmd
}

// operationCommand is a command on one machine that gives an operation.
func (c *cli) operationCommand(use, short string, flags func(*cobra.Command), ask func(*cobra.Command, *grpc.ClientConn, string) (*operator.Operation, error)) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{Use: use, Short: short, Args: exactly("a machine"), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(func(conn *grpc.ClientConn) error {
			op, err := ask(cmd, conn, args[0])
			if err != nil {
				return err
			}
			return c.asked(cmd.Context(), conn, op, wait)
		})
	}}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is done, with progress")
	flags(cmd)
	return cmd
}
