package cmdline

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	maxConsoles = 8
	maxExtra    = 64
	// maxWritten leaves room below MaxLine for what loaders add: initrd=,
	// BOOT_IMAGE= and the MAC.
	maxWritten = MaxLine - 256

	alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	// extraChars are those that mean nothing to the kernel's parser, to iPXE
	// and to GRUB: no quotes, no dollar, no braces, no separators.
	extraChars = alnum + "._-=,:/@%+*~^!?()[]"
)

// checks holds the test of each value by the name of its parameter.
var checks = map[string]func(string) error{
	KeyNonce:      checkNonce,
	KeyController: checkController,
	KeyCA:         checkCA,
	KeyTime:       checkTime,
	KeyMAC:        checkMAC,
	KeyLog:        checkLog,
}

// Validate says whether String would write every value, and whether the
// parameters that the agent needs are there. All faults are reported together.
func (p Params) Validate() error {
	errs := []error{p.missing()}
	check := func(k, value string) {
		if value == "" {
			return
		}
		if err := checks[k](value); err != nil {
			errs = append(errs, fmt.Errorf("parameter %s: %w", k, err))
		}
	}
	check(KeyNonce, p.Nonce)
	check(KeyController, p.Controller)
	check(KeyCA, p.CA)
	check(KeyLog, p.LogLevel)
	check(KeyMAC, p.BootMAC.String())
	if !p.Time.IsZero() {
		check(KeyTime, strconv.FormatInt(p.Time.Unix(), 10))
	}
	errs = append(errs, checkList("console", p.Console, maxConsoles, checkConsole), checkList("kernel parameter", p.Extra, maxExtra, checkExtra))
	if n := len(p.String()); n > maxWritten {
		errs = append(errs, fmt.Errorf("kernel command line would have %d bytes, at most %d are allowed: shorten the kernel parameters of the site or the machine", n, maxWritten))
	}
	return errors.Join(errs...)
}

func (p Params) missing() error {
	var errs []error
	for _, need := range []struct{ key, value string }{{KeyNonce, p.Nonce}, {KeyController, p.Controller}, {KeyCA, p.CA}} {
		if need.value == "" {
			errs = append(errs, fmt.Errorf("parameter %s: %w", need.key, ErrMissing))
		}
	}
	return errors.Join(errs...)
}

func checkList(what string, words []string, most int, check func(string) error) error {
	if len(words) > most {
		return fmt.Errorf("%d %ss, at most %d are allowed", len(words), what, most)
	}
	for _, w := range words {
		if err := check(w); err != nil {
			return fmt.Errorf("%s %.80q: %w", what, w, err)
		}
	}
	return nil
}

func checkNonce(s string) error {
	// The value is a secret: the error must not quote it.
	return checkChars("nonce", s, 16, 128, alnum+"-_")
}

func checkCA(s string) error {
	return checkChars("SHA-256 fingerprint", s, 64, 64, "0123456789abcdef")
}

func checkConsole(s string) error {
	return checkChars("console", s, 1, 64, alnum+",._:/-")
}

// checkExtra says whether a word may stand in Params.Extra: 1 to 256 characters,
// none of which a loader could expand, and not a parameter that Params has a
// field for.
func checkExtra(s string) error {
	if strings.HasPrefix(s, prefix) || key(s) == KeyConsole || s == "--" {
		return errors.New("is reserved")
	}
	return checkChars("word", s, 1, 256, extraChars)
}

func checkLog(s string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s) {
		return fmt.Errorf("unknown log level %.20q: use debug, info, warn or error", s)
	}
	return nil
}

func checkTime(s string) error {
	seconds, err := strconv.ParseInt(s, 10, 64)
	const year9999 = 253402300799
	if err != nil || seconds < 1 || seconds > year9999 || s[0] == '+' || s[0] == '0' {
		return fmt.Errorf("time %.32q is not a count of seconds since 1970", s)
	}
	return nil
}

func checkMAC(s string) error {
	if len(s) > 64 {
		return errors.New("hardware address is too long")
	}
	if _, err := net.ParseMAC(s); err != nil {
		return fmt.Errorf("%.64q is not a hardware address", s)
	}
	return nil
}

func checkController(s string) error {
	if len(s) > 261 {
		return errors.New("controller address is longer than 261 characters")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("controller address %.64q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
		return fmt.Errorf("controller port %.16q is not a number from 1 to 65535", port)
	}
	if strings.ContainsRune(host, ':') {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" {
			return fmt.Errorf("controller host %.64q is not an IPv6 address without a zone", host)
		}
		return nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if checkChars("label", label, 1, 63, alnum+"-") != nil || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("controller host %.64q is not an address or a DNS name", host)
		}
	}
	return nil
}

func checkChars(what, s string, least, most int, allowed string) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%s has %d characters, allowed are %d to %d", what, len(s), least, most)
	}
	for i := range len(s) {
		if strings.IndexByte(allowed, s[i]) < 0 {
			return fmt.Errorf("%s holds a character that is not allowed at position %d", what, i+1)
		}
	}
	return nil
}
