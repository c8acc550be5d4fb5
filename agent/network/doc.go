// Package network brings the agent's network up: links, one address by DHCP, and
// the neighbours that switches announce by LLDP.
//
// The NIC that fetched the boot script is asked first, since the controller is
// known to be behind it; the others join after a while, in case their names or
// roles changed. DHCP goes on for 90 seconds, because a switch port with spanning
// tree may be silent for 50. The client sends its hardware address as client-id
// (option 61), which is how firmware and installed system are known too, so the
// address stays the same.
//
// Whatever comes from the wire is hostile: it is bounded, and checked before it
// reaches a file or the kernel.
package network
