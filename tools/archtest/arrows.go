package archtest

// arrows lists what a package may import of ours. A row covers the package and
// those below it that have no row of their own; packages of one row may import
// each other. A name ending in /... allows the whole subtree. "*" allows all.
//
// domain is controller/{machine,ipam,inventory,image}.
var arrows = map[string][]string{
	"proto/hardware": {},
	"proto/fault":    {},
	"proto/agent":    {"proto/hardware"},
	"proto/operator": {"proto/hardware"},

	"imaging/manifest": {},
	"imaging/codec":    {},
	"imaging/gpt":      {},
	"imaging/fetch":    {"imaging/manifest"},
	"imaging/writer":   {"imaging/manifest", "imaging/codec", "imaging/fetch"},
	"imaging/qcow2":    {},
	"imaging/ext4":     {},
	"imaging/pack":     {"imaging/manifest", "imaging/codec", "imaging/gpt", "imaging/qcow2", "imaging/ext4"},
	"imaging/sign":     {"imaging/manifest"},
	"imaging/relay":    {"imaging/manifest", "imaging/fetch"},

	"initramfs/cmdline": {},
	"initramfs/kernel":  {},
	"initramfs/init":    {"initramfs/cmdline"},
	"initramfs/build":   {"initramfs/kernel", "initramfs/cmdline"},
	"initramfs":         {"initramfs/..."},

	"agent":           {"agent/...", "initramfs/cmdline", "proto/agent", "proto/hardware"},
	"agent/host":      {},
	"agent/session":   {"proto/agent", "proto/hardware", "proto/fault", "agent/job"},
	"agent/job":       {"proto/agent", "proto/hardware"},
	"agent/inventory": {"proto/hardware", "agent/host", "agent/bmc", "agent/disk", "agent/network", "agent/boot"},
	"agent/disk":      {"agent/host", "proto/hardware"},
	"agent/network":   {"agent/host", "proto/hardware"},
	"agent/hwtest":    {"proto/hardware", "agent/host", "agent/disk", "agent/network"},
	"agent/bmc":       {"agent/host", "proto/hardware"},
	"agent/deploy":    {"imaging/...", "proto/agent", "proto/hardware", "agent/host", "agent/disk", "agent/boot", "agent/job"},
	"agent/boot":      {"agent/host"},

	"controller/machine":   {},
	"controller/ipam":      {},
	"controller/inventory": {"controller/machine", "proto/fault"},
	"controller/image":     {"imaging/manifest", "imaging/fetch", "imaging/pack", "imaging/codec", "imaging/sign"},
	"controller/relay":     {"controller/machine"},
	"controller/power":     {"proto/fault"},
	"controller/lifecycle": {"controller/machine", "controller/ipam", "controller/inventory", "controller/image", "controller/power", "proto/fault"},
	"controller/boot":      {"controller/machine", "controller/ipam", "controller/image", "initramfs/cmdline"},
	"controller/metadata":  {"controller/machine", "controller/ipam"},
	"controller/event":     {"controller/machine"},
	"controller/auth":      {"proto/fault"},
	// The store also implements the small interfaces that boot, metadata and
	// power declare, and so names their types.
	"controller/store": {"controller/machine", "controller/ipam", "controller/inventory", "controller/image", "controller/boot", "controller/metadata", "controller/power", "controller/event", "proto/fault"},
	"controller/agentapi": {"proto/agent", "proto/hardware", "proto/fault", "controller/machine", "controller/ipam", "controller/inventory", "controller/image",
		"controller/lifecycle", "controller/store", "controller/auth", "controller/event", "controller/metadata", "controller/relay", "imaging/manifest"},
	"controller/api": {"proto/operator", "proto/hardware", "proto/fault", "controller/machine", "controller/ipam", "controller/inventory", "controller/image",
		"controller/lifecycle", "controller/store", "controller/event", "controller/auth", "controller/power", "controller/metadata", "imaging/manifest", "imaging/pack", "imaging/sign"},
	"controller/daemon": {"controller/...", "proto/...", "imaging/manifest"},
	"controller":        {"controller/daemon"},

	"tools":       {"*"},
	"vmtest":      {"*"},
	"tools/ingot": {"proto/...", "imaging/...", "vmtest/lab/..."},
}
