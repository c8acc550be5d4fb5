// Package session is the agent's conversation with its controller: it trades
// the nonce of the boot for a certificate, keeps one gRPC stream open for as
// long as the agent lives, takes orders from it and reports results on it.
//
//	nonce + key ──Enrol──> certificate ──Connect──> stream
//	                          └─ Renew at half-life    ├─ orders  ──> job.Runner
//	     outbox (RAM) <── reports of jobs, log ────────┘
//	        └─ sent again after each reconnect until acknowledged
//
// # What survives what
//
// Everything that must outlive the process lies in one directory in RAM
// (/run/ingot): key and certificate, the orders of this boot with their
// results, and each report that is not yet acknowledged. So an agent that was
// restarted goes on as if nothing had happened; a reboot forgets it all, and
// the boot id tells the two apart.
//
// # Orders
//
// An order runs at most once to its end in a boot, and its one result is
// repeated when the order comes again. Orders are refused when they are for
// another boot, when their lease token is lower than one seen before (the
// sender has lost the machine to another controller), and when they expired.
// What follows a result (kexec, reboot, power off) waits for Proceed, for ever
// if need be: only then is the result known to be stored.
//
// # Trust
//
// The controller is believed when its certificate chains to the CA whose
// SHA-256 came with the kernel command line, and names the host that was
// dialled. Nothing else is trusted, no system roots.
package session
