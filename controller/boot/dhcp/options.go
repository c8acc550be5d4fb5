package dhcp

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-metal/ingot/controller/boot"
	"github.com/ingot-metal/ingot/controller/ipam"
)

const (
	optionUUID  = dhcpv4.GenericOptionCode(97)  // RFC 4578 section 2.3
	optionIPXE  = dhcpv4.GenericOptionCode(175) // iPXE's encapsulated options
	classIPXE   = "iPXE"
	maxFile     = 127 // bytes in the file field, less its end
	minimumSize = 548 // what every client takes: RFC 2131 section 2, less IP and UDP headers
)

// noPXEDHCP is option 175 with no-pxedhcp = 1: iPXE does not wait for ProxyDHCP.
var noPXEDHCP = []byte{0xb0, 0x01, 0x01}

// readAsker takes from a request what decides about booting.
func readAsker(m *dhcpv4.DHCPv4) boot.Asker {
	a := boot.Asker{
		VendorClass: m.ClassIdentifier(), MAC: m.ClientHWAddr,
		UUID: boot.UUIDFromOption(m.Options.Get(optionUUID)),
	}
	for i, arch := range m.ClientArch() {
		if i == 8 {
			break
		}
		a.Archs = append(a.Archs, boot.Arch(arch))
	}
	// iPXE sends its name bare, not as RFC 3004 wants it; both are understood.
	user := string(m.Options.Get(dhcpv4.OptionUserClassInformation))
	a.IPXE = user == classIPXE || user == "\x04"+classIPXE || m.Options.Has(optionIPXE)
	return a
}

// reply writes an OFFER or ACK. left is the lease time; 0 leaves it out (INFORM).
func (s *Server) reply(a asked, t dhcpv4.MessageType, l ipam.Lease, o boot.Offer, left time.Duration) *dhcpv4.DHCPv4 {
	r := s.bare(a, t)
	r.ClientIPAddr = a.m.ClientIPAddr
	sub := l.Subnet
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(sub.CIDR.Bits(), 32)))
	if left > 0 {
		r.YourIPAddr = l.Address.AsSlice()
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(left))
		r.UpdateOption(dhcpv4.OptRenewTimeValue(left / 2))
		r.UpdateOption(dhcpv4.OptRebindingTimeValue(left * 7 / 8))
	}
	r.UpdateOption(dhcpv4.OptBroadcastAddress(ipam.Broadcast(sub.CIDR).AsSlice()))
	if sub.Gateway.IsValid() {
		r.UpdateOption(dhcpv4.OptRouter(sub.Gateway.AsSlice()))
	}
	if len(sub.DNS) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(ips(sub.DNS)...))
	}
	if len(sub.NTP) > 0 {
		r.UpdateOption(dhcpv4.OptNTPServers(ips(sub.NTP)...))
	}
	if sub.Domain != "" {
		r.UpdateOption(dhcpv4.OptDomainName(sub.Domain))
	}
	if l.Hostname != "" {
		r.UpdateOption(dhcpv4.OptHostName(l.Hostname))
	}
	s.addBoot(r, o)
	trim(r, maxSize(a.m))
	return r
}

// addBoot says what to boot in every place that some firmware looks at.
func (s *Server) addBoot(r *dhcpv4.DHCPv4, o boot.Offer) {
	if o.VendorClass != "" {
		r.UpdateOption(dhcpv4.OptClassIdentifier(o.VendorClass))
	}
	if o.IPXE {
		r.UpdateOption(dhcpv4.OptGeneric(optionIPXE, noPXEDHCP))
	}
	if o.File == "" {
		return
	}
	r.UpdateOption(dhcpv4.OptBootFileName(o.File))
	if len(o.File) <= maxFile {
		r.BootFileName = o.File
	}
	if o.TFTP {
		r.ServerIPAddr = s.c.Address.Addr().AsSlice()
		r.UpdateOption(dhcpv4.OptTFTPServerName(s.c.Address.Addr().String()))
	}
}

func (s *Server) nak(a asked) *dhcpv4.DHCPv4 {
	r := s.bare(a, dhcpv4.MessageTypeNak)
	r.UpdateOption(dhcpv4.OptMessage(ipam.ErrTaken.Error()))
	if !unset(a.m.GatewayIPAddr) {
		// RFC 2131 section 4.3.2: the relay must broadcast it, for the client's
		// idea of its address may be wrong.
		r.SetBroadcast()
	}
	return r
}

// bare is an answer without any configuration. What the server must give back
// as it came: transaction, hardware address, relay, client-id (RFC 6842) and the
// relay's own option (RFC 3046 section 2.2).
func (s *Server) bare(a asked, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: a.m.HWType, TransactionID: a.m.TransactionID, Flags: a.m.Flags,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero,
		GatewayIPAddr: a.m.GatewayIPAddr, ClientHWAddr: a.m.ClientHWAddr, Options: dhcpv4.Options{},
	}
	r.UpdateOption(dhcpv4.OptMessageType(t))
	r.UpdateOption(dhcpv4.OptServerIdentifier(s.c.Address.Addr().AsSlice()))
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation, optionUUID} {
		if v := a.m.Options.Get(code); v != nil && len(v) <= 255 {
			r.UpdateOption(dhcpv4.OptGeneric(code, v))
		}
	}
	return r
}

// maxSize is the largest answer that the client takes, in bytes of DHCP.
func maxSize(m *dhcpv4.DHCPv4) int {
	n, err := m.MaxMessageSize()
	if err != nil || int(n) < minimumSize+28 {
		return minimumSize
	}
	// An answer that needs fragments does not reach firmware.
	return min(int(n), 1500) - 28
}

// trim leaves out what a client can do without until the answer fits.
func trim(r *dhcpv4.DHCPv4, most int) {
	codes := []dhcpv4.OptionCode{dhcpv4.OptionNTPServers, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBroadcastAddress,
		dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionDomainNameServer}
	if r.BootFileName != "" {
		codes = append([]dhcpv4.OptionCode{dhcpv4.OptionBootfileName}, codes...)
	}
	for _, c := range codes {
		if len(r.ToBytes()) <= most {
			return
		}
		delete(r.Options, c.Code())
	}
}

func ips(list []netip.Addr) []net.IP {
	out := make([]net.IP, 0, len(list))
	for _, a := range list {
		if a.Is4() && len(out) < 8 {
			out = append(out, a.AsSlice())
		}
	}
	return out
}
