package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// lan is one network namespace a machine, each with one link to a bridge, shaped
// by tc both ways. A nil lan shapes nothing: everybody is on loopback.
type lan struct {
	name  string          // of the bridge's namespace, and the beginning of the others'
	ports []string        // namespaces; the last one is the server's
	rates map[int]float64 // of ports, as they are shaped
}

// newLan makes room for n machines and a server.
func newLan(ctx context.Context, n int) (*lan, error) {
	l := &lan{name: fmt.Sprintf("mb%d", os.Getpid()), rates: map[int]float64{}}
	err := l.ip(ctx, "", "netns add "+l.name)
	if err == nil {
		err = l.ip(ctx, l.name, "link add br0 type bridge", "link set br0 up")
	}
	for i := 0; i <= n && err == nil; i++ {
		err = l.add(ctx, i)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a network to measure in: %w", err), l.close())
	}
	return l, nil
}

func (l *lan) add(ctx context.Context, i int) error {
	ns, port := fmt.Sprintf("%s-%d", l.name, i), fmt.Sprintf("p%d", i)
	if err := l.ip(ctx, "", "netns add "+ns); err != nil {
		return err
	}
	l.ports = append(l.ports, ns)
	if err := l.ip(ctx, l.name, "link add "+port+" type veth peer name eth0 netns "+ns, "link set "+port+" master br0 up"); err != nil {
		return err
	}
	if err := l.ip(ctx, ns, "link set lo up", "addr add "+l.host(i)+"/16 dev eth0", "link set eth0 up"); err != nil {
		return err
	}
	return l.shape(ctx, i, 1e9)
}

// host is a port's address.
func (l *lan) host(i int) string {
	if l == nil {
		return "127.0.0.1"
	}
	return fmt.Sprintf("10.77.%d.%d", i/200, i%200+1)
}

// shape sets the rate of a port, each way, in bytes a second.
func (l *lan) shape(ctx context.Context, i int, bytesPerSecond float64) error {
	if l == nil || l.rates[i] == bytesPerSecond {
		return nil
	}
	for _, at := range [][2]string{{l.ports[i], "eth0"}, {l.name, fmt.Sprintf("p%d", i)}} {
		args := []string{"netns", "exec", at[0], "tc", "qdisc", "replace", "dev", at[1], "root", "tbf",
			"rate", fmt.Sprintf("%.0fbit", bytesPerSecond*8), "burst", "64kb", "latency", "100ms"}
		if err := command(ctx, "", "ip", args...); err != nil {
			return err
		}
	}
	l.rates[i] = bytesPerSecond
	return nil
}

// pull takes the plug of a port out, or puts it in again.
func (l *lan) pull(ctx context.Context, i int, out bool) error {
	way := "up"
	if out {
		way = "down"
	}
	return l.ip(ctx, l.ports[i], "link set eth0 "+way)
}

// in makes a command run at a port.
func (l *lan) in(i int, name string, args ...string) *exec.Cmd {
	if l == nil {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", l.ports[i], name}, args...)...)
}

// close deletes what newLan made; links go with their namespaces.
func (l *lan) close() error {
	if l == nil {
		return nil
	}
	var err error
	for _, ns := range append(l.ports, l.name) {
		err = errors.Join(err, l.ip(context.Background(), "", "netns del "+ns))
	}
	return err
}

func (l *lan) ip(ctx context.Context, ns string, lines ...string) error {
	args := []string{"-batch", "-"}
	if ns != "" {
		args = append([]string{"-n", ns}, args...)
	}
	return command(ctx, strings.Join(lines, "\n")+"\n", "ip", args...)
}

func command(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
