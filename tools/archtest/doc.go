// Package archtest tests the repository itself: which package may import which
// (arrows.go is the law), that every package says what it is, that no
// hand-written file grows past its limit, and that generated code is fresh.
package archtest
