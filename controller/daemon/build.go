package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/ingot-metal/ingot/controller/api"
	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/boot/dhcp"
	"github.com/ingot-metal/ingot/controller/boot/ra"
	"github.com/ingot-metal/ingot/controller/boot/tftp"
	"github.com/ingot-metal/ingot/controller/lifecycle"
	"github.com/ingot-metal/ingot/controller/metadata"
	"github.com/ingot-metal/ingot/controller/power"
)

// tftpPort is RFC 1350's.
const tftpPort = 69

// sockets are all that was opened, to be closed again when a later one fails.
type sockets struct{ open []io.Closer }

func (s *sockets) keep(c io.Closer) { s.open = append(s.open, c) }

func (s *sockets) close(err error) error {
	for _, c := range s.open {
		err = errors.Join(err, c.Close())
	}
	return err
}

// build opens every listener and makes every part: the doors, the rooms behind
// them, and where the doors are.
func (h *house) build() (doors, rooms []part, ready string, err error) {
	open := &sockets{}
	defer func() {
		if err != nil {
			err = open.close(err)
		}
	}()
	drivers, err := opener(h.log.With("part", "power"))
	if err != nil {
		return nil, nil, "", err
	}
	meter := newMeter(h.store)
	h.serveImages(meter)
	rooms = append(rooms, h.engine(drivers)...)
	rooms = append(rooms, part{"image copies", h.sweepCopies})
	rooms = append(rooms, part{"image puller", h.puller.Run})

	apiParts, err := h.operators(open, drivers, meter)
	if err != nil {
		return nil, nil, "", err
	}
	doors = append(doors, apiParts...)

	agents := newAgentServer(h.leaf, h.log.With("part", "agents"))
	board := h.newBoard(meter)
	if board != nil {
		rooms = append(rooms, part{"relays", board.Run})
	}
	rooms = append(rooms, wireAgents(h, agents, board))
	agentLines, err := h.ports(open, h.c.AgentPort)
	if err != nil {
		return nil, nil, "", fmt.Errorf("listen for agents: %w", err)
	}
	doors = append(doors, serveGRPC("agents", agents, agentLines))

	network, err := h.network(open)
	if err != nil {
		return nil, nil, "", err
	}
	doors = append(doors, network...)
	return doors, rooms, fmt.Sprintf("api https://%s agents %s boot %s reports %s", h.c.Listen, port(h.c.AgentPort), port(h.c.BootPort), port(h.c.ReportPort)), nil
}

// ports opens one port on all addresses by which machines reach us.
func (h *house) ports(open *sockets, port int) ([]net.Listener, error) {
	lines, err := listen(hosts(h.segs), port)
	for _, l := range lines {
		open.keep(l)
	}
	return lines, err
}

// engine makes the parts that carry wishes out.
func (h *house) engine(drivers lifecycle.Open) []part {
	log := h.log.With("part", "lifecycle")
	return []part{
		{"heartbeat", h.heartbeat},
		{"engine", func(ctx context.Context) error {
			return lifecycle.NewEngine(h.store, h.id, h.store.Wake(ctx), log).Run(ctx)
		}},
		{"reaper", lifecycle.NewReaper(h.store, log).Run},
		{"actuator", func(ctx context.Context) error {
			return lifecycle.NewActuator(bmcOrders{h.store}, drivers, h.id, h.store.Wake(ctx), log).Run(ctx)
		}},
	}
}

// operators makes the API and its listener.
func (h *house) operators(open *sockets, drivers lifecycle.Open, m *meter) ([]part, error) {
	quirks, err := power.BuiltinQuirks()
	if err != nil {
		return nil, err
	}
	server, err := api.New(api.Config{
		Quirks: quirks, ReadBack: h.c.proof, Manifest: h.puller.Manifest,
		Store: h.store, Images: h.images, Open: api.Open(drivers), Board: h.board, ControllerID: h.id, Log: h.log.With("part", "api"),
		Checks:  []api.Check{{Name: "boot files", Run: h.bootFiles}},
		Metrics: m.handler(), MetricsPublic: h.c.MetricsPublic,
	})
	if err != nil {
		return nil, err
	}
	line, err := net.Listen("tcp", h.c.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for operators: %w", err), server.Close())
	}
	open.keep(line)
	door := serveHTTP("operators", h.web(imagesFirst(h.handler, server.Handler()), "api"), []net.Listener{line})
	return []part{
		{"api", server.Run},
		{"operators", func(ctx context.Context) error { return errors.Join(door.run(ctx), server.Close()) }},
	}, nil
}

