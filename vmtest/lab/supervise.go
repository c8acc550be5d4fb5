package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/ingot-metal/ingot/vmtest/lan"
)

// apiListener is the name under which the host's listening socket is handed in.
const apiListener = "api"

// MachineStatus is what a lab knows of a machine.
type MachineStatus struct {
	Name     string `json:"name"`
	Firmware string `json:"firmware"`
	MAC      string `json:"mac"`
	BMC      string `json:"bmc"`
	Powered  bool   `json:"powered"`
	// POSTs are power-ons and resets; Resets are those of them that were resets,
	// by BMC or guest.
	POSTs   int      `json:"posts"`
	Resets  int      `json:"resets"`
	Serials []string `json:"disks"`
	Console string   `json:"console_log"`
}

// Status is what a lab tells of itself.
type Status struct {
	Dir      string          `json:"dir"`
	Context  string          `json:"context"`
	API      string          `json:"api"`
	BMCUser  string          `json:"bmc_user"`
	BMCPass  string          `json:"bmc_password"`
	Machines []MachineStatus `json:"machines"`
}

// ContextFile is what the command line reads to find the lab's controller.
func ContextFile(dir string) string { return filepath.Join(dir, "context.yaml") }

func socketPath(dir string) string { return filepath.Join(dir, "lab.sock") }

// Supervise runs a lab until ctx ends or somebody asks it to stop. It is the
// main part of the process inside the namespace; `ingot lab up` starts it.
func Supervise(ctx context.Context, cfg Config) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	api, err := lan.Inherited(apiListener)
	if err != nil {
		return err
	}
	l, err := Up(ctx, cfg)
	if err != nil {
		return errors.Join(err, api.Close())
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	l.lan.Forward(api, l.controller.Address())
	if err := l.writeContext(api.Addr().String()); err != nil {
		return err
	}
	// Last, because the socket says that the lab is up.
	_ = os.Remove(socketPath(cfg.Dir)) // of a lab that was killed
	control, err := net.Listen("unix", socketPath(cfg.Dir))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: l.control(api.Addr().String(), stop)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(control) }()
	<-ctx.Done()
	err = server.Close()
	<-served
	return err
}

func (l *Lab) writeContext(address string) error {
	text, err := yaml.Marshal(target{Address: address, CAFile: l.controller.CAFile(), Token: l.controller.Token()})
	if err != nil {
		return err
	}
	return os.WriteFile(ContextFile(l.cfg.Dir), text, 0o600)
}

// control answers on the lab's Unix socket.
func (l *Lab) control(api string, stop func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(l.status(api)) // the client sees a short answer
	})
	mux.HandleFunc("POST /down", func(http.ResponseWriter, *http.Request) { stop() })
	mux.HandleFunc("POST /machine/{name}/plug", l.onMachine(func(w http.ResponseWriter, _ *http.Request, m *Machine) {
		if err := m.PullPlug(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}))
	mux.HandleFunc("GET /machine/{name}/console", l.onMachine(followConsole))
	mux.HandleFunc("POST /controller/kill", func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(l.controller.Kill(), l.controller.Start(r.Context())); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

func (l *Lab) onMachine(f func(http.ResponseWriter, *http.Request, *Machine)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m := l.Machine(r.PathValue("name"))
		if m == nil {
			http.Error(w, fmt.Sprintf("no machine %q in this lab", r.PathValue("name")), http.StatusNotFound)
			return
		}
		f(w, r, m)
	}
}

func followConsole(w http.ResponseWriter, r *http.Request, m *Machine) {
	for at := int64(0); ; {
		data, next, err := m.Console.Read(r.Context(), at)
		if err != nil {
			return
		}
		if _, err := w.Write(data); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush() // a client that left ends Read
		at = next
	}
}

func (l *Lab) status(api string) Status {
	s := Status{Dir: l.cfg.Dir, Context: ContextFile(l.cfg.Dir), API: api, BMCUser: BMCUser, BMCPass: BMCPassword}
	for _, m := range l.machines {
		truth := m.Truth()
		s.Machines = append(s.Machines, MachineStatus{
			Name: m.Spec.Name, Firmware: string(m.Spec.Firmware), MAC: m.MACs[0].String(), BMC: m.BMCURL, Powered: truth.On,
			POSTs: truth.Counters.POSTs(), Resets: truth.Counters.Resets, Serials: m.Serials,
			Console: filepath.Join(l.cfg.Dir, m.Spec.Name, "console.log"),
		})
	}
	return s
}
