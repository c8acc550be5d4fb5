// Package lan makes the network of the lab: a bridge with taps in a network
// namespace of our own, so that DHCP servers and virtual machines meet
// nobody else's network, and no root is needed where the kernel allows it.
//
//	ingot lab (host namespace)
//	   │  Command: a child in a new namespace, same user, three capabilities
//	   ▼
//	child: Up ── br0 10.99.0.1/24 ─┬─ tap of machine 1
//	   ▲                           ├─ tap of machine 2
//	   │ listening sockets of the  └─ addresses of BMCs
//	   │ host's loopback, passed in: Pass, Inherited, Forward
//
// A socket belongs to the namespace that made it. So a port on the host's
// loopback reaches into the lab by handing the listening socket to the child.
//
// Root gets only a new network namespace. Others get a user namespace too, in
// which they keep their own user id (PostgreSQL refuses to run as root, even
// as a pretended one).
package lan