// web is an HTTPS server with limits for callers that may be hostile. Streams
// are endless, so there is no limit on a whole answer.
func (h *house) web(handler http.Handler, name string) *http.Server {
	srv := boot.NewServer(handler, h.log.With("part", name))
	srv.TLSConfig = h.leaf.config()
	return srv
}

// bootFiles says whether agents can boot, where machines boot from here.
func (h *house) bootFiles(context.Context) error {
	if len(h.segs) == 0 {
		return nil // nobody boots from here
	}
	for _, name := range []string{boot.FileKernel, boot.FileInitramfs} {
		if _, err := os.Stat(h.c.BootDir + "/" + name); err != nil {
			return fmt.Errorf("%s is missing in the boot directory: make boot", name)
		}
	}
	return nil
}

// network makes what machines boot by, and where installed systems report.
func (h *house) network(open *sockets) ([]part, error) {
	log := h.log.With("part", "boot")
	bootLines, err := h.ports(open, h.c.BootPort)
	if err != nil {
		return nil, fmt.Errorf("listen for loaders: %w", err)
	}
	reportLines, err := h.ports(open, h.c.ReportPort)
	if err != nil {
		return nil, fmt.Errorf("listen for first-boot reports: %w", err)
	}
	script := boot.NewHandler(boot.Config{
		Files: os.DirFS(h.c.BootDir), Directory: h.store, Observer: h.store, AgentAddress: ":" + port(h.c.AgentPort),
		CA: h.authority.Fingerprint(), Console: h.c.Consoles, Log: log,
	})
	reports := http.NewServeMux()
	reports.Handle(metadata.ReportPath, metadata.NewReportHandler(h.store, h.log.With("part", "reports")))
	reportServer := h.web(imagesFirst(h.handler, reports), "reports")
	// An agent shows its certificate for a private image, an installed system none.
	reportServer.TLSConfig.ClientAuth = tls.RequestClientCert
	reportServer.ReadTimeout, reportServer.WriteTimeout = 30*time.Second, 30*time.Second
	parts := []part{
		serveHTTP("boot", boot.NewServer(imagesFirst(h.handler, script), log), bootLines),
		serveHTTP("reports", reportServer, reportLines),
	}
	for _, s := range h.segs {
		more, err := h.segment(open, s)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	return parts, nil
}

// segment makes what is served on one interface: TFTP always, DHCP where there
// is something to lease, advertisements where they are asked for.
func (h *house) segment(open *sockets, s segment) ([]part, error) {
	log := h.log.With("part", "boot")
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(s.address.Addr().String(), port(tftpPort)))
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP on %s: %w", s.name, err)
	}
	open.keep(conn)
	loaders := tftp.New(tftp.Config{Files: os.DirFS(h.c.BootDir), Observer: h.store, Log: log})
	parts := []part{{"tftp " + s.name, func(ctx context.Context) error { return loaders.Run(ctx, conn) }}}
	if h.c.Advertise {
		parts = append(parts, again("router advertisements "+s.name, log, func(ctx context.Context) error { return ra.Run(ctx, s.name, log) }))
	}
	if len(h.c.ranges) == 0 {
		log.Info("no --dhcp-range, so DHCP answers nobody", "interface", s.name)
		return parts, nil
	}
	socket, err := dhcp.Listen(s.name)
	if err != nil {
		return nil, err
	}
	open.keep(socket)
	leases, err := dhcp.New(dhcp.Config{
		Interface: s.name, Address: s.address, HTTPPort: h.c.BootPort, Leases: h.store, Directory: h.store, Observer: h.store,
		SkipProbe: !h.c.checkForeign(), Log: log,
	}, socket)
	if err != nil {
		return nil, err
	}
	return append(parts, part{"dhcp " + s.name, leases.Run}), nil
}
