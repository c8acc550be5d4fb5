// Package cmdline is the one writer and the one parser of the kernel
// parameters that the controller gives a boot of the agent.
//
// The controller builds a Params and puts Params.String into the boot script;
// process 1 and the agent read the same values from /proc/cmdline with Parse.
// Every value is checked on both sides: no value can hold a space, a quote, a
// newline or a character that iPXE or GRUB would expand, so none can smuggle in
// a second parameter or a second command.
//
// The nonce is a short-lived secret. Redact hides it in lines that are logged,
// and String asks for a kernel log level at which the kernel does not print its
// own command line on the console.
package cmdline

import (
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// The names of the parameters as they stand on the kernel command line.
const (
	KeyNonce      = "ingot.nonce"
	KeyController = "ingot.controller"
	KeyCA         = "ingot.ca"
	KeyTime       = "ingot.time"
	KeyMAC        = "ingot.mac"
	KeyLog        = "ingot.log"
	KeyConsole    = "console"

	prefix = "ingot."
)

// Params is what one boot of the agent is told by its command line.
// Nonce, Controller and CA are always needed; the zero value of any other field
// means "not given".
type Params struct {
	// Nonce of the boot session: 16 to 128 characters of A-Z a-z 0-9 - _.
	Nonce string
	// Controller is host:port of the agents' gRPC listener. The host is an IPv4
	// address, an IPv6 address in brackets, or a DNS name.
	Controller string
	// CA is the SHA-256 of the DER of the controller CA's certificate, as 64
	// lower-case hexadecimal digits.
	CA string
	// Time is the controller's clock when the boot script was made; whole
	// seconds are kept. The agent steps its clock to it before the first TLS
	// handshake if its own is behind, or far ahead.
	Time time.Time
	// BootMAC is the hardware address of the NIC that fetched the boot script:
	// 6 octets, or 8 or 20 for InfiniBand. When it is empty String leaves the
	// parameter out, so that an iPXE script may append "ingot.mac=${net0/mac}"
	// itself.
	BootMAC net.HardwareAddr
	// Console holds one kernel console a word, such as "ttyS0,115200"; the last
	// one becomes /dev/console. At most 8.
	Console []string
	// LogLevel of process 1 and the agent: debug, info, warn or error.
	LogLevel string
	// Extra are further kernel parameters, written verbatim. At most 64.
	Extra []string
}

// defaults are added by String unless Extra holds a word with the same key.
// loglevel=4 keeps the kernel from printing its command line (a notice, level
// 5), and so the nonce, on the console. panic=30 makes a machine whose boot
// image is damaged try again instead of standing still.
var defaults = []string{"loglevel=4", "panic=30"}

// String writes the parameters as one line, with single spaces and without a
// newline. A value that Validate would refuse is left out rather than written,
// so that the line is always safe to put into a script; call Validate first
// where values come from people. The line holds the nonce: use Redact, or log
// the Params themselves, to show it.
func (p Params) String() string {
	var words []string
	add := func(key, value string, check func(string) error) {
		if value != "" && check(value) == nil {
			words = append(words, key+"="+value)
		}
	}
	add(KeyNonce, p.Nonce, checkNonce)
	add(KeyController, p.Controller, checkController)
	add(KeyCA, p.CA, checkCA)
	if !p.Time.IsZero() {
		add(KeyTime, strconv.FormatInt(p.Time.Unix(), 10), checkTime)
	}
	add(KeyMAC, p.BootMAC.String(), checkMAC)
	add(KeyLog, p.LogLevel, checkLog)
	for _, c := range p.Console {
		add(KeyConsole, c, checkConsole)
	}
	for _, w := range defaults {
		if !hasKey(p.Extra, key(w)) {
			words = append(words, w)
		}
	}
	for _, w := range p.Extra {
		if checkExtra(w) == nil {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// LogValue shows the parameters in a log without the nonce.
func (p Params) LogValue() slog.Value {
	return slog.StringValue(Redact(p.String()))
}

// hasKey says whether a word of the list sets the parameter. "quiet" and
// "debug" are the kernel's short forms of two log levels.
func hasKey(words []string, k string) bool {
	for _, w := range words {
		if key(w) == k || k == "loglevel" && (w == "quiet" || w == "debug") {
			return true
		}
	}
	return false
}

func key(word string) string {
	k, _, _ := strings.Cut(word, "=")
	return k
}
