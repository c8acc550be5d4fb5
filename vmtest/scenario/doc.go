// Package scenario holds the end-to-end tests: the lab's machines go down their
// whole path with every part real, well and under faults. They need QEMU and a
// built boot payload, so they have the build tag vm; `make vmtest` runs them.
//
// All tests share one lab in one network namespace, which TestMain makes by
// starting the test binary again inside it. Each test has machines of its own.
// What happened is judged by what the BMC simulator, the disks and the consoles
// saw, never by what the controller believes.
package scenario
