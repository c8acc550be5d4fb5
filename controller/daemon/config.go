package daemon

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ingot-metal/ingot/controller/image/egress"
	"github.com/ingot-metal/ingot/controller/machine"
)

// Config is everything that ingotd can be told. The zero value, once checked,
// serves the API on this machine and boots nobody.
type Config struct {
	Interfaces  []string `yaml:"interface"`
	DataDir     string   `yaml:"data-dir"`
	Database    string   `yaml:"database"`
	BootDir     string   `yaml:"boot-dir"`
	KeyFile     string   `yaml:"key-file"`
	Name        string   `yaml:"name"`
	LogLevel    string   `yaml:"log-level"`
	Listen      string   `yaml:"listen"`
	AgentPort   int      `yaml:"agent-port"`
	BootPort    int      `yaml:"boot-port"`
	ReportPort  int      `yaml:"report-port"`
	DHCPRanges  []string `yaml:"dhcp-range"`
	Domain      string   `yaml:"domain"`
	DNS         []string `yaml:"dns"`
	Gateway     string   `yaml:"gateway"`
	Advertise   bool     `yaml:"router-advertise"`
	ForeignDHCP *bool    `yaml:"foreign-dhcp-check"`
	Consoles    []string `yaml:"agent-console"`

	ImageRate        string   `yaml:"image-rate"`
	ImageRateSubnet  string   `yaml:"image-rate-subnet"`
	ImageRateMachine string   `yaml:"image-rate-machine"`
	Relay            string   `yaml:"relay"`
	RelayRing        string   `yaml:"relay-ring"`
	RelayRate        string   `yaml:"relay-rate"`
	RelayMembers     int      `yaml:"relay-members"`
	ReadBack         string   `yaml:"read-back"`
	ImageCacheBytes  string   `yaml:"image-cache-bytes"`
	ImageSourceAllow []string `yaml:"image-source-allow"`

	MetricsPublic bool `yaml:"metrics-public"`
	// ResetAdminToken is for one start only, so that no file may hold it.
	ResetAdminToken bool `yaml:"-"`

	// What Check made of the texts above.
	level   slog.Level
	ranges  []addressRange
	dns     []netip.Addr
	gateway netip.Addr
	egress  egress.Limits
	cache   uint64         // bytes; 0: no limit
	sources []netip.Prefix // see ImageSourceAllow
	relay   relayConfig
	proof   machine.ReadBack
}

// addressRange is one --dhcp-range, both ends included.
type addressRange struct{ first, last netip.Addr }

// maxConfig bounds the YAML file, in bytes.
const maxConfig = 1 << 20

// ParseConfig reads the command line, and the file that --config names. A flag
// overrides the file's word; a list on the command line replaces the file's.
// flag.ErrHelp means that the manual was asked for and printed to out.
func ParseConfig(args []string, out io.Writer) (Config, error) {
	var c Config
	path, err := configPath(args)
	if err != nil {
		return c, err
	}
	if path != "" {
		if err := c.load(path); err != nil {
			return c, err
		}
	}
	flags := c.flags(&path)
	flags.SetOutput(out)
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("%q is no flag; all settings are flags, see --help", flags.Arg(0))
	}
	return c, c.Check()
}

// configPath looks for --config alone, for the file has to be read before the
// flags that override it.
func configPath(args []string) (string, error) {
	for i, a := range args {
		name := strings.TrimLeft(a, "-")
		if len(a) == len(name) {
			continue
		}
		if path, ok := strings.CutPrefix(name, "config="); ok {
			return path, nil
		}
		if name == "config" {
			if i+1 == len(args) {
				return "", errors.New("--config needs the name of a file")
			}
			return args[i+1], nil
		}
	}
	return "", nil
}

// load reads YAML whose keys are the names of the flags; others are refused.
func (c *Config) load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(text) > maxConfig {
		return fmt.Errorf("configuration %s is larger than %d bytes", path, maxConfig)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	return nil
}

