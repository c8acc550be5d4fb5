// Package metadata is what an installed system is told at its first boot, and
// what it tells back: the cloud-init NoCloud seed (meta-data, user-data,
// vendor-data, network-config) and the first-boot report.
//
// The seed is rendered from plain data; the report is posted by a small script
// in vendor-data, over TLS with the controller's CA pinned, with a one-time
// token. Only that report is the machine's proof of life.
package metadata