func (c *Config) flags(path *string) *flag.FlagSet {
	f := flag.NewFlagSet("ingotd", flag.ContinueOnError)
	f.StringVar(path, "config", *path, "YAML `FILE` whose keys are the names of these flags")
	list := func(to *[]string, name, usage string) {
		first := true
		f.Func(name, usage, func(s string) error {
			if first {
				*to, first = nil, false
			}
			*to = append(*to, s)
			return nil
		})
	}
	list(&c.Interfaces, "interface", "`NAME` of an interface that machines boot on; repeat for more")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "`DIR` for keys, images and the private database (default "+defaultDataDir+")")
	f.StringVar(&c.Database, "database", c.Database, "`URL` of a PostgreSQL; without it ingotd runs its own in the data directory")
	f.StringVar(&c.BootDir, "boot-dir", c.BootDir, "`DIR` with kernel, initramfs and loaders (default "+defaultBootDir+")")
	f.StringVar(&c.KeyFile, "key-file", c.KeyFile, "`FILE` that opens the secrets in the database; the same for all controllers of one database (default key in the data directory)")
	f.StringVar(&c.Name, "name", c.Name, "`NAME` of this controller for people (default the host's name)")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "`LEVEL` debug, info, warn or error (default info)")
	f.StringVar(&c.Listen, "listen", c.Listen, "`ADDRESS` of the operators' API, HTTPS (default "+defaultListen+")")
	f.IntVar(&c.AgentPort, "agent-port", c.AgentPort, "`PORT` for agents (default 8444)")
	f.IntVar(&c.BootPort, "boot-port", c.BootPort, "`PORT` for loaders, kernels and images, plain HTTP (default 8080)")
	f.IntVar(&c.ReportPort, "report-port", c.ReportPort, "`PORT` for first-boot reports, HTTPS (default 8445)")
	list(&c.DHCPRanges, "dhcp-range", "`FIRST-LAST` addresses to lease; without one DHCP answers nobody; repeat for more")
	f.StringVar(&c.Domain, "domain", c.Domain, "`DOMAIN` that DHCP clients are told")
	list(&c.DNS, "dns", "`ADDRESS` of a DNS server that DHCP clients are told; repeat for more")
	f.StringVar(&c.Gateway, "gateway", c.Gateway, "`ADDRESS` of the router that DHCP clients are told")
	f.BoolVar(&c.Advertise, "router-advertise", c.Advertise, "answer router solicitations on the interfaces, which spares old iPXE a wait of 17 s")
	f.Func("foreign-dhcp-check", "look for other DHCP servers and stay silent while there is one (default true)", func(s string) error {
		b, err := strconv.ParseBool(s)
		c.ForeignDHCP = &b
		return err
	})
	list(&c.Consoles, "agent-console", "`CONSOLE` of agents, such as ttyS0,115200; repeat for more")
	f.StringVar(&c.ImageRate, "image-rate", c.ImageRate, "most `BYTES` a second of images that this controller sends, such as 500M (default no limit)")
	f.StringVar(&c.ImageRateSubnet, "image-rate-subnet", c.ImageRateSubnet, "the same for each subnet")
	f.StringVar(&c.ReadBack, "read-back", c.ReadBack, "how a deploy proves what it wrote: `all` of it by XXH3, sha256, or a share such as 10% (default all)")
	f.StringVar(&c.Relay, "relay", c.Relay, "`on`, tls or off: machines pass images that they are given at the same time on to each other, by TLS where tls is said or the image is private (default on)")
	f.StringVar(&c.RelayRing, "relay-ring", c.RelayRing, "most `BYTES` of memory that a machine gives to its peers; never more than a sixteenth of what it has (default 1G)")
	f.StringVar(&c.RelayRate, "relay-rate", c.RelayRate, "most `BYTES` a second that a machine gives to its peers (default no limit)")
	f.IntVar(&c.RelayMembers, "relay-members", c.RelayMembers, "`NUMBER` of machines from which on relaying begins (default 3)")
	f.StringVar(&c.ImageRateMachine, "image-rate-machine", c.ImageRateMachine, "the same for each machine")
	f.StringVar(&c.ImageCacheBytes, "image-cache-bytes", c.ImageCacheBytes, "most `BYTES` that images from other controllers take here, such as 200G (default what is free, less 1 GiB)")
	list(&c.ImageSourceAllow, "image-source-allow", "`NETWORK` that images may be fetched from although it is loopback or link-local, such as 127.0.0.0/8; repeat for more")
	f.BoolVar(&c.MetricsPublic, "metrics-public", c.MetricsPublic, "serve /metrics without a token")
	f.BoolVar(&c.ResetAdminToken, "reset-admin-token", false, "revoke the admin's tokens and print a new one, for when it was lost; on the command line only")
	return f
}

const (
	defaultDataDir = "/var/lib/ingot"
	defaultBootDir = "/usr/lib/ingot/boot"
	defaultListen  = ":8443"
)

// Check fills in defaults and refuses what cannot work, all faults together.
func (c *Config) Check() error {
	or(&c.DataDir, defaultDataDir)
	or(&c.BootDir, defaultBootDir)
	or(&c.Listen, defaultListen)
	or(&c.LogLevel, "info")
	or(&c.KeyFile, filepath.Join(c.DataDir, "key"))
	or(&c.AgentPort, 8444)
	or(&c.BootPort, 8080)
	or(&c.ReportPort, 8445)
	if c.Name == "" {
		c.Name, _ = os.Hostname() // a controller without a name is known by its id
	}
	errs := []error{c.checkPorts(), c.checkNetwork(), c.checkWords(), c.checkImages(), c.checkProof(), c.checkRelay()}
	if err := c.level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level %q: want debug, info, warn or error", c.LogLevel))
	}
	return errors.Join(errs...)
}

func or[T comparable](to *T, def T) {
	var zero T
	if *to == zero {
		*to = def
	}
}

func (c *Config) checkPorts() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q: want ADDRESS:PORT, such as :8443", c.Listen)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		return fmt.Errorf("--listen %q: want the address of an interface before the port, or nothing", c.Listen)
	}
	listen, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("--listen %q: want a port from 1 to 65535", c.Listen)
	}
	used := map[int]string{int(listen): "--listen"}
	for _, p := range []struct {
		flag string
		port int
	}{{"--agent-port", c.AgentPort}, {"--boot-port", c.BootPort}, {"--report-port", c.ReportPort}} {
		if p.port < 1 || p.port > 65535 {
			return fmt.Errorf("%s %d: want a port from 1 to 65535", p.flag, p.port)
		}
		if other := used[p.port]; other != "" {
			return fmt.Errorf("%s and %s are both port %d", p.flag, other, p.port)
		}
		used[p.port] = p.flag
	}
	return nil
}

func (c *Config) checkNetwork() error {
	c.ranges, c.dns = nil, nil
	for _, text := range c.DHCPRanges {
		first, last, _ := strings.Cut(text, "-")
		a, errA := netip.ParseAddr(strings.TrimSpace(first))
		b, errB := netip.ParseAddr(strings.TrimSpace(last))
		if errA != nil || errB != nil || !a.Is4() || !b.Is4() || b.Less(a) {
			return fmt.Errorf("--dhcp-range %q: want two IPv4 addresses, the lower one first, such as 10.0.0.100-10.0.0.200", text)
		}
		c.ranges = append(c.ranges, addressRange{a, b})
	}
	if len(c.ranges) > 0 && len(c.Interfaces) == 0 {
		return errors.New("--dhcp-range needs --interface: which segment are the addresses of?")
	}
	for _, text := range c.DNS {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is4() {
			return fmt.Errorf("--dns %q: want an IPv4 address", text)
		}
		c.dns = append(c.dns, a)
	}
	if c.Gateway != "" {
		a, err := netip.ParseAddr(c.Gateway)
		if err != nil || !a.Is4() {
			return fmt.Errorf("--gateway %q: want an IPv4 address", c.Gateway)
		}
		c.gateway = a
	}
	return nil
}

var (
	consoleWord   = regexp.MustCompile(`^[A-Za-z0-9]{1,32}(,[A-Za-z0-9]{1,32})?$`)
	interfaceWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)
	domainWord    = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
)

func (c *Config) checkWords() error {
	for _, w := range c.Consoles {
		if !consoleWord.MatchString(w) {
			return fmt.Errorf("--agent-console %q: want a kernel console such as ttyS0,115200", w)
		}
	}
	seen := map[string]bool{}
	for _, w := range c.Interfaces {
		if !interfaceWord.MatchString(w) || seen[w] {
			return fmt.Errorf("--interface %q: want the name of an interface, each once", w)
		}
		seen[w] = true
	}
	if c.Domain != "" && (len(c.Domain) > 253 || !domainWord.MatchString(c.Domain)) {
		return fmt.Errorf("--domain %q: want a DNS domain without a dot at its end", c.Domain)
	}
	return nil
}

// checkForeign reports whether other DHCP servers are looked for.
func (c *Config) checkForeign() bool { return c.ForeignDHCP == nil || *c.ForeignDHCP }
